"""How a study gets onto a cluster: what it needs there, files that start it, checks before it."""
