"""Refusals on forget questions, answer preservation on retain questions (IDK+AP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import METHODS, REFUSED, RETAIN, Labelled, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from jaxtyping import Float
    from torch import Tensor


RETAIN_REFUSED = Part("retain", "refusal")


@METHODS.register("idk_ap", source="IDK+AP in Yuan et al. 2024, arXiv:2410.08109")
class IDKAP(Method):
    """Refuse the forget questions, and prefer answers to refusals on the retain questions.

    Forget term: mean NLL over all refusal tokens. Retain term (AP): -(1/beta) · mean over retain
    questions of logsigmoid(beta · (NLL of a refusal - NLL of the answer)), without a start model.
    """

    retain: Literal["ap"] = "ap"  # type: ignore[assignment]
    """Retain term: answer preservation, which is what makes this method."""
    beta: PositiveFloat = 0.1
    """Inverse temperature of answer preservation."""
    reduction: Literal["sum", "mean"] = "sum"
    """NLL of an answer in AP: its tokens' sum, as in the authors' code, or their mean, with which
    the longer of two answers no longer counts as the less likely one for its length."""

    def needs(self) -> dict[Part, Needs]:
        """Return the refusals to both sets' questions and the retain answers."""
        return {REFUSED: Needs(), RETAIN: Needs(), RETAIN_REFUSED: Needs()}

    def coupled(self) -> Iterable[Collection[Part]]:
        """Return both answers to the retain questions, between which there is a margin."""
        return [{RETAIN, RETAIN_REFUSED}]

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the refusals' NLL, in nats per token."""
        return step[REFUSED].token_mean(step[REFUSED].nll)

    def retain_term(self, step: Step) -> Float[Tensor, ""]:
        """Return AP's mean over questions; lower means answers are preferred more."""
        kept = step[RETAIN]
        margin = self._nll(step[RETAIN_REFUSED]) - self._nll(kept)
        return kept.sequence_mean(-torch.nn.functional.logsigmoid(self.beta * margin) / self.beta)

    def _nll(self, part: Labelled) -> Float[Tensor, " sequences"]:
        total = part.sequence_sum(part.nll)
        return total if self.reduction == "sum" else total / part.lengths
