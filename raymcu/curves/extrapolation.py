"""Model extrapolation: away from a memorizer, beyond the original."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from raymcu.blend import Blend
from raymcu.curves._base import WALKS, Positions, Walk


@WALKS.register("extrapolation", source="Huang et al., MOX, eq. 8; Ilharco et al. 2022, sec. 3")
class Extrapolation(Walk):
    """(1+alpha)·original - alpha·memorizer: 0 is the original, -1 the memorizer.

    With a task vector's reinforced model as the memorizer this is its negation.
    """

    trained: ClassVar[Literal["unlearner", "memorizer"]] = "memorizer"

    at: Positions = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Values of alpha; MOX's grid with the original. Any number, negative ones interpolate."""

    def positions(self, num_layers: int) -> tuple[float, ...]:
        """Return the values of alpha in order."""
        del num_layers
        return tuple(sorted(self.at))

    def blend(self, t: float, original: str, trained: Blend, layers: Sequence[str]) -> Blend:
        """Return (1+t)·original - t·trained."""
        del layers
        return Blend.mixed([(1 + t, Blend.of({original: 1.0})), (-t, trained)])
