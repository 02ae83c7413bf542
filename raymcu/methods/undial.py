"""UNDIAL: self-distillation from the start model with the label's logit lowered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Published, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float, Int
    from torch import Tensor


@METHODS.register("undial", source="Dong et al. 2024, arXiv:2402.10052")
class Undial(Method):
    """Learn what the start model says once the label's logit is lowered by ``strength``.

    L = token mean of the cross-entropy H(softmax(z_start - strength · onehot(y)), softmax(z)):
    bounded below by the target's entropy. Answer tokens only, unlike OpenUnlearning, which also
    distils prompt and padding. Distillation of the start model for a strength of 0.
    """

    openunlearning = Published({}, "there prompt and padding are distilled too")

    strength: NonNegativeFloat = 10.0
    """In logits; 10 in OpenUnlearning, 5 in the authors' code."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the start model's logits."""
        return {FORGET: Needs(reference_logits=True)}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the cross-entropy, in nats per token; lower means nearer to the target."""
        forget = step[FORGET]
        given = forget.labels, forget.given("reference")
        return forget.token_mean(forget.read(self._distilled, *given))

    def _distilled(
        self,
        logits: Float[Tensor, "positions classes"],
        labels: Int[Tensor, " positions"],
        start: Float[Tensor, "positions classes"],
    ) -> Float[Tensor, " positions"]:
        lowered = start.gather(1, labels[:, None]) - self.strength
        target = start.scatter(1, labels[:, None], lowered).softmax(-1)
        return -(target * logits.log_softmax(-1)).sum(-1)
