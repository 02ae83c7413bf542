"""What exists: run folders, checkpoints, and the schemas of their tables."""
