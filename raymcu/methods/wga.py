"""Weighted gradient ascent (WGA). Not WAGLE, which MCU's tables call WGA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from raymcu.methods._base import FORGET, METHODS, Method, Published, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("wga", source="Wang et al. 2025 (G-effect), arXiv:2502.19301")
class WGA(Method):
    """Ascend on the tokens that are still likely: L = -token mean of sg[p^exponent] · NLL.

    The weight takes no gradient, so that of a token is -p^(exponent-1) · grad p: bounded for an
    exponent of 1 or more, and gradient ascent for 0.
    """

    openunlearning = Published({"retain": "nll"})

    exponent: NonNegativeFloat = 1.0
    """The paper's alpha, OpenUnlearning's beta; the authors' code defaults to 5."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the weighted ascent, in nats per token."""
        forget = step[FORGET]
        weights = (-self.exponent * forget.nll.detach()).exp()
        return -forget.token_mean(weights * forget.nll)
