"""Bézier curves through any number of trained bends."""

from math import comb

from pydantic import PositiveInt

from raymcu.curves._base import CURVES, CurveFamily


@CURVES.register("bezier", source="Garipov et al. 2018, arXiv:1802.10026, sec. 3.2")
class Bezier(CurveFamily):
    """phi(t) = sum over control points P_i of C(n-1, i) t^i (1-t)^(n-1-i) · P_i.

    The n control points are both ends and the bends between them, found by one training. With one
    bend this is ``quadratic``.
    """

    num_bends: PositiveInt = 2
    """Trained control points between the two ends."""

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return Bernstein's polynomials of degree ``num_bends`` + 1 at t."""
        t = self.check(t)
        degree = self.num_bends + 1
        return tuple(comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1))
