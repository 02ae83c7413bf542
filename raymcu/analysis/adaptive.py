"""Where a curve has to be measured next, so that few points tell its verdict and its barriers.

A curve begins with five equal points. What lies between two neighbours is guessed from the
parabolas through them and the next on either side; the place where these, or their disagreement,
leave the verdict or a barrier's height open by more than a tolerance is measured next.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from raymcu.planning.plan import Plan

Reals = npt.NDArray[np.float64]

_DOUBT = 2.0
"""How much higher than the higher of two parabolas a curve may be, in their difference."""
_OPEN = 0.5
"""What may be there and be left alone, in the tolerance."""

PIECES = 60
"""All places are multiples of 1/60, those of 61 equal points."""
MOST = 8
DOUBT = 0.0
OPEN = 1.0
"""Points of a curve at most: half of MCU's 16."""


def next_places(
    plan: Plan, losses: Mapping[str, Mapping[str, float]], tolerance: float
) -> dict[str, float]:
    """Return by curve the position where it is measured next, of those that are not settled.

    Args:
        plan: The curves, and where they are measured so far.
        losses: ``retain_loss`` and ``forget_loss`` by point id; a point that failed has none.
        tolerance: Largest barrier that still counts as none.
    """
    found = {}
    for curve in plan.curves.values():
        here = {
            round(t * PIECES): (losses[point]["retain_loss"], losses[point]["forget_loss"])
            for t, point in curve.walk
            if len(losses.get(point, {})) == 2
        }
        place = next_place(here, tolerance) if len(here) == len(curve.walk) else None
        if place is not None:
            found[curve.id] = place / PIECES
    return found


def extremes(plan: Plan, losses: Mapping[str, Mapping[str, float]]) -> dict[str, set[float]]:
    """Return by curve where either loss is farthest from its chord, above it or below.

    Arguments as for `next_places`. Of a curve that lacks a loss anywhere there is nothing.
    """
    found: dict[str, set[float]] = {}
    for curve in plan.curves.values():
        told = [losses.get(point, {}) for _, point in curve.walk]
        if len(told) < 3 or any(len(one) < 2 for one in told):
            continue
        t = np.array([t for t, _ in curve.walk])
        for metric in ("retain_loss", "forget_loss"):
            values = np.array([one[metric] for one in told])
            apart = np.abs(values - (1 - t) * values[0] - t * values[-1])
            found.setdefault(curve.id, set()).add(float(t[1 + apart[1:-1].argmax()]))
    return found


def next_place(losses: Mapping[int, tuple[float, float]], tolerance: float) -> int | None:
    """Return where to measure a curve next; None if its verdict and barriers are settled.

    Args:
        losses: Retain and forget loss by place, in 60ths, both ends among them.
        tolerance: Largest barrier that still counts as none, and how exactly one is wanted.
    """
    places = sorted(losses)
    if len(places) >= MOST or not losses.keys() >= {0, PIECES}:
        return None
    found = [
        _open(places, _heights(places, [losses[k][side] for k in places], sign), tolerance)
        for side, sign in ((0, 1.0), (1, -1.0))
    ]
    # Once a curve is broken only the height of a barrier is open, which counts from what was seen.
    is_broken = any(height > tolerance for height, _, _ in found)
    excess, where = max(
        (guess - (height if is_broken else 0.0), place) for height, guess, place in found
    )
    return where if excess > _OPEN * tolerance else None


def _heights(places: Sequence[int], losses: Sequence[float], sign: float) -> Reals:
    """Return how far losses are above their chord, or with sign -1 below it: (places,)."""
    t = np.array(places) / PIECES
    values = np.array(losses)
    found: Reals = sign * (values - (1 - t) * values[0] - t * values[-1])
    return found


def _open(places: Sequence[int], heights: Reals, tolerance: float) -> tuple[float, float, int]:
    """Return the barrier as measured, how high it may be elsewhere, and where that is."""
    best, where = 0.0, places[0]
    at = np.array(places, dtype=float)
    for number in range(len(places) - 1):
        inside = np.arange(places[number] + 1.0, places[number + 1])
        threes = [k for k in (number - 1, number) if k >= 0 and k + 2 < len(places)]
        if not len(inside) or not threes:
            continue
        guesses = np.array([_parabola(at[k : k + 3], heights[k : k + 3], inside) for k in threes])
        upper = guesses.max(0) + _DOUBT * np.ptp(guesses, axis=0)
        if upper.max() > best:
            best, where = float(upper.max()), int(inside[upper.argmax()])
    return float(heights.max()), best, where


def _parabola(at: Reals, values: Reals, places: Reals) -> Reals:
    """Return at some places the parabola through three points."""
    found = np.zeros(len(places))
    for k in range(3):
        others = [at[j] for j in range(3) if j != k]
        found += values[k] * np.prod([(places - o) / (at[k] - o) for o in others], axis=0)
    return found
