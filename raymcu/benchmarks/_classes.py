"""What classification benchmarks share: their sets, what is forgotten, facts, and faults.

- ``full``: the training rows without those that validation takes.
- ``forget01`` to ``forget50``: so many percent of ``full``, drawn at random; the smaller are part
  of the larger. ``retain99`` to ``retain50``: ``full`` without them.
- ``class3``: a whole class by its number, or so many of it. ``retain_class3``: ``full`` without.
- ``test``, ``validation``; ``test_kept`` is a probe: the test rows of classes not forgotten whole.
"""

import hashlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from raymcu.benchmarks._base import (
    BENCHMARKS,
    Benchmark,
    Classified,
    Facts,
    SetFacts,
    complement,
)
from raymcu.benchmarks._sets import PERTURBED
from raymcu.errors import ConfigError, unknown_name

RANDOM_SETS = tuple(f"forget{percent:02d}" for percent in (1, 2, 4, 5, 6, 8, 10, 20, 50))
PROBES = ("forget", "retain", "test", "validation", "test_kept")
_IMAGE_CHARACTERS = 256
"""What an image counts in estimates of cost, which take four characters for a token, and for a
token one use of every weight: a ResNet-18 uses one about 50 times, a ViT-B/16 197 times."""


def class_sets(number: int) -> tuple[str, ...]:
    """Name the sets that hold one class each."""
    return tuple(f"class{label}" for label in range(number))


@dataclass(frozen=True)
class Rows:
    """What a benchmark's files hold, each in its own order."""

    train: Sequence[Classified]
    test: Sequence[Classified]
    validation: Sequence[Classified] = ()
    """Empty where there is no such file."""


class ClassBenchmark(Benchmark):
    """A benchmark of classification: every row is an input with one of a few classes."""

    seed: NonNegativeInt = 0
    """Draws the random forget sets; another seed, other rows."""
    indices: str | None = None
    """File of row numbers to forget instead, one a line, counted from 0 in the training file. As
    MU-Bench's lists it is read as ``forget10`` in the order of deletion: the first half is
    ``forget05``, and there is no ``forget20``."""
    per_class: PositiveInt | None = None
    """Of a class at most so many rows are forgotten, drawn by ``seed``; None forgets all."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *class_sets(100))
    probes: ClassVar[tuple[str, ...]] = PROBES

    @abstractmethod
    def rows(self) -> Rows:
        """Return what the files hold; read again only if one changed.

        Raises:
            ConfigError: With every fault of the files.
        """

    def held_out(self, rows: Rows, listed: set[int]) -> set[int]:
        """Return which training rows validation takes; none of ``listed``, which are forgotten."""
        del rows, listed
        return set()

    def facts(self) -> Facts:
        """Return fingerprint and sizes; sets without a row are left out."""
        return self.facts_of(self.rows())

    def facts_of(self, rows: Rows) -> Facts:
        """Return what `facts` says of these rows."""
        parts = self._parts_of(rows)
        sets = dict(parts.sizes(self.forget_sizes))
        others = {"full": parts.full, "test": rows.test, "validation": parts.validation}
        sets |= {name: count(found) for name, found in others.items() if found}
        sets[f"retain{PERTURBED}"], sets[f"test_kept{PERTURBED}"] = sets["full"], sets["test"]
        trained = (self.class_names, _names(parts.full), parts.order, parts.drawn, self.per_class)
        asked = (_names(rows.test), _names(parts.validation))
        return Facts(_hash(trained), sets, _hash(asked))

    def training_set(self, name: str) -> Sequence[Classified]:
        """Return the set of that name, in the order of the files.

        Raises:
            ConfigError: If there is no such set, or it is empty.
        """
        kept = {self.retain_of(size): size for size in self.forget_sizes}
        known = ("full", "test", "validation", *self.forget_sizes, *kept)
        if name not in known:
            raise ConfigError(unknown_name("set", name, known))
        parts = self._parts()
        if name == "full":
            found = parts.full
        elif name in {"test", "validation"}:
            found = parts.rows.test if name == "test" else parts.validation
        elif name in kept:
            found = parts.retained(kept[name])
        else:
            found = parts.take(parts.forgotten(name))
        if not found:
            there = [known for known in self.facts().sets if PERTURBED not in known]
            raise ConfigError(
                f"benchmark {self.told}: its set '{name}' has no row. It has: {', '.join(there)}."
            )
        return found

    def probe(self, name: str, forget_size: str) -> Sequence[Classified]:
        """Return what is asked, in an order that mixes the classes: of a part, each has its share.

        Raises:
            ConfigError: If there is no such probe, or no row of it.
        """
        if name not in self.probes:
            raise ConfigError(unknown_name("probe", name, self.probes))
        kept = self.retain_of(forget_size)
        if name != "test_kept":
            found = self.training_set({"forget": forget_size, "retain": kept}.get(name, name))
        else:
            gone = self.classes_gone(forget_size)
            found = [row for row in self.training_set("test") if row.label not in gone]
        return sorted(found, key=lambda row: row.key)

    def retain_of(self, forget_size: str) -> str:
        """Name ``full`` without that set: ``retain95`` of ``forget05``, ``retain_class3``.

        Raises:
            ConfigError: If there is no such forget set.
        """
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        is_class = forget_size.startswith("class")
        return f"retain_{forget_size}" if is_class else complement(forget_size)

    def classes_gone(self, forget_size: str) -> set[int]:
        """Return the classes of which the retain set has no row left."""
        parts = self._parts()
        kept = {row.label for row in parts.retained(forget_size)}
        return set(range(len(self.class_names))) - kept

    def forgotten(self, forget_size: str) -> tuple[int, ...]:
        """Return the numbers of the rows of a forget set in the training file, from 0, ascending.

        Raises:
            ConfigError: If there is no such forget set.
        """
        self.retain_of(forget_size)
        return self._parts().forgotten(forget_size)

    @property
    def told(self) -> str:
        """Its name, for messages."""
        return next(entry.name for entry in BENCHMARKS if entry.component is type(self))

    def _parts(self) -> "_Parts":
        return self._parts_of(self.rows())

    def _parts_of(self, rows: Rows) -> "_Parts":
        names = self.class_names
        faults: list[str] = []
        for name in ("train", "test", "validation"):
            faults += _label_faults(name, getattr(rows, name), len(names))
        there = Counter(row.label for row in rows.train)
        if lacking := [name for label, name in enumerate(names) if not there[label]]:
            shown = ", ".join(map(repr, lacking[:5])) + ", …" * (len(lacking) > 5)
            faults.append(
                f"train: has no row of {len(lacking)} of the {len(names)} classes: {shown}."
            )
        if not rows.test:
            faults.append("test: has no row.")
        faults = [f"benchmark {self.told}, {fault}" for fault in faults]
        listed: tuple[int, ...] | None = None
        if self.indices is not None:
            listed, of_file = _listed(Path(self.indices).expanduser(), len(rows.train))
            faults += of_file
        if faults:
            raise ConfigError(faults)
        return _Parts(
            rows, self.held_out(rows, set(listed or ())), listed, self.seed, self.per_class
        )


class HeldOutBenchmark(ClassBenchmark):
    """A benchmark without validation rows of its own."""

    validation: Annotated[int, Field(ge=0, le=50)] = 10
    """Percent of each class of the training rows that are kept apart for validation, the same for
    every ``seed``. MU-Bench has none."""

    def held_out(self, rows: Rows, listed: set[int]) -> set[int]:
        """Return so many percent of each class, drawn by the number of the class."""
        if rows.validation:
            return set()
        taken: set[int] = set()
        for label, found in _by_label(rows.train, range(len(rows.train))).items():
            free = [index for index in found if index not in listed]
            drawn = _permuted(free, label)
            taken.update(drawn[: round(self.validation * len(found) / 100)])
        return taken


@dataclass(frozen=True)
class _Parts:
    """A benchmark's rows, and which of them are held out and forgotten."""

    rows: Rows
    held: set[int]
    listed: tuple[int, ...] | None
    seed: int
    per_class: int | None

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
        return _permuted(self.places, self.seed)

    @cached_property
    def members(self) -> Mapping[int, list[int]]:
        """The rows of ``full`` of each class, in random order."""
        return _by_label(self.rows.train, self.drawn)

    @property
    def order(self) -> Sequence[int]:
        """Which rows go first, of random forget sets."""
        return self.drawn if self.listed is None else self.listed

    def take(self, places: Iterable[int]) -> Sequence[Classified]:
        return [self.rows.train[index] for index in places]

    def forgotten(self, name: str) -> tuple[int, ...]:
        if name.startswith("class"):
            members = self.members.get(int(name.removeprefix("class")), [])
            return tuple(sorted(members[: self.per_class]))
        percent = int(name.removeprefix("forget"))
        if self.listed is None:
            return tuple(sorted(self.drawn[: round(percent * len(self.places) / 100)]))
        share = len(self.listed) * percent // 10
        return tuple(sorted(self.listed[:share])) if percent <= 10 else ()

    def retained(self, name: str) -> Sequence[Classified]:
        gone = set(self.forgotten(name))
        return self.take(index for index in self.places if index not in gone)

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, SetFacts]]:
        """Count each forget set that has rows, and what it leaves, which must be some, too."""
        whole = count(self.full)
        for name in names:
            gone = count(self.take(self.forgotten(name)))
            if 0 < gone.num_examples < whole.num_examples:
                yield name, gone
                kept = f"retain_{name}" if name.startswith("class") else complement(name)
                left = whole.num_examples - gone.num_examples
                yield kept, SetFacts(left, left, whole.num_characters - gone.num_characters)


def count(rows: Sequence[Classified]) -> SetFacts:
    """Return the size of a set: one answer, the class, a row; an image counts 256 characters."""
    images = _IMAGE_CHARACTERS * sum(len(row.images) for row in rows)
    return SetFacts(len(rows), len(rows), images + sum(len(row.text) for row in rows))


def _permuted(items: Sequence[int], seed: int) -> list[int]:
    """Return them in random order; numpy keeps what this generator draws as it is for ever."""
    return [items[int(index)] for index in np.random.RandomState(seed).permutation(len(items))]


def _by_label(rows: Sequence[Classified], places: Iterable[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index in places:
        found.setdefault(rows[index].label, []).append(index)
    return found


def _names(rows: Sequence[Classified]) -> list[tuple[str, int]]:
    return [(row.key, row.label) for row in rows]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]


def _label_faults(split: str, rows: Sequence[Classified], number: int) -> Iterator[str]:
    wrong = [(index, row.label) for index, row in enumerate(rows) if not 0 <= row.label < number]
    if wrong:
        index, label = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield (
            f"{split}: row {index}{more} has label {label}, which is outside the classes 0 to "
            f"{number - 1}. Correct the file."
        )


def _listed(path: Path, size: int) -> tuple[tuple[int, ...], list[str]]:
    """Return the row numbers of a file, and what is wrong with it."""
    remedy = "Correct it, or leave `indices` out to draw rows by `seed`."
    where = f"benchmark.indices = '{path}'"
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        return (), [f"{where}: cannot be read ({error}). {remedy}"]
    if wrong := [line for line in lines if not line.isdigit()]:
        return (), [f"{where}: {wrong[0]!r} is no row number, which count from 0. {remedy}"]
    found, faults = tuple(map(int, lines)), []
    if outside := [index for index in found if index >= size]:
        faults.append(
            f"{where}: {len(outside)} of its row numbers are outside the training set, which has 0 "
            f"to {size - 1}, e.g. {outside[0]}. {remedy}"
        )
    if len(set(found)) < len(found):
        twice = next(index for index, times in Counter(found).items() if times > 1)
        faults.append(f"{where}: names row {twice} twice. {remedy}")
    if not found:
        faults.append(f"{where}: names no row. {remedy}")
    return found, faults
