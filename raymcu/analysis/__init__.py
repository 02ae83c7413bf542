"""Scores in, findings out: barriers, smoothness, verdicts. Pure functions of Arrow tables."""
