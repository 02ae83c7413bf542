"""Extraction by two models: what the original says more than the point is what was removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from raymcu.attacks._base import ATTACKS, Asking
from raymcu.methods._logits import wide

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_LEFT_OUT = 100.0
"""Nats below the likeliest token where one that is left out is put: never said, and log p is a
number."""


@ATTACKS.register(
    "guided", source="Wu et al. 2025, arXiv:2505.24379 (reversed model guidance), and its code"
)
class Guided(Asking):
    """Goes from the point's logits towards the original's, and beyond them.

    log p = log p_point + weight · (log p_original - log p_point), normalised: 0 is the point, 1
    the original, and beyond 1 what the original says more than the point is said louder still. It
    takes somebody who has both models, as of a published one and its successor. Done to the
    original it changes nothing but what ``within`` leaves out. Even a retrained model gives away
    what the original knows, so read it beside weight 1: what is above that is the attack's.
    """

    weight: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (2.0,)
    """Weights of the difference, each a point of its own; the authors' code takes 2."""
    within: Annotated[float, Field(gt=0)] | None = None
    """Says no token whose log p is further than so many nats below that of the original's
    likeliest; the authors' code takes 5. Its log p is then about -100, which is not to be read as a
    likelihood: this is for what is generated, extracted or hit. None leaves out none."""

    strength: ClassVar[str | None] = "weight"
    none: ClassVar[float | None] = 0.0
    beside: ClassVar[str | None] = "original"

    def joined(
        self, own: Float[Tensor, "*shape vocab"], other: Float[Tensor, "*shape vocab"]
    ) -> Float[Tensor, "*shape vocab"]:
        """Return the guided logits, in float32 at least; their softmax is the guided p.

        Args:
            own: Logits of the point.
            other: Logits of the original.
        """
        (weight,) = self.weight
        if weight == 0:
            return own
        point, original = wide(own), wide(other)
        guided = point + weight * (original - point)
        if self.within is None:
            return guided
        is_said = original > original.amax(-1, keepdim=True) - self.within
        top = guided.where(is_said, -float("inf")).amax(-1, keepdim=True)
        return guided.where(is_said, top - _LEFT_OUT)
