"""Unlearning methods, one per file: pure functions of flattened labelled positions."""
