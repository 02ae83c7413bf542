"""Calibrated and tokenized negative preference alignment (CATNIP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, Method, Step
from raymcu.methods._logits import nll

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@METHODS.register("catnip", source="Yang et al. 2026, arXiv:2602.02824; our reading, see there")
class CATNIP(Method):
    """NPO of each token, with the model's own 1 - p for a reference.

    L = -(2/beta) · mean over tokens of logsigmoid(-beta · log(p / (1 - p))), at least 0. A token is
    pushed down by 2 p^beta / (p^beta + (1-p)^beta), which is 2p at beta 1: in proportion to the
    model's confidence. Neither a start model nor retain data are needed.

    Our reading of the abstract and of its public reviews ("reverse policy 1 - pi as an adaptive
    reference", "token-wise average"); the paper's text was not available. Not known: whether the
    reference carries a gradient, the average over tokens, and beta.
    """

    beta: PositiveFloat = 1.0
    """Inverse temperature; ours."""
    reference: Literal["detached", "attached"] = "detached"
    """Whether 1 - p is a constant in the gradient. ``attached`` divides a token's push by 1 - p,
    and is unlikelihood training, -2 log(1 - p), at beta 1."""
    average: Literal["tokens", "sequences"] = "tokens"
    """Mean over all answer tokens, or the mean over sequences of each one's mean."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean in nats / beta; lower means less likely tokens."""
        forget = step[FORGET]
        odds = forget.read(self._odds, forget.labels)
        values = -2 / self.beta * torch.nn.functional.logsigmoid(self.beta * odds)
        if self.average == "tokens":
            return forget.token_mean(values)
        return forget.sequence_mean(forget.sequence_sum(values) / forget.lengths)

    def _odds(
        self, logits: Float[Tensor, "positions classes"], labels: Int[Tensor, " positions"]
    ) -> Float[Tensor, " positions"]:
        """Return log((1 - p) / p) of the labels."""
        # log(1 - p) from the other classes' logits: from p it would be -inf where p rounds to 1
        others = logits.scatter(-1, labels[:, None], -torch.inf).logsumexp(-1)
        reverse = others - logits.logsumexp(-1)
        if self.reference == "detached":
            reverse = reverse.detach()
        return nll(logits, labels) + reverse
