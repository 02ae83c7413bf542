"""How far a training is, and what one step came to."""

from dataclasses import dataclass, field
from typing import Any


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
