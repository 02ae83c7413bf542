"""Pruning: the smallest weights become 0."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.attacks._parts import matrices
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Share = Annotated[float, Field(ge=0, lt=1)]


@ATTACKS.register("prune", source="Han et al. 2015, arXiv:1506.02626, sec. 3")
class Prune(Treatment):
    """Set the weights of linear layers that are smallest in magnitude to 0.

    Not the head, not embeddings, not experts that lie in one tensor.
    """

    strength: ClassVar[str | None] = "shares"
    modalities: ClassVar[tuple[str, ...]] = ("causal_lm", "image", "text", "image_text")
    none: ClassVar[float | None] = 0.0

    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.1, 0.3, 0.5)
    """Share of the weights that become 0; 0 is the point itself."""
    scope: Literal["layer", "global"] = "layer"
    """``layer``: the share is of each linear layer; ``global``: of all of them together."""
    convolutions: bool = False
    """Prune convolutions, too. A ResNet has nothing else to prune."""

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Prune in place.

        Raises:
            WorkError: ``no_target`` if the model has no linear layer but its head.
        """
        (share,) = self.shares
        if share:
            found = list(matrices(model, convolutions=self.convolutions).values())
            for together in [found] if self.scope == "global" else [[one] for one in found]:
                cut(together, share)
        yield


def cut(tensors: Sequence[Tensor], share: float) -> None:
    """Set the smallest share of all elements to 0, in place; of equal ones the first.

    Nothing of the size of all tensors together is made: the magnitude up to which they go is found
    by halving, among the 2^31 that float32 has.
    """
    goal = round(share * sum(tensor.numel() for tensor in tensors))
    low, high = -1, 0x7F80_0000  # at most low: too few; at most high: enough
    while high - low > 1:
        middle = (low + high) // 2
        number = sum(int((_magnitude(tensor) <= middle).sum()) for tensor in tensors)
        low, high = (low, middle) if number >= goal else (middle, high)
    left = goal - sum(int((_magnitude(tensor) <= low).sum()) for tensor in tensors)
    for tensor in tensors:
        size = _magnitude(tensor)
        is_equal = size == high
        is_first = is_equal & (is_equal.flatten().cumsum(0) <= left).view(tensor.shape)
        left -= int(is_first.sum())
        tensor.masked_fill_((size <= low) | is_first, 0)


def _magnitude(tensor: Tensor) -> Tensor:
    """Return magnitudes as whole numbers in the same order: the bits of float32."""
    return tensor.float().abs().view(torch.int32)
