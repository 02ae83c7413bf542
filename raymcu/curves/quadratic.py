"""The quadratic Bézier curve through one trained bend."""

from raymcu.curves._base import CURVES, CurveFamily


@CURVES.register("quadratic", source="MCU sec. 2; Garipov et al. 2018, arXiv:1802.10026")
class Quadratic(CurveFamily):
    """phi(t) = (1-t)²·first + 2t(1-t)·bend + t²·second, the bend found by training."""

    @property
    def num_bends(self) -> int:
        """One."""
        return 1

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return ((1-t)², 2t(1-t), t²)."""
        t = self.check(t)
        return ((1 - t) ** 2, 2 * t * (1 - t), t**2)
