"""Token-wise negative preference optimization (TNPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat

from raymcu.methods._base import FORGET, METHODS, Labelled, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("tnpo", source="Wang et al. 2025 (G-effect), arXiv:2502.19301")
class TNPO(Method):
    """Ascend with NPO's weight, token by token: L = -token mean of sg[w] · NLL.

    w = 2 p^beta / (p^beta + p_start^beta + eps), in (0, 2). At the start model w is 1 where p^beta
    is far above eps, and the method gradient ascent.
    """

    beta: PositiveFloat = 4.0
    """Inverse temperature."""
    eps: NonNegativeFloat = 1e-5
    """Added to w's denominator, as the authors do; with beta 4 it lets tokens rest whose p and
    p_start are both below 0.06."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the start model's loglikelihoods."""
        return {FORGET: Needs(reference_nll=True)}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the weighted ascent, in nats per token."""
        forget = step[FORGET]
        return -forget.token_mean(self.weights(forget).detach() * forget.nll)

    def weights(self, forget: Labelled) -> Float[Tensor, " positions"]:
        """Return w by logarithms, so that p^beta cannot underflow to 0/0."""
        current = -self.beta * forget.nll
        total = current.logaddexp(-self.beta * forget.given("reference_nll"))
        return 2 * (current - total.logaddexp(current.new_tensor(self.eps).log())).exp()
