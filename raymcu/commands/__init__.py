"""Commands of the command line that are not in `raymcu.cli` itself, and what all share."""
