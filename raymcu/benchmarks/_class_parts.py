"""Which rows of a classification benchmark are in which set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raymcu.benchmarks._base import Classified, SetFacts
from raymcu.benchmarks._sets import PERTURBED
from raymcu.benchmarks._targets import Hierarchy, named, retain_name, target_name

_IMAGE_CHARACTERS = 256
"""What an image counts in estimates of cost, which take four characters for a token, and for a
token one use of every weight: a ResNet-18 uses one about 50 times, a ViT-B/16 197 times."""


@dataclass(frozen=True)
class Rows:
    """What a benchmark's files hold, each in its own order."""

    train: Sequence[Classified]
    test: Sequence[Classified]
    validation: Sequence[Classified] = ()
    """Empty where there is no such file."""


@dataclass(frozen=True)
class Parts:
    """A benchmark's rows, and which of them are held out and forgotten."""

    rows: Rows
    held: set[int]
    listed: tuple[int, ...] | None
    seed: int
    per_class: int | None
    hierarchy: Hierarchy | None

    @cached_property
    def places(self) -> list[int]:
        """Rows of ``full``, by their numbers in the training file."""
        return [index for index in range(len(self.rows.train)) if index not in self.held]

    @cached_property
    def full(self) -> Sequence[Classified]:
        return self.take(self.places)

    @cached_property
    def validation(self) -> Sequence[Classified]:
        return self.rows.validation or self.take(sorted(self.held))

    @cached_property
    def drawn(self) -> list[int]:
        """The rows of ``full`` in random order."""
        return permuted(self.places, self.seed)

    @cached_property
    def members(self) -> Mapping[int, list[int]]:
        """The rows of ``full`` of each class, in random order."""
        return grouped(self.rows.train, self.drawn, _label)

    @cached_property
    def submembers(self) -> Mapping[int, list[int]]:
        """The rows of ``full`` of each subclass, in random order."""
        return grouped(self.rows.train, self.drawn, _subclass)

    @property
    def order(self) -> Sequence[int]:
        """Which rows go first, of random forget sets."""
        return self.drawn if self.listed is None else self.listed

    def take(self, places: Iterable[int]) -> Sequence[Classified]:
        return [self.rows.train[index] for index in places]

    def given(self, name: str) -> tuple[int, ...]:
        """Return the rows of a forget set, by their numbers in the training file."""
        if asked := named(name):
            return self._of(asked.kind, asked.number, self.per_class)
        percent = int(name.removeprefix("forget"))
        if self.listed is None:
            return tuple(sorted(self.drawn[: round(percent * len(self.places) / 100)]))
        share = len(self.listed) * percent // 10
        return tuple(sorted(self.listed[:share])) if percent <= 10 else ()

    def target(self, name: str) -> tuple[int, ...]:
        """Return the rows that are to go with a forget set, likewise."""
        asked = named(name)
        if asked is None or asked.wider is None or self.hierarchy is None:
            return self.given(name)
        return self._of(*self.hierarchy.target(asked), None)

    def _of(self, kind: str, number: int, most: int | None) -> tuple[int, ...]:
        """Return the rows of a class, subclass or superclass, of each class at most so many."""
        labels: tuple[int, ...] = (number,)
        if kind == "superclass" and self.hierarchy is not None:
            labels = self.hierarchy.classes_of(number)
        members = self.submembers if kind == "subclass" else self.members
        return tuple(sorted(index for label in labels for index in members.get(label, [])[:most]))

    def without(self, places: Iterable[int]) -> Sequence[Classified]:
        """Return ``full`` without these rows."""
        gone = set(places)
        return self.take(index for index in self.places if index not in gone)

    def left_of(self, rows: Sequence[Classified], name: str) -> Sequence[Classified]:
        """Return the rows of classes of which some are left; of subclasses, if one is to go."""
        asked = named(name)
        is_part = asked is not None and asked.kind == "subclass" and asked.wider is None
        key = _subclass if is_part else _label
        left = {key(row) for row in self.without(self.target(name))}
        return [row for row in rows if key(row) in left]

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, SetFacts]]:
        """Count each forget set that has rows, and what it leaves, which must be some, too."""
        whole = count(self.full)
        for name in names:
            given, target = count(self.take(self.given(name))), target_name(name)
            if 0 < given.num_examples < whole.num_examples:
                yield name, given
                yield retain_name(name), _less(whole, given)
                if target != name:
                    gone = count(self.take(self.target(name)))
                    yield target, gone
                    yield retain_name(target), _less(whole, gone)
                    yield f"{name}{PERTURBED}", gone  # which probe forget asks


def count(rows: Sequence[Classified]) -> SetFacts:
    """Return the size of a set: one answer, the class, a row; an image counts 256 characters."""
    images = _IMAGE_CHARACTERS * sum(len(row.images) for row in rows)
    return SetFacts(len(rows), len(rows), images + sum(len(row.text) for row in rows))


def _less(whole: SetFacts, part: SetFacts) -> SetFacts:
    left = whole.num_examples - part.num_examples
    return SetFacts(left, left, whole.num_characters - part.num_characters)


def permuted(items: Sequence[int], seed: int) -> list[int]:
    """Return them in random order; numpy keeps what this generator draws as it is for ever."""
    return [items[int(index)] for index in np.random.RandomState(seed).permutation(len(items))]


def grouped(
    rows: Sequence[Classified], places: Iterable[int], key: Callable[[Classified], int]
) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index in places:
        found.setdefault(key(rows[index]), []).append(index)
    return found


def _label(row: Classified) -> int:
    return row.label


def _subclass(row: Classified) -> int:
    return -1 if row.subclass is None else row.subclass
