"""Curricula, one per file: how much a sequence counts in a training, or when it comes."""
