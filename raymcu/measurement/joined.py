"""Two models that answer as one, by a rule for their logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raymcu.models.scorer import Scorer

Rule = Callable[[Tensor, Tensor], Tensor]
"""Turns the logits of the first and of the second model into those of both as one."""


@dataclass
class _Caches:
    """The caches of both models."""

    own: Any
    other: Any

    def batch_select_indices(self, kept: Tensor) -> None:
        self.own.batch_select_indices(kept)
        self.other.batch_select_indices(kept)


class Joined(Scorer):
    """A model and another of its family that answer as one.

    It measures and generates like any scorer: likelihoods are of the joined logits, normalised, and
    texts are greedy decoding of them. Its weights, of which gradients are taken, are those of the
    first model. It has no blend of its own, so it is no point of a curve.

    Args:
        own: The first model, checked (`Scorer.check`).
        other: The second, of the same family and vocabulary.
        rule: How their logits are joined.
    """

    def __init__(self, own: Scorer, other: Scorer, rule: Rule) -> None:
        super().__init__(own.model, own.pad)
        self.both = (own, other)  # in a tuple, so that its parameters are those of one
        self.rule = rule
        self.longest_shared = min(one.longest_shared for one in self.both)
        self.caching = own.caching  # both are of one architecture

    def forward(self, *where: Any) -> Any:
        """Return the joined logits at (row, column): (positions, vocab)."""
        return self.logits(self.hidden(*where))

    def all_states(self, *where: Any) -> Tensor:
        """Return the final states of both models, side by side: (batch, seq, 2 hidden)."""
        return torch.cat([one.all_states(*where) for one in self.both], dim=-1)

    def tree_states(self, *where: Any) -> Tensor:
        """Return the final states of trees, of both models side by side: (batch, seq, 2 hidden)."""
        return torch.cat([one.tree_states(*where) for one in self.both], dim=-1)

    def logits(self, hidden: Tensor, head: nn.Module | None = None) -> Tensor:
        """Return the joined logits of states side by side: (positions, vocab)."""
        parts = hidden.chunk(2, dim=-1)
        own, other = (o.logits(p, head) for o, p in zip(self.both, parts, strict=True))
        return self.rule(own, other.to(own.device))

    def new_cache(self) -> _Caches:
        """Return an empty cache of each model."""
        return _Caches(*(one.new_cache() for one in self.both))

    @property
    def activation_bytes(self) -> int:
        """About how many bytes a token takes at once, both models' states together."""
        return sum(one.activation_bytes for one in self.both)

    @property
    def cache_bytes(self) -> int:
        """About how many bytes a token takes in both caches."""
        return sum(one.cache_bytes for one in self.both)

    def extend(
        self, ids: Tensor, cache: _Caches, mask: Tensor | None = None, position: Any = None
    ) -> Tensor:
        """Return the final states of both models, side by side: (batch, new, 2 hidden)."""
        caches = (cache.own, cache.other)
        states = [
            one.extend(ids, own, mask, position) for one, own in zip(self.both, caches, strict=True)
        ]
        return torch.cat(states, dim=-1)
