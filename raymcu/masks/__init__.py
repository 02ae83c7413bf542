"""Update masks, one per file: which weights an unlearning may move, whatever its objective."""
