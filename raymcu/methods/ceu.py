"""Cross-entropy unlearning (CE-U): the model's own answer with the label struck out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, Method, Published, Step

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@METHODS.register(
    "ceu", source="Yang 2025, arXiv:2503.01224; ignore_first: its footnote on training"
)
class CEU(Method):
    """Learn the model's own distribution without the label: L = token mean of H(sg[q], softmax(z)).

    q = softmax(z with z_y = -inf). The gradient in z_y is p_y, in z_j it is -p_j p_y / (1 - p_y):
    bounded, and gone as p_y -> 0.
    """

    openunlearning = Published({})

    ignore_first: NonNegativeInt = 1
    """Answer tokens left out at the start of each sequence; 0 for a classifier. The mean is right
    if no sequence has fewer."""

    def unfit(self, modality: str) -> str | None:
        """Say that a class would be left out, if it would be."""
        if modality != "causal_lm" and self.ignore_first:
            return "a classifier's answer is one class, which it leaves out. Set ignore_first = 0"
        return super().unfit(modality)

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return -log(1 - p_y) + the entropy of q, in nats per token; lower means forgotten.

        Raises:
            ValueError: If nothing is left of the batch.
        """
        forget = step[FORGET]
        left = forget.total_positions - self.ignore_first * forget.total_sequences
        if left <= 0:
            raise ValueError(
                f"ignore_first = {self.ignore_first} leaves out all {forget.total_positions} "
                f"answer tokens of {forget.total_sequences} sequences. Lower it; "
                "answers of one token need 0."
            )
        loss = forget.read(_struck_out, forget.labels)
        start = forget.lengths.cumsum(0) - forget.lengths
        place = torch.arange(len(loss), device=loss.device) - start[forget.sequence]
        kept = loss.where(place >= self.ignore_first, 0)
        return forget.token_mean(kept) * (forget.total_positions / left)


def _struck_out(
    logits: Float[Tensor, "positions classes"], labels: Int[Tensor, " positions"]
) -> Float[Tensor, " positions"]:
    target = logits.detach().scatter(1, labels[:, None], -math.inf).softmax(-1)
    return -(target * logits.log_softmax(-1)).sum(-1)
