"""Gradients from losses alone: simultaneous perturbation (SPSA), for any first-order optimizer.

Spall 1992; for language models Malladi et al. 2023, arXiv:2305.17333.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from raymcu.models.causal_lm import local


def directions(
    weights: Mapping[str, Tensor], seed: int, number: int
) -> Iterator[tuple[str, Tensor]]:
    """Draw one standard-normal direction, weight by weight, the same bits at every call.

    The draw depends on seed, number and the weight's name and shape only: neither on the order of
    the weights nor on how they are sharded. One whole weight's noise is held at a time.

    Args:
        weights: By name, whole or sharded.
        seed: Of the training.
        number: Of the direction in the training.

    Yields:
        Name, and the noise of the part of the weight that this worker holds, in at least float32.
    """
    for name, weight in weights.items():
        digest = blake2b(f"{seed}|{number}|{name}".encode(), digest_size=8).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
        noise = torch.randn(weight.shape, generator=random, dtype=torch.float32)
        if isinstance(weight, DTensor):
            mesh, placements = weight.device_mesh, weight.placements
            noise = local(distribute_tensor(noise, mesh, placements, src_data_rank=None))
        yield name, noise.to(weight.device, torch.promote_types(weight.dtype, torch.float32))


@torch.no_grad()
def estimate(
    weights: Mapping[str, Tensor],
    loss: Callable[[], float],
    *,
    seed: int,
    step: int,
    scale: float = 1e-3,
    num_directions: int = 1,
) -> float:
    """Write [L(θ + c·z) - L(θ - c·z)] / 2c · z, averaged over directions, as the gradients.

    The weights end as they began, bit for bit, even if the loss raises: they are copied once.

    Args:
        weights: What the loss depends on; every ``grad`` is overwritten.
        loss: The batch's loss at the current weights: the same rows and dropout at every call,
            summed over all workers so that each gets the same number. A model that keeps gathered
            weights after a forward pass must drop them before the next.
        seed: Of the training.
        step: From 0; each has directions of its own.
        scale: c.
        num_directions: Directions, of two losses each.

    Returns:
        The mean of the losses.
    """
    kept = {name: local(weight).clone() for name, weight in weights.items()}
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    losses = []
    try:
        for number in range(step * num_directions, (step + 1) * num_directions):
            pair = []
            for signed in (scale, -scale):
                for name, noise in directions(weights, seed, number):
                    moved = torch.add(kept[name].to(noise.dtype), noise, alpha=signed)
                    local(weights[name]).copy_(moved)
                pair.append(loss())
            slope = (pair[0] - pair[1]) / (2 * scale * num_directions)
            for name, noise in directions(weights, seed, number):
                local(gradients[name]).add_(noise * slope)
            losses += pair
    finally:
        for name, weight in weights.items():
            local(weight).copy_(kept[name])
    for name, weight in weights.items():
        weight.grad = gradients[name]
    return math.fsum(losses) / len(losses)
