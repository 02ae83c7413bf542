"""What an update mask is: a score per weight; those of the highest scores may move.

The ranking is global, over all elements of all weights on all workers, without sorting or joining
them: the bound is selected from histograms, and each worker compares its own shards with it. So a
mask does not depend on how the model is sharded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from raymcu.errors import WorkError
from raymcu.later import torch
from raymcu.registry import Component, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor


MASKS: Registry[type["UpdateMask"]] = Registry("update mask", __package__ or "raymcu.masks")

Share = Annotated[float, Field(gt=0, le=1)]

_DIGITS = ((20, 11), (10, 10), (0, 10))
"""Lowest bit and width of the digits of a non-negative float32, the highest digit first."""
_FIRST_NAN = 0x7FC00000 >> _DIGITS[0][0]
"""First digit of the smallest NaN that arithmetic makes; those of all numbers are smaller."""


class UpdateMask(Component, ABC):
    """Ranks weights by gradients of the plain NLL at the start model, summed over their sets."""

    needs_retain: ClassVar[bool]
    """Whether the score reads the retain set's gradient."""

    keep: Share
    """Fraction of all weights that may move. Ties at the bound may all move, so it can be
    exceeded; a weight of score 0 never moves unless ``keep`` is 1, which masks nothing."""

    @abstractmethod
    def scores(
        self, weight: Tensor, forget_gradient: Tensor, retain_gradient: Tensor | None
    ) -> Tensor:
        """Return the elementwise score >= 0 of a weight, or of one shard of it."""

    def count(self, total: int) -> int:
        """Return how many of that many elements, over all workers, may move."""
        return max(1, round(self.keep * total))

    def movable(self, scores: Tensor, bound: float) -> Tensor:
        """Return which elements may move: True where the score reaches `threshold`'s bound."""
        if self.keep == 1:
            return torch.ones_like(scores, dtype=torch.bool)
        ranked = scores.float()
        return ranked >= bound if bound > 0 else ranked > 0


def identity(histogram: Tensor) -> Tensor:
    """Return the histogram: the sum over one worker."""
    return histogram


def threshold(
    scores: Callable[[], Iterable[Tensor]],
    count: int,
    add: Callable[[Tensor], Tensor] = identity,
) -> float:
    """Return the count-th largest score, exactly, by radix selection.

    The bits of non-negative float32 numbers, read as integers, are in the order of the numbers.
    Each pass settles one digit; nothing larger than one tensor is held.

    Args:
        scores: Starts a fresh pass over this worker's scores, the same each time.
        count: From 1 to the number of scores on all workers.
        add: Sums an int64 tensor over all workers; called once per pass, on the CPU.

    Raises:
        WorkError: ``diverged``, if a score is NaN.
        ValueError: If there are fewer scores than ``count``.
    """
    found = 0
    for shift, width in _DIGITS:
        histogram = torch.zeros(2**width, dtype=torch.int64)
        for tensor in scores():
            histogram += _digits(tensor, found, shift, width)
        histogram = add(histogram)
        if shift == _DIGITS[0][0] and histogram[_FIRST_NAN:].any():
            raise WorkError("diverged", "an update mask cannot rank weights by scores of NaN.")
        larger = histogram.flip(0).cumsum(0)  # scores of the largest digits, one digit, two, ...
        if not 1 <= count <= int(larger[-1]):
            raise ValueError(f"there is no score number {count} among {int(larger[-1])}")
        place = int((larger < count).sum())
        count -= int(larger[place - 1]) if place else 0
        found = (found << width) + 2**width - 1 - place
    return float(torch.tensor(found, dtype=torch.int32).view(torch.float32))


def _digits(scores: Tensor, found: int, shift: int, width: int) -> Tensor:
    """Count the next digit of those scores whose higher digits have been found."""
    bits = scores.detach().float().abs().reshape(-1).view(torch.int32)  # abs: -0.0 is 0
    digits = (bits[bits >> (shift + width) == found] >> shift) & (2**width - 1)
    counts: Tensor = digits.bincount(minlength=2**width).cpu()
    return counts
