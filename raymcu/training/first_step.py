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
            held = local(weight.detach())
            largest = local(weight.grad).flatten().abs().argmax()[None]
            step = max(1, held.numel() // 256)
            spread = torch.arange(0, held.numel(), step, device=held.device)
            places = torch.cat([largest, spread])
            found.append((held, places, held.take(places)))
    return found


def num_moved(before: Sequence[Sample]) -> int:
    """Count the weights whose sample is no longer what it was."""
    return sum(not torch.equal(held.take(places), values) for held, places, values in before)
