"""SuperLoss: sequences that are easier than the average so far count more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.curricula._base import CURRICULA, Weighing
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


_INVERSE_E = (0.36787944117144233, -1.2428753672788363e-17)
"""1/e as the sum of two doubles."""
_BRANCH = (-1, 1, -1 / 3, 11 / 72, -43 / 540, 769 / 17280, -221 / 8505, 680863 / 43545600)
"""W's coefficients of the powers of sqrt(2·(1 + e·x)); Corless et al. 1996."""


@CURRICULA.register("superloss", source="Castells et al. 2020; MU-Bench, arXiv:2406.14796")
class SuperLoss(Weighing):
    """Weight a sequence of loss l by exp(-W(max(-2/e, (l - tau) / lam) / 2)), at most e.

    W is Lambert's function and tau the mean loss so far. Weights are constants to the gradient.
    """

    lam: PositiveFloat = 10.0
    """The larger, the nearer all weights are to 1. 10 is MU-Bench's, and changes little."""
    mean: Literal["corrected", "reference"] = "corrected"
    """``reference`` takes tau as MU-Bench does: losses over the sum of their weights."""

    def begin(self, losses: Tensor) -> dict[str, float]:
        """Return the memory of the first step, whose tau is the mean of its batch's losses."""
        mean = float(losses.detach().double().mean())
        return {"first_mean": mean, "loss_sum": 0.0, "weight_sum": 0.0}

    def weights(self, losses: Tensor, memory: Mapping[str, float]) -> Tensor:
        """Return the weight of each sequence of a batch by its loss."""
        wide = losses.detach().double()
        excess = ((wide - tau(memory)) / self.lam).clamp(min=-2 / math.e) / 2
        return (-lambert_w(excess)).exp().to(losses.dtype)

    def remember(
        self, memory: Mapping[str, float], loss_sum: float, weight_sum: float, count: int
    ) -> dict[str, float]:
        """Return the memory of the next step.

        Args:
            memory: Of this step.
            loss_sum: Losses of this step's whole batch, not weighted.
            weight_sum: Weights of its sequences.
            count: Number of its sequences.
        """
        divisor = weight_sum if self.mean == "reference" else float(count)
        return {
            **memory,
            "loss_sum": memory["loss_sum"] + loss_sum,
            "weight_sum": memory["weight_sum"] + divisor,
        }


def tau(memory: Mapping[str, float]) -> float:
    """Return the loss that a weight of 1 belongs to."""
    if not memory["weight_sum"]:
        return memory["first_mean"]
    return memory["loss_sum"] / memory["weight_sum"]


def lambert_w(x: Tensor) -> Tensor:
    """Return the principal W with W·exp(W) = x for x >= -1/e, in float64.

    By Halley's iteration; near -1/e, where that cancels, by W's series there.
    """
    x = x.double()
    high, low = _INVERSE_E
    root = ((x + high) + low).clamp(min=0).mul(2 * math.e).sqrt()
    series = torch.zeros_like(x)
    for coefficient in reversed(_BRANCH):
        series = series * root + coefficient
    w = torch.where(root < 1, series, torch.log1p(x.clamp(min=0)))
    for _ in range(6):
        power = w.exp()
        error = w * power - x
        w = w - error / (power * (w + 1) - (w + 2) * error / (2 * w + 2))
    return torch.where(root < 0.02, series, w)
