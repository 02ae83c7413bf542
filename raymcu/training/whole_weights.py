"""Weights that may be sharded: whole ones taken out of a model, and whole ones put into it."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from raymcu.models.causal_lm import local


def whole(weight: Tensor) -> Tensor:
    """Return a whole weight on the CPU; collective if it is sharded."""
    held = weight.detach()
    return (held.full_tensor() if isinstance(held, DTensor) else held).cpu()


def like(weight: Tensor, full: Tensor) -> Tensor:
    """Return the part of a full tensor that lies where ``weight`` lies, as it is if it can."""
    if not isinstance(weight, DTensor):
        return full.to(weight.device)
    here = distribute_tensor(
        full.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )
    return here.to_local()


@torch.no_grad()
def fill(weights: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> None:
    """Overwrite weights with full tensors, or with sharded ones like them."""
    for name, weight in weights.items():
        new = content[name]
        part = local(new) if isinstance(new, DTensor) else like(weight, new)
        local(weight.detach()).copy_(part)
