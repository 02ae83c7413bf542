"""Distribution preference optimization (DiPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat, PositiveInt

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("dipo", source="Qin et al. 2025, arXiv:2510.04773; our reading, see there")
class DiPO(Method):
    """DPO between two next-token distributions at each forget position, not two answers.

    w has the model's k highest logits lowered by ``shift``, l has them raised by it. A distribution
    q earns KL(q || start) - KL(q || current), summed over the answer (w preferred to l), so
    L = -(2/beta) · mean over sequences of logsigmoid(beta · sum of (w - l) · log(pi / pi_start)).
    At the start model L = (2/beta) ln 2 and its gradient by a position's logits is l - w.

    Our reading of the abstract and of public summaries ("selectively amplifying or suppressing the
    model's high-confidence output logits", Bradley-Terry with sequence KL divergences); the
    paper's text was not available. Not known: how the high-confidence logits are chosen and
    changed, of which model they are, the factor 2/beta, and all defaults.
    """

    beta: PositiveFloat = 0.1
    """Inverse temperature; NPO's."""
    k: PositiveInt = 10
    """How many logits count as high-confidence; ours."""
    shift: PositiveFloat = 1.0
    """By how much they are lowered and raised; ours."""
    pairs_from: Literal["start", "current"] = "start"
    """Whose logits make the pairs: the start model's, fixed, or the current ones (without a
    gradient)."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the start model's logits."""
        return {FORGET: Needs(reference_logits=True)}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean over sequences, in nats / beta."""
        forget = step[FORGET]
        margin = forget.sequence_sum(forget.read(self._preferred, forget.given("reference")))
        return forget.sequence_mean(
            -2 / self.beta * torch.nn.functional.logsigmoid(self.beta * margin)
        )

    def _preferred(
        self, logits: Float[Tensor, "positions classes"], start: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        made = start if self.pairs_from == "start" else logits.detach()
        top = made.topk(min(self.k, made.shape[-1])).indices
        shift = torch.zeros_like(made).scatter(-1, top, self.shift)
        preference = (made - shift).softmax(-1) - (made + shift).softmax(-1)
        risen = logits.log_softmax(-1) - start.log_softmax(-1)
        return (preference * risen).sum(-1)
