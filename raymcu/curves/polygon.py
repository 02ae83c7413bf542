"""Polygonal chains through any number of trained bends."""

from pydantic import PositiveInt

from raymcu.curves._base import CURVES, CurveFamily


@CURVES.register("polygon", source="Garipov et al. 2018, arXiv:1802.10026, sec. 3.2")
class Polygon(CurveFamily):
    """phi(t) = sum over control points P_i of max(0, 1 - |t(n-1) - i|) · P_i.

    The n control points are both ends and the bends between them, found by one training; each
    piece of the chain takes an equal share of t.
    """

    num_bends: PositiveInt = 1
    """Trained control points between the two ends."""

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return the weights of the two control points that t lies between, 0 for all others."""
        place = self.check(t) * (self.num_bends + 1)
        return tuple(max(0.0, 1 - abs(place - i)) for i in range(self.num_bends + 2))
