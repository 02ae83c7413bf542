"""The one syntax for attacked scores: ``METRIC after ATTACK[@STRENGTH]``, by the attack's title."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raymcu.errors import unknown_name

_AFTER = re.compile(r"\s*(?P<metric>\w+)(?:\s+after\s+(?P<how>\S.*?))?\s*")
_HOW = re.compile(r"(?P<title>.+?)(?:@(?P<strength>[-+]?[\d.][\d.eE+-]*))?")


@dataclass(frozen=True)
class How:
    """An attack, and a strength of it if it has several."""

    title: str
    strength: float | None = None

    @classmethod
    def parse(cls, text: str) -> "How":
        """Read ``relearn@50`` or ``quantize``; a strength that is no number is part of a title."""
        found = _HOW.fullmatch(text)
        if found is None or found["strength"] is None:
            return cls(text)
        try:
            return cls(found["title"], float(found["strength"]))
        except ValueError:
            return cls(text)

    def __str__(self) -> str:
        return self.title if self.strength is None else f"{self.title}@{self.strength:g}"

    def matches(self, title: str, strength: float | None) -> bool:
        """Say whether an attack of some strength is meant."""
        return self.title == title and self.strength in (None, strength)

    def fault(self, attacks: Mapping[str, Sequence[float | None]]) -> str | None:
        """Say what is wrong with it, given the strengths of the file's attacks by title."""
        if self.title not in attacks:
            if not attacks:
                return f"'{self.title}': this file has no attacks. Add [[attacks]] with it."
            return unknown_name("attack of this file", self.title, list(attacks))
        there = attacks[self.title]
        if not there:  # its own table has a fault, which is told there
            return None
        told = ", ".join(f"{value:g}" for value in there if value is not None)
        if self.strength is None and len(there) > 1:
            return (
                f"'{self.title}' has several strengths: {told}. Say which, e.g. "
                f"{self.title}@{there[-1]:g}."
            )
        if self.strength is not None and self.strength not in there:
            instead = f"It has {told}." if told else "It has none: leave @ and what follows out."
            return f"'{self}': the attack has no such strength. {instead}"
        return None


@dataclass(frozen=True)
class Asked:
    """A score that is asked for: of a point as it is, or after an attack."""

    metric: str
    how: How | None = None

    @classmethod
    def parse(cls, text: str) -> "Asked":
        """Read a metric, or a metric after an attack; any other text stands for itself."""
        found = _AFTER.fullmatch(text)
        if found is None:
            return cls(text)
        return cls(found["metric"], How.parse(found["how"]) if found["how"] else None)

    def __str__(self) -> str:
        return self.metric if self.how is None else f"{self.metric} after {self.how}"
