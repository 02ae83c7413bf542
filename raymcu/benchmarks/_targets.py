"""What names of forget sets say: which rows are given to be forgotten, and which are to go.

The four scenarios of TARF (arXiv:2406.08288), of D, the label domain of what is given, M, that of
the model's outputs, and T, that of what is to go:

- all matched, D = M = T: ``class3``, of the model's outputs; ``superclass3``, all of its classes.
- model mismatch, D = T < M: ``subclass17`` of a model that tells superclasses.
- target mismatch, D = M < T: ``class17_for_superclass``, the rest of whose superclass is hidden.
- data mismatch, D < T = M: ``subclass17_for_class``, the same of a model that tells superclasses.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from raymcu.benchmarks._base import complement

_NAME = re.compile(r"(class|subclass|superclass)(\d+)(?:_for_(class|superclass))?")
_KINDS = ("classes", "superclasses")
_SAME = {
    ("class", "superclass"): "subclass{}_for_class",
    ("superclass", None): "class{}",
    ("subclass", None): "class{}",
    ("subclass", "class"): "class{}_for_superclass",
}
"""By kind and wider kind of a name that the one labels have: what the others call the same."""


class Named(NamedTuple):
    """What the name of a forget set that is no random one says."""

    kind: str
    """``class``, an output of the model; ``subclass``, a part of one; or ``superclass``."""
    number: int
    wider: str | None
    """Kind of what is to go, if that is more than what is given."""


def named(forget_size: str) -> Named | None:
    """Read the name of a forget set; None of a random one."""
    found = _NAME.fullmatch(forget_size)
    return Named(found[1], int(found[2]), found[3]) if found else None


def class_sets(number: int) -> tuple[str, ...]:
    """Name the sets that hold one class each."""
    return tuple(f"class{label}" for label in range(number))


def grouped_sets(classes: int, superclasses: int) -> tuple[str, ...]:
    """Name the sets of as many classes, which may be in as many superclasses."""
    return (
        *class_sets(classes),
        *(f"class{label}_for_superclass" for label in range(classes)),
        *(f"superclass{label}" for label in range(superclasses)),
        *(f"subclass{label}" for label in range(classes)),
        *(f"subclass{label}_for_class" for label in range(classes)),
    )


def target_name(forget_size: str) -> str:
    """Name the set of all that is to go: ``superclass_of_class17``, or the forget set itself."""
    found = named(forget_size)
    if found is None or found.wider is None:
        return forget_size
    return f"{found.wider}_of_{found.kind}{found.number}"


def retain_name(name: str) -> str:
    """Name ``full`` without a forget set, or without all that is to go with one."""
    return f"retain_{name}" if "class" in name else complement(name)


def ruled_out(forget_size: str, hierarchy: "Hierarchy | None") -> str:
    """Say why there is no such forget set of these classes, and what to do; "" if there is."""
    asked = named(forget_size)
    if asked is None or (hierarchy is None and forget_size == f"class{asked.number}"):
        return ""
    if hierarchy is not None:
        return hierarchy.ruled_out(asked)
    return (
        "there are no superclasses. Give benchmark.superclasses: a table of names, each with a "
        "list of its classes."
    )


@dataclass(frozen=True)
class Hierarchy:
    """Classes in superclasses, of which a model tells the one or the other."""

    classes: tuple[str, ...]
    superclasses: tuple[str, ...]
    superclass_of: tuple[int | None, ...]
    """Number of each class's superclass; None of a class that is in none."""
    tells_superclasses: bool
    """Whether superclasses are the model's outputs."""
    labels: tuple[str, str] = ("classes", "superclasses")
    """What option ``labels`` calls them."""

    def classes_of(self, superclass: int) -> tuple[int, ...]:
        """Return the numbers of the classes in a superclass, ascending."""
        return tuple(n for n, of in enumerate(self.superclass_of) if of == superclass)

    def target(self, asked: Named) -> tuple[str, int]:
        """Return kind and number of what is to go with a forget set that is not `ruled_out`."""
        if asked.wider is None:
            return asked.kind, asked.number
        return asked.wider, self.superclass_of[asked.number] or 0

    def scenario(self, asked: Named) -> str:
        """Say which of TARF's scenarios a forget set is that is not `ruled_out`."""
        is_part = asked.kind == "subclass" or asked.wider is not None
        if not is_part or len(self._fellows(asked)) == 1:  # of one class alone it is the same
            return "all matched"
        if asked.wider is None:
            return "model mismatch"
        return "data mismatch" if self.tells_superclasses else "target mismatch"

    def meaning(self, asked: Named) -> str:
        """Say a forget set's scenario and what it is of, if it is not `ruled_out`."""
        target, number = self.target(asked)
        goes = f", all of '{self._names(target)[number]}'" if asked.wider else " and"
        given = self._names(asked.kind)[asked.number]
        return f"{self.scenario(asked)}: '{given}' is given{goes} is to go"

    def ruled_out(self, asked: Named) -> str:
        """Say why there is no such forget set, and what to do; "" if there is."""
        (kind, number, wider), names = asked, self._names(asked.kind)
        told, other = self.labels[self.tells_superclasses], self.labels[not self.tells_superclasses]
        known = {"subclass"} if self.tells_superclasses else {"superclass", "class"}
        if kind not in known and (kind, wider) != ("class", None):
            return (
                f"with labels = '{told}' that is '{_SAME[kind, wider].format(number)}', as the "
                f"model tells {_KINDS[self.tells_superclasses]}. Name it so, or set labels = "
                f"'{other}'."
            )
        is_whole = names is self.superclasses
        if number >= len(names):
            last = len(names) - 1
            return f"the {_KINDS[is_whole]} are 0 ('{names[0]}') to {last} ('{names[last]}')."
        if wider and not self._fellows(asked):
            return f"'{names[number]}' is in no superclass. Add it to one, or name 'class{number}'."
        if (wider or is_whole) and len(self._fellows(asked)) == len(self.classes):
            return "all classes are of that superclass, and nothing would be left."
        return ""

    def _names(self, kind: str) -> tuple[str, ...]:
        is_superclass = kind == "superclass" or (kind == "class" and self.tells_superclasses)
        return self.superclasses if is_superclass else self.classes

    def _fellows(self, asked: Named) -> tuple[int, ...]:
        """Return the classes of the superclass that a forget set is, or is a part of."""
        if self._names(asked.kind) is self.superclasses:
            return self.classes_of(asked.number)
        of = self.superclass_of[asked.number]
        return () if of is None else self.classes_of(of)
