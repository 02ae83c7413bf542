"""How long work tells whoever shows progress where it stands."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
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


class Stages(Watch, Protocol):
    """Shown stage after stage, or several at once."""

    def stage(self, name: str, done: int, total: int) -> AbstractContextManager[object]:
        """Show a stage that begins with ``done`` of ``total`` items already there."""
        ...

    def stages(
        self, counts: Mapping[str, tuple[int, int]]
    ) -> AbstractContextManager[Mapping[str, Watch]]:
        """Show stages that are under way at once, each told of by itself."""
        ...

    def say(self, text: str) -> None:
        """Print a sentence that nobody must miss."""
        ...
