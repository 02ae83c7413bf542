"""The exponential moving average of weights along a training."""

from collections.abc import Mapping

import torch
from torch import Tensor

from raymcu.models.causal_lm import local
from raymcu.study.training_tables import Average


class MovingAverage:
    """avg_0 = the weights it starts from, avg_k = eta · weights_k + (1 - eta) · avg_(k-1).

    MOX's momentum, eq. 10: an affine combination of snapshots, so it commutes with stepping away
    from a memorizer. It lies where the weights lie, in their precision (float32 at least), shard by
    shard: as much memory as the weights that move.

    Args:
        weights: Those that move, by name, whole or sharded, before the first step.
        use: eta, and how often.
    """

    def __init__(self, weights: Mapping[str, Tensor], use: Average) -> None:
        self.use = use
        self.values = {name: _copy(weight.detach()) for name, weight in weights.items()}

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor], *, is_epoch_end: bool) -> None:
        """Take the weights in after a step if it is time to; with eta = 1 they are copied."""
        if is_epoch_end or self.use.every == "step":
            for name, weight in weights.items():
                local(self.values[name]).lerp_(
                    local(weight).to(self.values[name].dtype), self.use.eta
                )

    @torch.no_grad()
    def put_in(self, weights: Mapping[str, Tensor]) -> None:
        """Write the average in the place of the weights."""
        for name, weight in weights.items():
            local(weight.detach()).copy_(local(self.values[name]))


def _copy(weight: Tensor) -> Tensor:
    """Return a copy in float32 at least."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)
