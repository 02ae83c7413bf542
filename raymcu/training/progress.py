"""How far a training is, and what one step came to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Report = Callable[[int, int, float | None], None]
"""Told (steps done, steps in all, loss) after every step."""


@dataclass(frozen=True)
class Looks:
    """Looks at a training on its way, after equal parts of its steps, but for the last."""

    parts: int
    at: Callable[[int, Mapping[str, Tensor]], None]
    """Told how many parts are done, and shown all weights as they would be saved now, in float32 on
    the CPU, to read only. It may raise, which ends all."""

    def after(self, step: int, steps: int) -> int | None:
        """Return how many parts end with a step, from 1; None where none does, and at the last."""
        done = step * self.parts // steps
        return done if step < steps and done > (step - 1) * self.parts // steps else None


@dataclass
class Progress:
    """Where a training stands; all it needs to go on, besides weights and optimizer."""

    step: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    is_finished: bool = False
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """What methods (by number) and the curriculum (by part) carry from step to step."""
    effects: list[dict[str, Any]] = field(default_factory=list)
    """Rows of table ``g_effects``."""


@dataclass(frozen=True)
class Losses:
    """The objective of a whole batch, and its two terms where it has them."""

    total: float
    forget: float | None
    retain: float | None
    own_retain: tuple[float, ...] = ()
    """The retain term of each method by itself; 0 where it has none."""


def weighted(values: Sequence[Tensor | None], scales: Sequence[float]) -> float:
    """Return the sum of those values that there are, each times its scale."""
    there = [(v, s) for v, s in zip(values, scales, strict=True) if v is not None]
    return sum(float(value) * scale for value, scale in there)
