"""What a curve family is: a function from t to the coefficients of a blend; and what a walk is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from raymcu.blend import Blend
from raymcu.registry import Component, Registry
from raymcu.study.table_kinds import unique

CURVES: Registry[type["CurveFamily"]] = Registry(
    "curve family", __package__ or "raymcu.curves", "CurveFamily", ["num_bends"]
)
WALKS: Registry[type["Walk"]] = Registry("walk", __package__ or "raymcu.curves", "Walk")


class CurveFamily(Component, ABC):
    """A curve through control points (first, *bends, second), phi(0) = first, phi(1) = second.

    The coefficients of every t sum to 1, and are exactly 0 or 1 at both ends.
    """

    if TYPE_CHECKING:  # as an attribute it would hide the field of a family with such an option

        @property
        def num_bends(self) -> int:
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


Positions = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(unique)]


class Walk(Component, ABC):
    """A walk that begins at the original and goes through, or away from, one trained model."""

    trained: ClassVar[Literal["unlearner", "memorizer"]] = "unlearner"
    """Which model: the unlearner, or what a method trains to step away from."""
    is_continuous: ClassVar[bool] = True
    """Whether there is something at every t between two positions."""

    @abstractmethod
    def positions(self, num_layers: int) -> tuple[float, ...]:
        """Return where it is measured, given how many decoder layers the model has."""

    @abstractmethod
    def blend(self, t: float, original: str, trained: Blend, layers: Sequence[str]) -> Blend:
        """Return the blend at a position.

        Args:
            t: One of ``positions``, or another where the walk is continuous.
            original: Id of the original's checkpoint.
            trained: The model it goes through.
            layers: Beginnings of the weight names of each decoder layer.

        Raises:
            ValueError: If there is nothing at t.
        """

    def label(self, t: float, num_layers: int) -> str:
        """Name a position for people."""
        del num_layers
        return f"alpha={t:.4g}"
