"""Gradients from losses alone: simultaneous perturbation (SPSA), for any first-order optimizer.

Spall 1992; for language models Malladi et al. 2023, arXiv:2305.17333.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from raymcu.models.causal_lm import local
from raymcu.training.counted import key_of, normal, pieces_of


def direction(
    weights: Mapping[str, Tensor], seed: int, number: int
) -> Iterator[tuple[str, Any, Tensor]]:
    """Draw one standard-normal direction, piece by piece, the same bits at every call.

    A number depends on seed, number, the weight's name and its place in the whole weight alone:
    neither on the order of the weights nor on how they are sharded. It is drawn where the weight
    lies, and the direction is never held as a whole.

    Args:
        weights: By name, whole or sharded.
        seed: Of the training.
        number: Of the direction in the training.

    Yields:
        Name, which rows of the part of the weight that this worker holds, and their noise, in at
        least float32.
    """
    for name, weight in weights.items():
        key, own = key_of(seed, number, name), local(weight)
        wide = torch.promote_types(weight.dtype, torch.float32)
        for rows, first in pieces_of(weight):
            yield name, rows, normal(key, first, own[rows].shape, own.device).to(wide)


@torch.no_grad()
def estimate(  # noqa: PLR0913 - what is asked of it
    weights: Mapping[str, Tensor],
    loss: Callable[[], float],
    *,
    seed: int,
    step: int,
    scale: float = 1e-3,
    num_directions: int = 1,
    into: Mapping[str, Tensor] | None = None,
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
        into: What the loss reads in place of weights, by their names, if it is something else:
            such weights need no copy.

    Returns:
        The mean of the losses.
    """
    into = into or {}
    kept = {n: local(w) if n in into else local(w).clone() for n, w in weights.items()}
    target = {name: local(into.get(name, weight)) for name, weight in weights.items()}
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    losses = []
    try:
        for number in range(step * num_directions, (step + 1) * num_directions):
            pair = []
            for signed in (scale, -scale):
                for name, rows, noise in direction(weights, seed, number):
                    target[name][rows].copy_(noise.mul_(signed).add_(kept[name][rows]))
                pair.append(loss())
            slope = (pair[0] - pair[1]) / (2 * scale * num_directions)
            for name, rows, noise in direction(weights, seed, number):
                local(gradients[name])[rows].add_(noise.mul_(slope))
            losses += pair
    finally:
        for name in weights:
            target[name].copy_(kept[name])
    for name, weight in weights.items():
        weight.grad = gradients[name]
    return math.fsum(losses) / len(losses)
