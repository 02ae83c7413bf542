"""Whether the first step of a training changes any weight, told from a sample of places in each."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raymcu.errors import WorkError
from raymcu.models.causal_lm import local

Sample = tuple[Tensor, Tensor, Tensor]
"""A weight's values, places among them, and what was there."""


def nothing_moved() -> WorkError:
    """Return what a training ends with whose first step changes nothing."""
    return WorkError(
        "nothing_moved",
        "the first step changed no weight: its gradient is zero, or the learning rate is lost in "
        "rounding. Check the method's weights, its mask and the rate.",
    )


@torch.no_grad()
def sampled(weights: Mapping[str, Tensor]) -> list[Sample]:
    """Return each weight's values, places among them, and what is there now.

    The place of the largest gradient is one of them.
    """
    found = []
    for weight in weights.values():
        if weight.grad is not None and local(weight.grad).numel():
            flat = local(weight.detach()).view(-1)
            largest = local(weight.grad).flatten().abs().argmax()[None]
            spread = torch.arange(0, len(flat), max(1, len(flat) // 256), device=flat.device)
            places = torch.cat([largest, spread])
            found.append((flat, places, flat[places].clone()))
    return found


def num_moved(before: Sequence[Sample]) -> int:
    """Count the weights whose sample is no longer what it was."""
    return sum(not torch.equal(flat[places], values) for flat, places, values in before)
