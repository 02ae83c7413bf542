"""Random numbers that are told from their place alone: on any device, for any number of workers.

The n-th number of a key is SplitMix64 (Steele, Lea and Flood 2014) at its n-th state, so a worker
that holds some rows of a weight draws those of the whole weight's numbers, a piece at a time.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from raymcu.models.causal_lm import local

AT_ONCE = 2**20
"""Numbers that are drawn at once; they do not depend on it."""
_GAMMA = 0x9E3779B97F4A7C15


def key_of(*what: object) -> int:
    """Return the key of a stream of numbers: 64 bits told from what it is for."""
    digest = blake2b("|".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def pieces_of(weight: Tensor) -> Iterator[tuple[Any, int]]:
    """Yield which rows of this worker's part of a weight to take at once, and their first place.

    Args:
        weight: Whole or sharded by its first dimension. Places count through the whole weight.
    """
    first = 0
    if isinstance(weight, DTensor):
        _, offset = compute_local_shape_and_global_offset(
            weight.shape, weight.device_mesh, weight.placements
        )
        first = offset[0]
    own = local(weight)
    if not weight.ndim:
        yield ..., first
        return
    each = weight.shape[1:].numel()
    step = max(1, AT_ONCE // max(1, each))
    for start in range(0, len(own), step):
        yield slice(start, start + step), (first + start) * each


def bits(key: int, first: int, shape: torch.Size, device: torch.device) -> Tensor:
    """Return the 64-bit numbers of a key from a place on, in int64."""
    state = torch.arange(first + 1, first + 1 + shape.numel(), device=device)
    state.mul_(_signed(_GAMMA)).add_(_signed(key))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state.bitwise_xor_(_right(state, shift)).mul_(_signed(factor))
    return state.bitwise_xor_(_right(state, 31)).view(shape)


def normal(key: int, first: int, shape: torch.Size, device: torch.device) -> Tensor:
    """Return standard-normal numbers of a key from a place on, in float32 (Box and Muller)."""
    drawn = bits(key, first, shape, device)
    length = _right(drawn, 40).add_(1).float().mul_(2.0**-24).log_().mul_(-2).sqrt_()
    angle = drawn.bitwise_and_(0xFFFFFF).float().mul_(2 * torch.pi * 2.0**-24)
    return length.mul_(angle.cos_())


def uniform(key: int, first: int, shape: torch.Size, device: torch.device) -> Tensor:
    """Return numbers of a key from a place on, in float64: multiples of 2^-53 in [0, 1)."""
    return _right(bits(key, first, shape, device), 11).double().mul_(2.0**-53)


def _right(values: Tensor, by: int) -> Tensor:
    """Shift to the right, zeros following."""
    return (values >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
