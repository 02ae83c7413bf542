"""Metrics, one family per file: measurements in, scores out."""
