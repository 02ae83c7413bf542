"""Two models that answer as one: Who's Harry Potter as a rule of inference."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raymcu.methods._whp import suppressed_logits
from raymcu.models import Scorer


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

    def forward(self, *where: Any) -> Any:
        """Return the combined logits at (row, column): (positions, vocab)."""
        return suppressed_logits(self.base(*where), self.reinforced(*where), self.alpha)

    def new_cache(self) -> _Caches:
        """Return an empty cache of each model."""
        return _Caches(self.base.new_cache(), self.reinforced.new_cache())

    def next_logits(self, ids: Tensor, mask: Tensor, position: Tensor, cache: _Caches) -> Tensor:
        """Return the combined logits of the next token."""
        base = self.base.next_logits(ids, mask, position, cache.base)
        reinforced = self.reinforced.next_logits(ids, mask, position, cache.reinforced)
        return suppressed_logits(base, reinforced, self.alpha)
