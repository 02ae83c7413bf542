"""How long a curve is, from inner products of its control points alone.

It is a combination of them with coefficients that sum to 1, whatever space they lie in.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Coefficients = Callable[[float], Sequence[float]]

_STEPS, _COARSE_STEPS = 1200, 240
"""Straight pieces of which a length is added up; kinks at 1/2, 1/3 … 1/6 are between two."""


def lengths(coefficients: Coefficients, products: Reals, at: Sequence[float]) -> Reals:
    """Return how long a curve is from its first end to positions.

    Args:
        coefficients: Of each control point at t; they sum to 1.
        products: Inner products of what leads from the first control point to each, (n, n).
        at: Positions in [0, 1].

    Returns:
        (positions,), in the units of the weights.
    """
    found: Reals = np.interp(at, *_passed(coefficients, products, _STEPS))
    return found


def position_at(coefficients: Coefficients, products: Reals, share: float) -> float:
    """Return where a curve has passed a share of its length; the share, if it has no length.

    That is the inverse of the distribution whose density is the speed, on a grid of speeds.

    Args:
        coefficients: As in `lengths`.
        products: As in `lengths`.
        share: In [0, 1].
    """
    grid, passed = _passed(coefficients, products, _COARSE_STEPS)
    if not (passed[-1] > 0 and np.isfinite(passed[-1])):
        return share
    return float(np.interp(share * passed[-1], passed, grid))


def _passed(coefficients: Coefficients, products: Reals, steps: int) -> tuple[Reals, Reals]:
    """Return positions, and how long the curve is up to each of them."""
    grid = np.linspace(0, 1, steps + 1)
    moves = np.diff([coefficients(float(t)) for t in grid], axis=0)
    squared = np.einsum("ti,ij,tj->t", moves, products, moves)
    return grid, np.concatenate([[0.0], np.cumsum(np.sqrt(squared.clip(0)))])


def bend_distance(products: Reals) -> float | None:
    """Return how far the farthest bend is from the line through the ends; None without a bend.

    Args:
        products: As in `lengths`, of first end, bends, second end.
    """
    chord, squares = products[-1, -1], np.diag(products)[1:-1]
    along = products[1:-1, -1] ** 2 / chord if chord > 0 else np.zeros_like(squares)
    return float(np.sqrt((squares - along).clip(0).max())) if len(squares) else None
