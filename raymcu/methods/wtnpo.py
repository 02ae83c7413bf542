"""Weighted token-wise negative preference optimization (WTNPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from raymcu.methods._base import METHODS, Labelled
from raymcu.methods.tnpo import TNPO

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("wtnpo", source="Wang et al. 2025 (G-effect), arXiv:2502.19301")
class WTNPO(TNPO):
    """TNPO whose weight is times p^exponent, as in WGA; TNPO for an exponent of 0."""

    exponent: NonNegativeFloat = 1.5
    """The paper's alpha."""

    def weights(self, forget: Labelled) -> Float[Tensor, " positions"]:
        """Return w = 2 p^(beta + exponent) / (p^beta + p_start^beta + eps)."""
        return super().weights(forget) * (-self.exponent * forget.nll).exp()
