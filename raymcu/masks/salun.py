"""Saliency (SalUn): the weights that the forget loss is most sensitive to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from raymcu.masks._base import MASKS, Share, UpdateMask

if TYPE_CHECKING:
    from torch import Tensor


@MASKS.register("salun", source="Fan et al. 2024, arXiv:2310.12508")
class Salun(UpdateMask):
    """Move the weights of the largest |g_forget|, half of all by default."""

    needs_retain: ClassVar[bool] = False

    keep: Share = 0.5
    """Fraction of all weights that may move."""

    def scores(
        self, weight: Tensor, forget_gradient: Tensor, retain_gradient: Tensor | None
    ) -> Tensor:
        """Return the size of the forget gradient."""
        del weight, retain_gradient
        return forget_gradient.detach().abs()
