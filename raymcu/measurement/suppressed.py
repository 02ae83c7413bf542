"""Two models that answer as one: Who's Harry Potter as a rule of inference."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raymcu.methods._whp import suppressed_logits
from raymcu.models.scorer import Scorer


@dataclass
class _Caches:
    """The caches of both models."""

    base: Any
    reinforced: Any

    def batch_select_indices(self, kept: Tensor) -> None:
        self.base.batch_select_indices(kept)
        self.reinforced.batch_select_indices(kept)


class Suppressed(Scorer):
    """A start model with the logits lowered that learning the forget set again has raised.

    It measures and generates like any scorer: texts are greedy decoding of the combined logits,
    as MUSE evaluates WHP. It has no weights of its own, so it is no point of a curve.

    Args:
        base: The start model.
        reinforced: The start model trained further on the forget set (``task_vector`` trains it).
        alpha: How far to lower the logits, as a multiple of their rise.
    """

    def __init__(self, base: Scorer, reinforced: Scorer, alpha: float = 1.0) -> None:
        super().__init__(base.model)
        self.base = base
        self.reinforced = reinforced
        self.alpha = alpha
        self.longest_shared = min(one.longest_shared for one in self.both)
        self.caching = base.caching  # both are of one architecture

    @property
    def both(self) -> tuple[Scorer, Scorer]:
        """The two models."""
        return self.base, self.reinforced

    def forward(self, *where: Any) -> Any:
        """Return the combined logits at (row, column): (positions, vocab)."""
        return self.logits(self.hidden(*where))

    def all_states(self, *where: Any) -> Tensor:
        """Return the final states of both models, side by side: (batch, seq, 2 hidden)."""
        return torch.cat([one.all_states(*where) for one in self.both], dim=-1)

    def tree_states(self, *where: Any) -> Tensor:
        """Return the final states of trees, of both models side by side: (batch, seq, 2 hidden)."""
        return torch.cat([one.tree_states(*where) for one in self.both], dim=-1)

    def logits(self, hidden: Tensor, head: nn.Module | None = None) -> Tensor:
        """Return the combined logits of states side by side: (positions, vocab)."""
        parts = hidden.chunk(2, dim=-1)
        base, reinforced = (o.logits(p, head) for o, p in zip(self.both, parts, strict=True))
        return suppressed_logits(base, reinforced, self.alpha)

    def new_cache(self) -> _Caches:
        """Return an empty cache of each model."""
        return _Caches(self.base.new_cache(), self.reinforced.new_cache())

    @property
    def cache_bytes(self) -> int:
        """About how many bytes a token takes in both caches."""
        return self.base.cache_bytes + self.reinforced.cache_bytes

    def extend(
        self, ids: Tensor, cache: _Caches, mask: Tensor | None = None, position: Any = None
    ) -> Tensor:
        """Return the final states of both models, side by side: (batch, new, 2 hidden)."""
        states = [
            one.extend(ids, own, mask, position)
            for one, own in zip(self.both, (cache.base, cache.reinforced), strict=True)
        ]
        return torch.cat(states, dim=-1)
