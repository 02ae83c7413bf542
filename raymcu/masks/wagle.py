"""Weight attribution (WAGLE): the weights that decide forgetting, set off against retaining."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveFloat

from raymcu.later import torch
from raymcu.masks._base import MASKS, Share, UpdateMask

if TYPE_CHECKING:
    from torch import Tensor


@MASKS.register("wagle", source="Jia et al. 2024, arXiv:2410.17509")
class Wagle(UpdateMask):
    """Move the weights of the largest |(theta - g_retain / mu) · g_forget|.

    MCU calls this WGA, which elsewhere is the loss of weighted gradient ascent.
    """

    needs_retain: ClassVar[bool] = True

    keep: Share = 0.95
    """Fraction of all weights that may move."""
    mu: PositiveFloat = 1e-6
    """Curvature of the retain loss; the smaller, the less the weight's own value counts."""

    def scores(
        self, weight: Tensor, forget_gradient: Tensor, retain_gradient: Tensor | None
    ) -> Tensor:
        """Return the attribution's size, in at least float32."""
        assert retain_gradient is not None, "wagle needs the retain gradient"  # noqa: S101
        wide = torch.promote_types(weight.dtype, torch.float32)
        scores = weight.detach().to(wide) - retain_gradient.to(wide) / self.mu
        return scores.mul_(forget_gradient).abs_()
