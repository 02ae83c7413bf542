"""SatImp: ascent weighted by saturation and importance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from raymcu.methods._base import FORGET, METHODS, Method, Published, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("satimp", source="Yang et al. 2025, arXiv:2505.11953; defaults of its code")
class SatImp(Method):
    """Ascend most on tokens neither certain nor forgotten.

    L = -token mean of sg[p^saturation · (1-p)^importance] · NLL. Gradient ascent for exponents of
    0; WGA for an importance of 0.
    """

    openunlearning = Published({"importance": 1.0, "forget_weight": 0.1, "retain_weight": 1.0})

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    retain_weight: NonNegativeFloat = 0.1
    """Weight of the retain term. OpenUnlearning's configuration swaps it with the forget
    term's."""
    saturation: NonNegativeFloat = 5.0
    """The paper's beta_1."""
    importance: NonNegativeFloat = 0.1
    """The paper's beta_2; 1 in OpenUnlearning."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the weighted ascent, in nats per token."""
        forget = step[FORGET]
        nll = forget.nll.detach()
        weights = (-self.saturation * nll).exp() * (-(-nll).expm1()) ** self.importance
        return -forget.token_mean(weights * forget.nll)
