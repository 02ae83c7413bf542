"""Optimizers of other grades than Adam's: clipped by curvature (Sophia), or the sign alone.

Every operation is elementwise, so a sharded weight is stepped shard by shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SophiaForm:
    """One published form of Sophia, and the curvature its trainer has to provide."""

    betas: tuple[float, float]
    rho: float
    weight_decay: float
    double_momentum: bool
    curvature_scale: float | None
    """None: the number of labelled positions behind the curvature's gradient."""
    curvature_every: int
    """Steps from one curvature to the next; that of a step is given before it."""
    is_sampled: bool
    """Whether the curvature's gradient is of the loss on labels drawn from the model itself (the
    Gauss-Newton-Bartlett estimate), or the step's own gradient."""


FORMS = {
    "sophia_g": SophiaForm((0.965, 0.99), 0.04, 0.1, False, None, 10, True),
    "soul": SophiaForm((0.9, 0.95), 0.04, 0.1, True, 5120.0, 1, False),
}
"""``sophia_g`` is Liu et al. 2023, arXiv:2305.14342; ``soul`` is what Jia et al. 2024,
arXiv:2404.18239, ran: the plain gradient squared at every step, and the momentum's moving average
applied twice, which is once with the square of its beta."""


class Sophia(torch.optim.Optimizer):
    """Momentum divided by curvature, clipped at one learning rate per weight.

    θ ← (1 - lr·decay)·θ - lr·sign(m)·min(|m| / (rho·scale·h + 1e-15), 1).

    Args:
        weights: What to move.
        lr: Learning rate: the furthest that a weight moves in a step.
        betas: Of the momentum m and of the curvature h.
        rho: The larger, the less is clipped.
        weight_decay: Decoupled.
        double_momentum: Whether m's moving average is applied twice per step, as in SOUL.
        curvature_scale: Batch size that squared gradients are scaled by; may be set anew in
            ``param_groups`` when the curvature is.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the constants of the published update
        self,
        weights: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        rho: float,
        weight_decay: float,
        double_momentum: bool,
        curvature_scale: float,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "rho": rho, "weight_decay": weight_decay}
        defaults |= {"double_momentum": double_momentum, "curvature_scale": curvature_scale}
        super().__init__(weights, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the momentum and move every weight that has a gradient."""
        for group in self.param_groups:
            decay = group["betas"][0] ** (2 if group["double_momentum"] else 1)
            scale = group["rho"] * group["curvature_scale"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum, curvature = self._averages(weight)
                momentum.lerp_(weight.grad, 1 - decay)
                length = (momentum.abs() / (curvature * scale + 1e-15)).clamp(max=1.0)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.addcmul_(momentum.sign(), length, value=-group["lr"])

    @torch.no_grad()
    def update_curvature(self, gradients: Sequence[Tensor | None]) -> None:
        """Add squared gradients to the curvature's moving average.

        Args:
            gradients: One per weight in the optimizer's order, sharded as the weight is; None
                leaves that weight's curvature as it was.
        """
        betas = [(w, group["betas"][1]) for group in self.param_groups for w in group["params"]]
        for (weight, beta), gradient in zip(betas, gradients, strict=True):
            if gradient is not None:
                _, curvature = self._averages(weight)
                curvature.mul_(beta).addcmul_(gradient, gradient, value=1 - beta)

    def _averages(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state[weight]
        for name in ("momentum", "curvature"):
            if name not in state:
                state[name] = torch.zeros_like(weight)
        return state["momentum"], state["curvature"]


class SignSGD(torch.optim.Optimizer):
    """Bernstein et al. 2018: every weight moves by the learning rate against its gradient's sign.

    A gradient of exactly 0 moves nothing. There is no state.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient; its decay is decoupled."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(weight.grad.sign(), alpha=-group["lr"])
