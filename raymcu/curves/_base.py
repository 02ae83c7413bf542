"""What a curve family is: a function from t to the coefficients of a blend."""

from abc import ABC, abstractmethod
from typing import ClassVar

from raymcu.registry import Component, Registry

CURVES: Registry[type["CurveFamily"]] = Registry("curve family", __package__ or "raymcu.curves")


class CurveFamily(Component, ABC):
    """A curve through control points (first, *bends, second), phi(0) = first, phi(1) = second.

    The coefficients of every t sum to 1, and are exactly 0 or 1 at both ends.
    """

    num_bends: ClassVar[int]
    """Trained control points between the two ends."""

    @abstractmethod
    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return the coefficient of each control point at t in [0, 1].

        Raises:
            ValueError: If t lies outside.
        """

    @staticmethod
    def check(t: float) -> float:
        """Return t if it lies on the curve.

        Raises:
            ValueError: If it does not.
        """
        if not 0 <= t <= 1:
            raise ValueError(f"t must lie in [0, 1], got {t}")
        return t
