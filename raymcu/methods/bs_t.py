"""Bootstrapping by tokens (BS-T): ascent on the label and on what the model believes instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from raymcu.methods._base import FORGET, METHODS, Labelled, Method, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("bs_t", source="Li et al. 2025, arXiv:2510.19422, L_BST")
class BST(Method):
    """Ascend on a soft target: L = mean over sequences of the SUM of <t, log p> over an answer.

    t = (1 - lam) · onehot(y) + lam · sg[p] on the ``k`` likeliest tokens. Gradient ascent on
    sequence sums for lam 0; that times 1 - lam if k is the vocabulary. Unbounded below.
    """

    lam: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the model's beliefs; no code is public, so this and ``k`` are ours."""
    k: PositiveInt = 10
    """Beliefs per token; all where the vocabulary is smaller."""
    renormalize: bool = False
    """Make the ``k`` probabilities add up to 1; as printed they do not."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the soft loglikelihood, in nats per sequence."""
        return bootstrap_term(step[FORGET], self.lam, self.k, self.renormalize)


def bootstrap_term(part: Labelled, lam: float, k: int, renormalize: bool) -> Float[Tensor, ""]:
    """Return this piece's part of L_BST on a part; lower means less likely."""

    def soft(logits: Tensor, labels: Tensor) -> Tensor:
        log_probs = logits.log_softmax(-1)
        top, tokens = log_probs.detach().topk(min(k, logits.shape[1]))
        beliefs = top.softmax(-1) if renormalize else top.exp()
        believed = (beliefs * log_probs.gather(1, tokens)).sum(-1)
        labelled = log_probs.gather(1, labels[:, None]).squeeze(1)
        return (1 - lam) * labelled + lam * believed

    return part.sequence_mean(part.sequence_sum(part.read(soft, part.labels)))
