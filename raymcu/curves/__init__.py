"""Blends of checkpoints and the curves that produce them, one family per file.

What a component of your own is made of is imported from here.
"""

from raymcu.curves._base import (
    CURVES,
    WALKS,
    CurveFamily,
    Positions,
    Walk,
)

__all__ = [
    "CURVES",
    "WALKS",
    "CurveFamily",
    "Positions",
    "Walk",
]
