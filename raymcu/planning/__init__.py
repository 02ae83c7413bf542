"""What must exist: recipes, curves and points, what they cost, and what of them is done."""
