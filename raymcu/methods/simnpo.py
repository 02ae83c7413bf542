"""Simple negative preference optimization (SimNPO): NPO by token means, without a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, Method, Published, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("simnpo", source="Fan et al. 2024, arXiv:2410.07163; defaults of OpenUnlearning")
class SimNPO(Method):
    """Push answers down by their mean NLL, with a pull that fades as it passes the margin.

    L = -(2/beta) · mean over sequences of logsigmoid(beta · (S/n - margin)), with S the NLL of
    the whole answer and n its tokens. As beta -> 0 its gradient tends to that of ascent on the
    mean of the sequences' own means.
    """

    openunlearning = Published({})

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    forget_weight: NonNegativeFloat = 0.125
    """Weight of the forget term: 0.125 in OpenUnlearning and, for forget10, in the authors' code
    (npo_coeff); OpenUnlearning names this one gamma."""
    beta: PositiveFloat = 4.5
    """Inverse temperature; the authors take 2.5 for forget05, 0.7 and 0.75 for MUSE."""
    margin: NonNegativeFloat = 0.0
    """In nats per token; the paper's gamma, OpenUnlearning's delta."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean over sequences, in nats / beta; lower means less likely."""
        forget = step[FORGET]
        past = forget.sequence_sum(forget.nll) / forget.lengths - self.margin
        return forget.sequence_mean(
            -2 / self.beta * torch.nn.functional.logsigmoid(self.beta * past)
        )
