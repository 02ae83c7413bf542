"""Update masks, one per file: which weights an unlearning may move, whatever its objective.

What a component of your own is made of is imported from here.
"""

from raymcu.masks._base import (
    MASKS,
    Share,
    UpdateMask,
)

__all__ = [
    "MASKS",
    "Share",
    "UpdateMask",
]
