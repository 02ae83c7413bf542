"""The straight line between two checkpoints."""

from raymcu.curves._base import CURVES, CurveFamily


@CURVES.register("linear", source="MCU sec. 2; Frankle et al. 2020, arXiv:1912.05671")
class Linear(CurveFamily):
    """phi(t) = (1-t)·first + t·second. Nothing is trained.

    MCU prints t·first + (1-t)·second, against its own phi(0) = first; the orientation here is
    the one of its definition and of its quadratic curve.
    """

    @property
    def num_bends(self) -> int:
        """None."""
        return 0

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return (1-t, t)."""
        t = self.check(t)
        return (1 - t, t)
