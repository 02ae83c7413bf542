"""Parts of a step, one after the other: which must be read at once, and how gradients add up.

A loss that is a sum of terms, each of one part, needs the graph of one part at a time: the others
are shown without a position, which is their share of nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.dropout import _DropoutNd

from raymcu.errors import WorkError
from raymcu.methods._base import Method, StepLoss
from raymcu.methods._parts import Turn as Turn
from raymcu.methods._parts import turns_of as turns_of

_APART = 1e-3
"""Relative difference beyond which the sum of a loss's shares is not the loss."""


def tied_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Return whole weights that one pass uses in two places, if no pass draws numbers.

    Where dropout draws, parts are read in their order, so that each has the draws it always had.
    """
    if any(isinstance(module, _DropoutNd) and module.p > 0 for module in model.modules()):
        return []
    config = getattr(model, "config", None)
    asked = config.get_text_config().to_dict() if config is not None else {}
    if any("drop" in key and isinstance(p, float) and p > 0 for key, p in asked.items()):
        return []
    names: dict[int, list[Tensor]] = {}
    for _, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(weight)
    moved = [weight for weight in weights.values() if not isinstance(weight, DTensor)]
    return [weight for weight in moved if len(names.get(id(weight), ())) > 1]


class _Carried(torch.autograd.Function):
    """Begins a backward pass with the gradients that there are, in place of adding them at last."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> Tensor:
        ctx.had = tuple(weight.grad for weight in weights)
        for weight in weights:
            weight.grad = None
        return weights[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> Any:
        had, ctx.had = ctx.had, ()  # so that the engine adds in place
        return had


def backward(loss: Tensor, tied: Sequence[Tensor] = ()) -> None:
    """Add up gradients of a turn's loss.

    Args:
        loss: Of this turn; of parts that carry no gradient nothing is done.
        tied: Weights of which this turn's gradients are added to the earlier turns' one use after
            the other, the order of a pass through all turns at once: the same bits. Weights that a
            pass uses once have those anyway.
    """
    if loss.requires_grad:
        carried = [weight for weight in tied if weight.grad is not None]
        begin: Any = _Carried.apply
        torch.autograd.backward(loss + begin(*carried) if carried else loss)


def check_apart(
    methods: Sequence[Method], whole: Sequence[StepLoss], shares: Sequence[Sequence[StepLoss]]
) -> None:
    """Refuse a method that couples parts and does not say so.

    Args:
        methods: The objective.
        whole: Their losses of all parts together.
        shares: By turn, their losses with the parts of the others empty.

    Raises:
        WorkError: ``coupled_parts`` if they do not add up.
    """
    for method, loss, *own in zip(methods, whole, *shares, strict=True):
        total, added = float(loss.total), sum(float(share.total) for share in own)
        if math.isfinite(total) and not abs(total - added) <= _APART * max(1.0, abs(total)):
            raise WorkError(
                "coupled_parts",
                f"{type(method).__name__}: its loss of all parts together is {total:.6g}, its "
                f"losses of each part, the others empty, add up to {added:.6g}. A method with a "
                "term that reads several parts at once says which in coupled().",
            )
