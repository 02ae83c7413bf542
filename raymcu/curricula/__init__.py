"""Curricula, one per file: how much a sequence counts in a training, or when it comes.

What a component of your own is made of is imported from here.
"""

from raymcu.curricula._base import (
    CURRICULA,
    Curriculum,
    Ordering,
    Weighing,
)

__all__ = [
    "CURRICULA",
    "Curriculum",
    "Ordering",
    "Weighing",
]
