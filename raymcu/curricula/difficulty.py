"""Rows in the order of a difficulty, and more of them as the training goes on."""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from raymcu.curricula._base import CURRICULA, Ordering


@CURRICULA.register("difficulty", source="Bengio et al. 2009; Hacohen & Weinshall 2019")
class Difficulty(Ordering):
    """Show rows in the order of their difficulty; at first, if wanted, only the first of them.

    MCU describes its curriculum as an order, though its code weights losses: see ``superloss``.
    """

    direction: Literal["ascending", "descending"] = "ascending"
    """``ascending`` shows the easiest first."""
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the ordered rows that the training begins with."""
    reach: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Fraction of the training after which all rows are available; until then linearly more."""

    def order(self, difficulty: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """Return the row numbers in order; rows of the same difficulty keep theirs."""
        signed = np.asarray(difficulty, dtype=np.float64)
        return np.argsort(signed if self.direction == "ascending" else -signed, kind="stable")

    def available(self, progress: float, count: int) -> int:
        """Return how many of ``count`` ordered rows may be shown.

        Args:
            progress: Fraction of the training that is done.
            count: Rows of the set.
        """
        if progress >= self.reach:
            return count
        fraction = self.start + (1 - self.start) * progress / self.reach
        return min(count, max(1, round(fraction * count)))

    def epoch(
        self,
        ordered: Int[np.ndarray, " rows"],
        progress: float,
        length: int,
        random: np.random.Generator,
    ) -> Int[np.ndarray, " length"]:
        """Return the rows of an epoch: whole passes over the available ones, each in order.

        Args:
            ordered: Row numbers as `order` returned them.
            progress: Fraction of the training done when the epoch begins.
            length: Rows of the epoch.
            random: Draws which rows the last pass holds, if there is no room for all of them.
        """
        pool = ordered[: self.available(progress, len(ordered))]
        passes, rest = divmod(length, len(pool))
        rows = np.tile(pool, passes)
        if not rest:
            return rows
        last = np.sort(random.choice(len(pool), rest, replace=False))
        return np.concatenate([rows, pool[last]])
