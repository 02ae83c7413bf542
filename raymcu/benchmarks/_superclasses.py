"""Benchmarks whose classes may be put into superclasses, for targets that are no class."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from raymcu.benchmarks._base import Classified, Facts
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import HeldOutBenchmark, hashed
from raymcu.benchmarks._targets import Hierarchy
from raymcu.errors import unknown_name


class GroupedBenchmark(HeldOutBenchmark):
    """A benchmark of classes that may be in superclasses of the user's."""

    superclasses: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    """Names of superclasses, numbered in this order, each with the names of its classes. They add
    sets to forget: ``class7_for_superclass`` and ``superclass1``, or with labels = "superclasses"
    ``subclass7`` and ``subclass7_for_class``."""
    labels: Literal["classes", "superclasses"] = "classes"
    """What the model tells. Of superclasses, every class must be in one; the rows that validation
    takes are the same."""

    @property
    @abstractmethod
    def file_classes(self) -> tuple[str, ...]:
        """The classes of the files' labels, in the order of their numbers."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, or the superclasses."""
        return tuple(self.superclasses) if self.labels == "superclasses" else self.file_classes

    @property
    def hierarchy(self) -> Hierarchy | None:
        """Which classes are in which superclasses; None if they are in none."""
        if not self.superclasses:
            return None
        of = {name: n for n, names in enumerate(self.superclasses.values()) for name in names}
        return Hierarchy(
            self.file_classes,
            tuple(self.superclasses),
            tuple(of.get(name) for name in self.file_classes),
            tells_superclasses=self.labels == "superclasses",
        )

    def as_told(self, rows: Rows) -> Rows:
        """Return the rows labelled as the model tells them."""
        hierarchy = self.hierarchy
        if hierarchy is None or not hierarchy.tells_superclasses:
            return rows
        number = {n: of for n, of in enumerate(hierarchy.superclass_of) if of is not None}
        parts = (
            [replace(row, label=number[row.label], subclass=row.label) for row in part]
            for part in (rows.train, rows.test, rows.validation)
        )
        return Rows(*parts)

    def drawn_by(self, row: Classified) -> int:
        """Return the number of the class, whatever the model tells."""
        return row.label if row.subclass is None else row.subclass

    def facts_of(self, rows: Rows) -> Facts:
        """Return what `facts` says of these rows; superclasses are part of the content."""
        facts = super().facts_of(rows)
        if not self.superclasses:
            return facts
        trained, *others = (
            [row.label for row in part] for part in (rows.train, rows.test, rows.validation)
        )
        options = (self.labels, list(self.superclasses.items()))
        return replace(
            facts,
            fingerprint=hashed((facts.fingerprint, options, trained)),
            asked=hashed((facts.asked, others)),
        )

    def faults(self) -> Iterator[str]:
        """Say which classes are unknown, in two superclasses, or in none."""
        known = self.file_classes
        place: dict[str, str] = {}
        for superclass, names in self.superclasses.items():
            for name in names:
                where = f"superclasses.{superclass}"
                if name not in known:
                    yield f"{where}: {unknown_name('class', name, known)}"
                elif name in place:
                    yield f"{where}: class '{name}' is in {place[name]} too. Leave it in one."
                place.setdefault(name, where)
        if self.labels == "superclasses":
            lacking = ", ".join(f"'{name}'" for name in known if name not in place)
            if not self.superclasses:
                yield "labels = 'superclasses': there are none. Give superclasses."
            elif lacking:
                yield f"labels = 'superclasses': {lacking} in none of them. Add each to one."
            elif len(self.superclasses) == 1:
                yield "labels = 'superclasses': there is only one. Give at least two."
