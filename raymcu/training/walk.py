"""The curve whose bends are trained: where the model stands, and where its gradient goes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raymcu.curves._length import Reals, position_at
from raymcu.models.blending import combine
from raymcu.models.causal_lm import local
from raymcu.training.group import Alone, Group, sum_of_shards

_PIECE = 1 << 20
"""Numbers of each control point whose products are taken at once."""


@dataclass
class Walk:
    """The curve whose bends are trained: the model's weights are a point of it at every step.

    Only the bends are private memory; both ends stay mapped from the store.
    """

    coefficients: Callable[[float], tuple[float, ...]]
    """t to coefficients of (first, *bends, second)."""
    weights: Mapping[str, Tensor]
    """All weights of the model, which are overwritten."""
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    bends: Sequence[Mapping[str, Tensor]]
    along: Literal["uniform", "arc_length"] = "uniform"
    """What positions are drawn from: all t alike, or all of the curve's length alike."""
    group: Group = field(default_factory=Alone)
    """Workers of which each holds a part of every weight."""
    replicas: int = 1
    """Sets of them that hold all weights each."""

    @classmethod
    def on_chord(
        cls,
        coefficients: Callable[[float], tuple[float, ...]],
        weights: Mapping[str, Tensor],
        first: Mapping[str, Tensor],
        second: Mapping[str, Tensor],
    ) -> "Walk":
        """Begin with the bends on the chord, at equal steps from the first end to the second."""
        steps = len(coefficients(0.0)) - 1
        bends = []
        for number in range(1, steps):
            share = number / steps
            bend = {name: _like(weight.detach()) for name, weight in weights.items()}
            for name, weight in bend.items():
                combine(local(weight), [(1 - share, first[name]), (share, second[name])])
            bends.append(bend)
        return cls(coefficients, weights, first, second, bends)

    def position(self, share: float) -> float:
        """Return t for a number drawn uniformly from [0, 1].

        Along ``arc_length`` it is where the curve has passed that share of its length: t has the
        density of the speed |dphi/dt|, by a grid of speeds of the bends as they are, through which
        no gradient goes.
        """
        if self.along == "uniform":
            return share
        return position_at(self.coefficients, self._products(), share)

    @torch.no_grad()
    def _products(self) -> Reals:
        """Return inner products of what leads from the first end to each control point."""
        count = len(self.bends) + 2
        found = torch.zeros(count, count, dtype=torch.float64)
        for name in self.weights:
            bends = [local(bend[name]) for bend in self.bends]
            controls = [one.flatten() for one in (self.first[name], *bends, self.second[name])]
            for start in range(0, len(controls[0]), _PIECE):
                piece = [one[start : start + _PIECE].double() for one in controls]
                ways = torch.stack([one - piece[0] for one in piece])
                found += (ways @ ways.T).cpu()
        added = sum_of_shards(self.group, found.flatten().tolist(), self.replicas)
        return np.array(added).reshape(count, count)

    def place(self, t: float) -> None:
        """Write phi(t) into the model in place."""
        start, *shares, end = self.coefficients(t)
        for name, weight in self.weights.items():
            bends = [(c, local(b[name])) for c, b in zip(shares, self.bends, strict=True)]
            terms = [(start, self.first[name]), *bends, (end, self.second[name])]
            combine(local(weight.detach()), terms)

    def movable(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the weights of those names of all bends; the first's keep their names."""
        found = list(names)
        return {
            f"{name} of bend {number}" if number else name: bend[name]
            for number, bend in enumerate(self.bends)
            for name in found
        }

    def slope(self, t: float) -> float:
        """Return what a loss is scaled by before its backward pass, for `take_gradients`.

        d phi(t) / d bend of a single bend, which spares it a pass over its gradients; else 1.
        """
        return self.coefficients(t)[1] if len(self.bends) == 1 else 1.0

    def take_gradients(self, t: float, weights: Mapping[str, Tensor] | None = None) -> None:
        """Give the bends the gradients of the loss so scaled.

        By the chain rule a bend's own is its coefficient at t times that of phi(t).

        Args:
            t: Where on the curve.
            weights: What has the gradients, by name; None: the model's weights.
        """
        shares = self.coefficients(t)[1:-1]
        for name, weight in (weights or self.weights).items():
            gradient, weight.grad = weight.grad, None
            if gradient is None:
                continue
            for share, bend in zip(shares[1:], self.bends[1:], strict=True):
                bend[name].grad = gradient * share
            self.bends[0][name].grad = gradient if len(shares) == 1 else gradient.mul_(shares[0])


def _like(weight: Tensor) -> Tensor:
    """Return room for a bend's weight, in float32 at least."""
    return torch.empty_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
