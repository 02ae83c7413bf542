"""How long work tells whoever shows progress where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Running:
    """Something at work, for people to watch."""

    label: str
    fraction: float = 0.0
    """How much of it is done, in [0, 1]."""
    loss: float | None = None


class Watch(Protocol):
    """Told what just ended and what is running."""

    def __call__(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        """Take note."""
        ...
