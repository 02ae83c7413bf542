"""Direct preference optimization (DPO) of refusals over the forget answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import (
    FORGET,
    METHODS,
    REFUSED,
    Labelled,
    Method,
    Needs,
    Part,
    Published,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("dpo", source="IdkDPO in Zhang et al. 2024, arXiv:2404.05868")
class DPO(Method):
    """Prefer another answer to the true one, by more than the start model does.

    L = -scale · mean over questions of logsigmoid(beta · margin), margin = log(pi / pi_start) of
    the other answer minus that of the true one, each for the whole answer (a sum over tokens).
    At the start model the gradient is that of S_other - S_true, for scale 2/beta.
    """

    openunlearning = Published({"retain": "nll"})

    beta: PositiveFloat = 0.1
    """Inverse temperature."""
    scale: Literal["two_over_beta", "one"] = "two_over_beta"
    """Factor before the mean: 2/beta as NPO and OpenUnlearning have it, or 1 as TOFU's code."""

    def alternative(self) -> Part:
        """Return the preferred answers, one to each forget question and in their order."""
        return REFUSED

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return both answers with the start model's loglikelihoods."""
        needs = Needs(reference_nll=True)
        return {FORGET: needs, self.alternative(): needs}

    def coupled(self) -> Iterable[Collection[Part]]:
        """Return both answers, between which there is a margin."""
        return [self.forget_needs().keys()]

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean over questions; lower means the other answer is preferred more."""
        forget = step[FORGET]
        margin = _fallen(forget) - _fallen(step[self.alternative()])
        scale = 2 / self.beta if self.scale == "two_over_beta" else 1.0
        return forget.sequence_mean(-scale * torch.nn.functional.logsigmoid(self.beta * margin))


def _fallen(part: Labelled) -> Float[Tensor, " sequences"]:
    """Return -log(pi / pi_start) of each answer."""
    return part.sequence_sum(part.nll - part.given("reference_nll"))
