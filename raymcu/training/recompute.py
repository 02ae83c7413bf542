"""Blocks that are computed again in the backward pass, in place of keeping what they computed.

Of each block its input alone is kept between the passes; a gradient costs another forward pass.
"""

import types
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from raymcu.models.batch_norm import layers_of
from raymcu.planning.memory import GIB, recomputes
from raymcu.study.training_tables import Training


def recompute(scorer: Any, training: Training, device: torch.device, workers: int) -> None:
    """Let a model's blocks be computed again in a backward pass, or no longer.

    Each block's own ``forward`` is replaced, on the instance: names of weights, hooks (which fire
    once, around it) and sharding see the block as it was. A block draws in the second pass what it
    drew in the first.

    Args:
        scorer: Holds the model, which may have been open for another training, not sharded yet.
        training: Says whether.
        device: Where it trains.
        workers: That share it.
    """
    is_asked = training.recompute == "blocks"
    if training.recompute == "auto" and device.type == "cuda" and not layers_of(scorer):
        number = sum(weight.numel() for weight in scorer.parameters())
        total = torch.cuda.get_device_properties(device).total_memory / GIB
        is_asked = recomputes(training.model_copy(update={"workers": workers}), number, total)
    for module in scorer.modules():
        if getattr(vars(module).get("forward"), "is_again", False):
            del module.forward
    for block in scorer.layers if is_asked else ():
        block.forward = types.MethodType(_again(type(block).forward), block)


def _again(inner: Any) -> Any:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return checkpoint(inner, self, *args, use_reentrant=False, **kwargs)
        return inner(self, *args, **kwargs)

    forward.is_again = True  # type: ignore[attr-defined]
    return forward
