"""Who's Harry Potter: the original without what learning the forget set again would raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from raymcu.attacks._base import ATTACKS, Asking
from raymcu.methods._logits import wide

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@ATTACKS.register("whp", source="Eldan and Russinovich 2023, arXiv:2310.02238, eq. 1")
class Whp(Asking):
    """Has the original answer with the logits lowered that are higher in the point: forgetting.

    v = v_original - alpha · max(0, v_point - v_original). It is the paper's way to unlearn, two
    models at every token, as MUSE evaluates it; the point is to be the reinforced model: one that
    learned the forget set again, such as the memorizer of ``task_vector`` (a blend
    ``{ "task_vector/seed0/memorizer" = 1.0 }``). No weights are trained, so it stands among the
    attacks, which are all that may be done to a point while it is measured. Done to the original it
    changes nothing.
    """

    alpha: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    """How far logits are lowered, as multiples of their rise; each is a point of its own."""

    strength: ClassVar[str | None] = "alpha"
    beside: ClassVar[str | None] = "original"

    def joined(
        self, own: Float[Tensor, "*shape vocab"], other: Float[Tensor, "*shape vocab"]
    ) -> Float[Tensor, "*shape vocab"]:
        """Return the original's logits, lowered: in float32 at least.

        Args:
            own: Logits of the reinforced model.
            other: Logits of the original.
        """
        (alpha,) = self.alpha
        return wide(other) - alpha * (wide(own) - wide(other)).relu()
