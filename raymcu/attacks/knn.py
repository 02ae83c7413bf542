"""Nearest neighbours: are a forgotten fact's true answers among the true answers of kept ones?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from raymcu.attacks._base import ATTACKS
from raymcu.attacks._facts import OfFacts

if TYPE_CHECKING:
    from raymcu.attacks._facts import Floats, Ints


@ATTACKS.register(
    "knn",
    source="Khandelwal et al. 2020 (arXiv:1911.00172), neighbours among states; the task is "
    "linear_probe's",
)
class NearestNeighbours(OfFacts):
    """How many true answers there are among the nearest of kept facts, by the angle of states.

    Angles are between states less the mean of the kept ones, features scaled to a deviation of 1.
    """

    neighbours: PositiveInt = 20
    """Nearest answers that are looked at; all, where there are fewer."""

    def judged(self, known: Floats, is_true: Ints, asked: Floats) -> Floats:
        """Return the share of true answers among the nearest: (asked,)."""
        one, other = (
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (known, asked)
        )
        nearest = np.argsort(-(other @ one.T), axis=1, kind="stable")[:, : self.neighbours]
        return np.asarray(is_true[nearest].mean(1), dtype=np.float64)
