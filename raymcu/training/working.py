"""Weights in bfloat16 to compute with, beside float32 masters for the optimizer to move.

One copy a step in place of one that autocast makes for each pass; what several workers compute, of
which each gathers its shards in bfloat16, is the same kind of thing.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm


class Working:
    """A whole model whose weights are computed with in bfloat16.

    Batch normalisation stays as it is, with its statistics. Names, ties and buffers stay.

    Args:
        model: In float32; from now on in bfloat16, what it held beside it. Weights that are in
            bfloat16 already, as those that only carry adapters, have nothing beside them. Shards
            stay: they are masters of what is gathered in bfloat16.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        kept = {id(weight) for layer in layers for weight in layer.parameters()}
        self._wide: list[tuple[nn.Parameter, Tensor]] = []
        """Weights, and what they hold in float32."""
        self._halved: list[nn.Parameter] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._own: dict[str, Tensor] = {}
        self._masters: Mapping[str, Tensor] = {}
        for weight in model.parameters():
            is_shard = isinstance(weight, DTensor)
            if weight.dtype == torch.float32 and id(weight) not in kept and not is_shard:
                self._wide.append((weight, weight.data))
                self._halved.append(weight)
                weight.data = weight.data.bfloat16()
        self._kept = kept

    def move(self, weights: Mapping[str, Tensor], *, has_masters: bool = True) -> dict[str, Tensor]:
        """Return what is moved in place of weights: passes add up gradients there, in float32.

        Args:
            weights: Those of the model that a training moves, adapters too; what others held in
                float32 is let go.
            has_masters: False where the weights are written by somebody else, as along a curve:
                what is returned then has a gradient alone, and no values.
        """
        held = {id(weight): wide for weight, wide in self._wide}
        found: dict[str, Tensor] = {}
        for name, weight in weights.items():
            if id(weight) in self._kept or isinstance(weight, DTensor):
                found[name] = weight
                continue
            if has_masters:
                master = nn.Parameter(held.pop(id(weight), weight.data).float())
            else:
                place = torch.zeros((), dtype=torch.float32, device=weight.device)
                master = nn.Parameter(place.expand(weight.shape))
            weight.data = weight.data.bfloat16()
            self._hooks.append(weight.register_post_accumulate_grad_hook(_added_to(master)))  # type: ignore[no-untyped-call]
            self._own[name], found[name] = weight, master
        self._wide = []
        self._masters = found if has_masters else {}
        return found

    @property
    def masters(self) -> Mapping[str, Tensor]:
        """What is moved, by name; nothing where the weights are written by somebody else."""
        return self._masters

    @property
    def own(self) -> Mapping[str, Tensor]:
        """The model's own weights, of those that are moved; nothing likewise."""
        return self._own if self._masters else {}

    @torch.no_grad()
    def write(self) -> None:
        """Write the masters, rounded, into the model."""
        if self._masters and self._own:
            names = list(self._own)
            torch._foreach_copy_(
                [self._own[name].data for name in names], [self._masters[n].data for n in names]
            )

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the model its masters in place of their copies: all its weights are float32."""
        for hook in self._hooks:
            hook.remove()
        for name, weight in self._own.items():
            master = self._masters.get(name)
            weight.grad = None
            weight.data = weight.data.float() if master is None else master.data
        for weight, wide in self._wide:
            weight.data = wide
        for weight in self._halved:
            weight.data = weight.data.float()  # what nothing was held beside
        self._hooks, self._own, self._masters, self._wide, self._halved = [], {}, {}, [], []


def computing(model: nn.Module) -> AbstractContextManager[Any]:
    """Return what a model is computed in: autocast where its weights are bfloat16, as in training.

    Of such weights autocast makes no copies; it says what is computed in float32 all the same.
    """
    halves = (weight for weight in model.parameters() if weight.dtype == torch.bfloat16)
    half = next(halves, None)
    if half is None:
        return nullcontext()
    return torch.autocast(half.device.type, dtype=torch.bfloat16)


def _added_to(master: Tensor) -> Callable[[Tensor], None]:
    def take(weight: Tensor) -> None:
        if weight.grad is not None:
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None  # one gradient in bfloat16 at a time

    return take
