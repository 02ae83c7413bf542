"""What classification benchmarks share: their sets, what is forgotten, facts, and faults.

- ``full``: the training rows without those that validation takes.
- ``forget01`` to ``forget50``: so many percent of ``full``, drawn at random; the smaller are part
  of the larger. ``retain99`` to ``retain50``: ``full`` without them.
- ``class3``: a whole class by its number, or so many of it. ``retain_class3``: ``full`` without.
- Where classes are in superclasses there are more, of parts and of wholes: see `_targets`. Of
  ``class17_for_superclass`` ``retain_class17_for_superclass`` is ``full`` without what is given,
  ``superclass_of_class17`` is all that is to go, ``retain_superclass_of_class17`` what is left.
- ``test``, ``validation``; ``test_kept`` is a probe: the test rows of what is not forgotten whole.
  The probes ``forget`` and ``retain`` are what is to go and what is left; ``forget_given`` is what
  is given of it.
"""

import hashlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Classified, Facts
from raymcu.benchmarks._class_parts import Parts, Rows, count, grouped, permuted
from raymcu.benchmarks._sets import PERTURBED
from raymcu.benchmarks._targets import (
    Hierarchy,
    class_sets,
    named,
    retain_name,
    ruled_out,
    target_name,
)
from raymcu.errors import ConfigError, folded, unknown_name

RANDOM_SETS = tuple(f"forget{percent:02d}" for percent in (1, 2, 4, 5, 6, 8, 10, 20, 50))
ON_REQUEST = ("forget_given",)
PROBES = ("forget", "retain", "test", "validation", "test_kept", *ON_REQUEST)


class ClassBenchmark(Benchmark):
    """A benchmark of classification: every row is an input with one of a few classes."""

    seed: NonNegativeInt = 0
    """Draws the random forget sets; another seed, other rows."""
    indices: str | None = None
    """File of row numbers to forget instead, one a line, counted from 0 in the training file. As
    MU-Bench's lists it is read as ``forget10`` in the order of deletion: the first half is
    ``forget05``, and there is no ``forget20``."""
    per_class: PositiveInt | None = None
    """Of a class at most so many rows are given to be forgotten, drawn by ``seed``; None gives all.
    Only they are to go, except with ``class7_for_superclass`` and the like, where all is."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *class_sets(100))
    probes: ClassVar[tuple[str, ...]] = PROBES
    on_request: ClassVar[tuple[str, ...]] = ON_REQUEST

    @property
    def file_classes(self) -> tuple[str, ...]:
        """The classes of the files' labels, in the order of their numbers."""
        return self.class_names

    @property
    def hierarchy(self) -> Hierarchy | None:
        """Which classes are in which superclasses; None if they are in none."""
        return None

    @abstractmethod
    def rows(self) -> Rows:
        """Return what the files hold, labelled as they are; read again only if one changed.

        Raises:
            ConfigError: With every fault of the files.
        """

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the options that the files alone show."""
        return ()

    def as_told(self, rows: Rows) -> Rows:
        """Return the rows labelled as the model tells them."""
        return rows

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
        of = parts.hierarchy
        sets = dict(parts.sizes(size for size in self.forget_sizes if not ruled_out(size, of)))
        others = {"full": parts.full, "test": rows.test, "validation": parts.validation}
        sets |= {name: count(found) for name, found in others.items() if found}
        sets[f"retain{PERTURBED}"], sets[f"test_kept{PERTURBED}"] = sets["full"], sets["test"]
        trained = (self.class_names, _names(parts.full), parts.order, parts.drawn, self.per_class)
        asked = (_names(rows.test), _names(parts.validation))
        return Facts(hashed(trained), sets, hashed(asked))

    def training_set(self, name: str) -> Sequence[Classified]:
        """Return the set of that name, in the order of the files.

        Raises:
            ConfigError: If there is no such set, or it is empty.
        """
        sets: dict[str, tuple[str, bool, bool]] = {}
        for size in self.forget_sizes:
            for what, is_target in ((size, False), (target_name(size), True)):
                sets.setdefault(what, (size, is_target, False))
                sets.setdefault(retain_name(what), (size, is_target, True))
        others = ("full", "test", "validation")
        if name not in others and name not in sets:
            raise ConfigError(unknown_name("set", name, [*others, *sets]))
        parts = self._parts()
        if name in others:
            found = {"full": parts.full, "test": parts.rows.test}.get(name, parts.validation)
        else:
            size, is_target, is_left = sets[name]
            self._check(size)
            places = parts.target(size) if is_target else parts.given(size)
            found = parts.without(places) if is_left else parts.take(places)
        if not found:
            there = [known for known in self.facts().sets if PERTURBED not in known]
            raise ConfigError(
                f"benchmark {self.told}: its set '{name}' has no row. It has: "
                f"{', '.join(folded(there))}."
            )
        return found

    def probe(self, name: str, forget_size: str) -> Sequence[Classified]:
        """Return what is asked, in an order that mixes the classes: of a part, each has its share.

        Raises:
            ConfigError: If there is no such probe, or no row of it.
        """
        if name not in self.probes:
            raise ConfigError(unknown_name("probe", name, self.probes))
        set_of = {
            "forget": target_name(forget_size),
            "forget_given": forget_size,
            "retain": self.retrained_on(forget_size),
            "test_kept": "test",
        }
        self._check(forget_size)
        found = self.training_set(set_of.get(name, name))
        if name == "test_kept":
            found = self._parts().left_of(found, forget_size)
        return sorted(found, key=lambda row: row.key)

    def retain_of(self, forget_size: str) -> str:
        """Name ``full`` without that set: ``retain95`` of ``forget05``, ``retain_class3``.

        Raises:
            ConfigError: If there is no such forget set.
        """
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        return retain_name(forget_size)

    def retrained_on(self, forget_size: str) -> str:
        """Name ``full`` without all that is to go: ``retain_superclass_of_class17``.

        Raises:
            ConfigError: If there is no such forget set.
        """
        self.retain_of(forget_size)
        return retain_name(target_name(forget_size))

    def ruled_out(self, forget_size: str) -> str:
        """Say why these options leave no such forget set, and what to do; "" if they do not."""
        return ruled_out(forget_size, self.hierarchy)

    def scenario(self, forget_size: str) -> str:
        """Say which scenario of TARF a forget set is, see `_targets`; "" of a random one.

        Raises:
            ConfigError: If there is no such forget set.
        """
        self.retain_of(forget_size)
        asked = named(forget_size)
        self._check(forget_size)
        if asked is None or self.hierarchy is None:
            return "all matched" if asked else ""
        return self.hierarchy.scenario(asked)

    def meaning(self, forget_size: str) -> str:
        """Say a forget set's scenario and classes in words, where classes are in superclasses."""
        asked = named(forget_size)
        if asked is None or self.hierarchy is None or self.ruled_out(forget_size):
            return ""
        return self.hierarchy.meaning(asked)

    def forgotten(self, forget_size: str) -> tuple[int, ...]:
        """Return the numbers of the rows of a forget set in the training file, from 0, ascending.

        Raises:
            ConfigError: If there is no such forget set.
        """
        self.retain_of(forget_size)
        self._check(forget_size)
        return self._parts().given(forget_size)

    @property
    def told(self) -> str:
        """Its name, for messages."""
        return next(entry.name for entry in BENCHMARKS if entry.component is type(self))

    def _check(self, forget_size: str) -> None:
        if why := self.ruled_out(forget_size):
            raise ConfigError(f"benchmark {self.told}: forget set '{forget_size}': {why}")

    def _parts(self) -> Parts:
        return self._parts_of(self.rows())

    def _parts_of(self, rows: Rows) -> Parts:
        names = self.file_classes
        faults = list(self.faults())
        for name in ("train", "test", "validation"):
            faults += _label_faults(name, getattr(rows, name), len(names))
            if self.hierarchy is not None:
                faults += _subclass_faults(name, getattr(rows, name), self.hierarchy)
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
        rows = self.as_told(rows)
        held = self.held_out(rows, set(listed or ()))
        return Parts(rows, held, listed, self.seed, self.per_class, self.hierarchy)


class HeldOutBenchmark(ClassBenchmark):
    """A benchmark without validation rows of its own."""

    validation: Annotated[int, Field(ge=0, le=50)] = 10
    """Percent of each class of the training rows that are kept apart for validation, the same for
    every ``seed``. MU-Bench has none."""

    def drawn_by(self, row: Classified) -> int:
        """Return the number of the class of whose rows validation takes its share."""
        return row.label

    def held_out(self, rows: Rows, listed: set[int]) -> set[int]:
        """Return so many percent of each class, drawn by the number of the class."""
        if rows.validation:
            return set()
        taken: set[int] = set()
        for label, found in grouped(rows.train, range(len(rows.train)), self.drawn_by).items():
            free = [index for index in found if index not in listed]
            drawn = permuted(free, label)
            taken.update(drawn[: round(self.validation * len(found) / 100)])
        return taken


def _names(rows: Sequence[Classified]) -> list[tuple[str, int]]:
    return [(row.key, row.label) for row in rows]


def hashed(content: object) -> str:
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


def _subclass_faults(split: str, rows: Sequence[Classified], of: Hierarchy) -> Iterator[str]:
    known = dict(enumerate(of.superclass_of))
    wrong = [
        (index, row.label, row.subclass)
        for index, row in enumerate(rows)
        if row.subclass is not None and known.get(row.subclass) != row.label
    ]
    if wrong:
        index, label, subclass = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield (
            f"{split}: row {index}{more} has class {subclass}, which is in superclass "
            f"{known.get(subclass, 'none')}, and not in its own {label}. Correct the file."
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
