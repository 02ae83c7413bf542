"""Blends of checkpoints and the curves that produce them, one family per file."""
