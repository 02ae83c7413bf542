"""Negative preference optimization (NPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Published, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("npo", source="Zhang et al. 2024, arXiv:2404.05868, eq. 3")
class NPO(Method):
    """Push answers below the start model's likelihood, with a pull that fades as they fall.

    L = -(2/beta) · mean over sequences of logsigmoid(-beta · log(pi / pi_start)), with pi the
    probability of the whole answer. At the start model L = (2/beta) ln 2 and its gradient is that
    of gradient ascent on sequence sums; as beta -> 0 it stays that.
    """

    openunlearning = Published({"retain": "nll"})

    beta: PositiveFloat = 0.1
    """Inverse temperature."""
    reduction: Literal["sum", "mean"] = "sum"
    """``sum``: log-probability of the answer. ``mean``: per token, as SOUL, WAGLE and MU-Bench
    compute it; the weight then stays near 1 and the method is gradient ascent in practice."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the start model's loglikelihoods."""
        return {FORGET: Needs(reference_nll=True)}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean over sequences, in nats / beta; lower means less likely than before."""
        forget = step[FORGET]
        # -log(pi / pi_start)
        fallen = forget.sequence_sum(forget.nll - forget.given("reference_nll"))
        if self.reduction == "mean":
            fallen = fallen / forget.lengths
        return forget.sequence_mean(
            -2 / self.beta * torch.nn.functional.logsigmoid(self.beta * fallen)
        )
