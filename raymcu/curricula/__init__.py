"""Curricula, one per file: how much a sequence counts in a training, or when it comes.

What a component of your own is made of is imported from here.
"""

from raymcu.curricula._base import (
    CURRICULA,
    Ordering,
    Weighing,
)

__all__ = [
    "CURRICULA",
    "Ordering",
    "Weighing",
]
