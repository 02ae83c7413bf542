"""Model mixing: from the original to an unlearner, and no further."""

from collections.abc import Sequence

from pydantic import field_validator

from raymcu.blend import Blend
from raymcu.curves._base import WALKS, Positions, Walk


@WALKS.register("mixing", source="UWC, Wang et al. 2024; evaluation tutorial, calibration")
class Mixing(Walk):
    """(1-alpha)·original + alpha·unlearner: 0 is the original, 1 the unlearner.

    UWC's code calls 1 - alpha the update ratio.
    """

    at: Positions = tuple(step / 20 for step in range(21))
    """Values of alpha, in [0, 1]."""

    @field_validator("at")
    @classmethod
    def _lies_between(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        if beyond := [alpha for alpha in at if not 0 <= alpha <= 1]:
            raise ValueError(
                f"mixes in [0, 1], got {beyond[0]:g}. To go further use the walk 'extrapolation'"
            )
        return at

    def positions(self, num_layers: int) -> tuple[float, ...]:
        """Return the values of alpha in order."""
        del num_layers
        return tuple(sorted(self.at))

    def blend(self, t: float, original: str, trained: Blend, layers: Sequence[str]) -> Blend:
        """Return (1-t)·original + t·trained."""
        del layers
        return Blend.mixed([(1 - t, Blend.of({original: 1.0})), (t, trained)])
