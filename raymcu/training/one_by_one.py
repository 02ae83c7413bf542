"""Weights that are stepped one after the other, each in float32 while its turn lasts.

So weights may be held in bfloat16 without a float32 master, and an optimizer's states may lie on
the CPU: whatever the optimizer, it sees one weight at a time as it would see all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from raymcu.training.counted import bits, key_of, pieces_of

Weights = Literal["float32", "kahan", "stochastic"]


class OneByOne:
    """Steps weights of one worker.

    Args:
        weights: By name. Those in bfloat16 are rounded after their turn as asked; all others are
            stepped where they are.
        how: ``kahan`` keeps what rounding takes off each weight for the next step: 16 bits, so that
            both together are float32 to the bit. ``stochastic`` rounds up or down by chance, at the
            odds that keep the mean; what is drawn is told from seed, step, name and place.
        is_offloaded: Whether the optimizer's states lie on the CPU between turns.
        seed: Of the training.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], how: Weights, *, is_offloaded: bool, seed: int
    ) -> None:
        self.weights = weights
        self.how = how
        self.is_offloaded = is_offloaded
        self.seed = seed
        self.stand_ins = {
            name: nn.Parameter(torch.empty(0, dtype=_wide(weight), device=weight.device))
            for name, weight in weights.items()
        }
        """What optimizers are made over."""
        self.rest = {
            name: torch.zeros_like(weight, dtype=torch.int16)
            for name, weight in weights.items()
            if how == "kahan" and weight.dtype == torch.bfloat16
        }
        """What each weight lacks to be float32, in the last of its bits."""

    @torch.no_grad()
    def step(self, optimizers: Iterable[torch.optim.Optimizer], number: int) -> None:
        """Step every weight that has a gradient; ``number`` is the step, from 0."""
        for optimizer in optimizers:
            owned = {id(w) for group in optimizer.param_groups for w in group["params"]}
            for name, stand_in in self.stand_ins.items():
                weight = self.weights[name]
                if id(stand_in) in owned and weight.grad is not None:
                    stand_in.data = self._held(name)
                    stand_in.grad = weight.grad.to(stand_in.dtype)
                    self._lay(optimizer, stand_in, weight.device)
                    optimizer.step()
                    if self.is_offloaded:
                        self._lay(optimizer, stand_in, torch.device("cpu"))
                    self._take(name, stand_in.data, number)
                    stand_in.grad = None
                    stand_in.data = stand_in.data.new_empty(0)

    def _held(self, name: str) -> Tensor:
        """Return a weight in float32 at least, which may be the weight itself."""
        weight = self.weights[name].detach()
        if name in self.rest:
            high = weight.view(torch.int16).int() << 16
            return (high + self.rest[name]).view(torch.float32)
        return weight.to(_wide(weight))

    def _take(self, name: str, stepped: Tensor, number: int) -> None:
        """Write a weight as it is after its step."""
        weight = self.weights[name].detach()
        if name in self.rest:
            told = stepped.view(torch.int32)
            high = (told + 0x8000) >> 16
            weight.copy_(high.short().view(torch.bfloat16))
            self.rest[name].copy_(told - (high << 16))
        elif weight.dtype == torch.bfloat16:
            key = key_of(self.seed, number, name, "rounding")
            for rows, first in pieces_of(weight):
                weight[rows] = rounded(stepped[rows], key, first)

    @staticmethod
    def _lay(optimizer: torch.optim.Optimizer, stand_in: Tensor, device: torch.device) -> None:
        """Put a weight's states on a device; numbers that count steps stay where they are."""
        state = optimizer.state.get(stand_in, {})
        for what, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.device.type != device.type:
                there = torch.empty_like(
                    value, device=device, pin_memory=device.type == "cpu" and value.is_cuda
                )
                state[what] = there.copy_(value)


def rounded(values: Tensor, key: int, first: int) -> Tensor:
    """Return float32 values in bfloat16, up or down by chance so that their mean stays.

    Args:
        values: A part of a weight.
        key: Of the numbers that are drawn.
        first: Place of the first value in the weight.
    """
    drawn = bits(key, first, values.shape, values.device).bitwise_and_(0xFFFF).int()
    high = (values.contiguous().view(torch.int32) + drawn) >> 16
    found: Tensor = high.short().view(torch.bfloat16)
    return found


def norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, in float32 whatever they are in."""
    norms = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in gradients]
    found: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return found


def _wide(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)
