"""What is asked: a search-space file becomes typed values."""
