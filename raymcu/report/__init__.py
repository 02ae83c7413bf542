"""Findings in, figures and one HTML page out. Draws, computes nothing."""
