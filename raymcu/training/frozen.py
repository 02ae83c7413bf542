"""Weights that an update mask keeps where they are, through every optimizer."""

from collections.abc import Mapping

import torch
from torch import Tensor

from raymcu.models.causal_lm import local


class Frozen:
    """Weights that must not move: momentum and weight decay leak past a mask of gradients.

    Args:
        weights: By name, whole or sharded, at the values to keep.
        movable: Which elements of this worker's part of a weight may move. Weights without an
            entry are free.
    """

    @torch.no_grad()
    def __init__(self, weights: Mapping[str, Tensor], movable: Mapping[str, Tensor]) -> None:
        self._held: dict[str, tuple[Tensor, Tensor]] = {}
        for name, mask in movable.items():
            fixed = ~mask
            if fixed.any():
                self._held[name] = fixed, local(weights[name])[fixed]

    @torch.no_grad()
    def mask_gradients(self, weights: Mapping[str, Tensor]) -> None:
        """Set the gradients of what must not move to 0, in place."""
        for name, (fixed, _) in self._held.items():
            gradient = weights[name].grad
            if gradient is not None:
                local(gradient).masked_fill_(fixed, 0.0)

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Write what must not move back, bit for bit; for after a step of the optimizer."""
        for name, (fixed, values) in self._held.items():
            local(weights[name]).masked_scatter_(fixed, values)
