"""Barriers and smoothness of a curve of losses: is there a wall between two unlearners?

MCU eqs 2 to 4 with one orientation throughout: t = 0 is the first end, t = 1 the
second, and the chord is (1 - t) L(0) + t L(1). (The paper's bound has its ends swapped; with it,
barriers would not vanish at the ends.) Of any other metric the barrier is how much worse than its
chord it gets: of what should be high as of the forget loss, of what should be low as of the
retain loss, and of what has no better direction (PrivLeak, the AUC of an attack) how far off it.
"""

from dataclasses import dataclass

import numpy as np

from raymcu.metrics._base import Floats


@dataclass(frozen=True)
class Barrier:
    """How far a curve rises above what its ends promise, and where."""

    height: float
    """In the unit of the loss, >= 0; 0 = none."""
    t: float
    """The smallest t at which it is reached; 0 if there is no barrier."""


def retain_barrier(t: Floats, retain_loss: Floats) -> Barrier:
    """Return max over t of L_r(t) - chord_r(t): how much of what was to be kept is lost.

    Args:
        t: Positions in any order, 0 and 1 among them: (points,).
        retain_loss: Loss on the retain set at each, finite: (points,).

    Raises:
        ValueError: If t lacks an end or has a value twice.
    """
    return _largest(t, _above_chord(t, retain_loss))


def forget_barrier(t: Floats, forget_loss: Floats) -> Barrier:
    """Return max over t of chord_f(t) - L_f(t): how much of what was forgotten comes back.

    Arguments and errors as for ``retain_barrier``.
    """
    return _largest(t, -_above_chord(t, forget_loss))


def chord_barrier(t: Floats, values: Floats) -> Barrier:
    """Return max over t of |values - chord|: how far off its ends' promise a metric gets.

    For metrics without a better direction. Arguments and errors as for ``retain_barrier``.
    """
    return _largest(t, np.abs(_above_chord(t, values)))


def curvature(t: Floats, loss: Floats) -> float | None:
    """Return the largest |second difference| of neighbouring points, in the loss's unit.

    On equally spaced t this is max |L(t-h) - 2 L(t) + L(t+h)|. Where points are missing it is
    2 h^2 |L[t0, t1, t2]|, h the median gap and L[...] the divided difference of three neighbours:
    what the full grid would show if the curve were quadratic there.

    Returns:
        None for fewer than three points, which have no second difference.
    """
    t, loss = _ordered(t, loss)
    if len(t) < 3:
        return None
    gaps = np.diff(t)
    slopes = np.diff(loss) / gaps
    divided = np.diff(slopes) / (gaps[1:] + gaps[:-1])
    return float(2.0 * np.median(gaps) ** 2 * np.abs(divided).max())


def total_variation(t: Floats, loss: Floats) -> float:
    """Return the sum of |differences| of neighbouring points; |L(1) - L(0)| if monotone."""
    _, loss = _ordered(t, loss)
    return float(np.abs(np.diff(loss)).sum())


def _above_chord(t: Floats, loss: Floats) -> Floats:
    first, second = loss[t == 0.0], loss[t == 1.0]
    if len(first) != 1 or len(second) != 1:
        raise ValueError(f"a curve needs exactly one point at t = 0 and one at t = 1, got {t}")
    chord: Floats = (1.0 - t) * first[0] + t * second[0]
    return loss - chord


def _largest(t: Floats, heights: Floats) -> Barrier:
    t, heights = _ordered(t, heights)
    where = int(np.argmax(heights))
    return Barrier(float(heights[where]) + 0.0, float(t[where]))  # + 0.0: no negative zero


def _ordered(t: Floats, values: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(t)
    if (np.diff(t[order]) == 0.0).any():
        raise ValueError(f"a curve has one point per t, got {t}")
    return t[order], values[order]
