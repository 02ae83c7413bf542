"""Unlearning methods, one per file: pure functions of flattened labelled positions.

What a component of your own is made of is imported from here.
"""

from raymcu.methods._base import (
    FORGET,
    METHODS,
    REFUSED,
    RETAIN,
    Labelled,
    Method,
    Needs,
    Part,
    Step,
)

__all__ = [
    "FORGET",
    "METHODS",
    "REFUSED",
    "RETAIN",
    "Labelled",
    "Method",
    "Needs",
    "Part",
    "Step",
]
