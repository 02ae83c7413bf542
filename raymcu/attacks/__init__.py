"""Attacks, one per file: what is done to a point to see what it still knows.

What a component of your own is made of is imported from here.
"""

from raymcu.attacks._base import ATTACKS, Asking, Inside, Reading, Treatment, with_questions

__all__ = [
    "ATTACKS",
    "Asking",
    "Inside",
    "Reading",
    "Treatment",
    "with_questions",
]
