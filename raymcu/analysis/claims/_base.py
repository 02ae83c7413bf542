"""What a claim is: a pure function of what one study found, with what the paper says of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from raymcu.analysis.side_by_side import student_interval, wilson
from raymcu.registry import Registry
from raymcu.study.settings import UnlearnerKey

Verdict = Literal["holds", "holds in part", "does not hold", "cannot be told here"]
HOLDS: Verdict = "holds"
IN_PART: Verdict = "holds in part"
FAILS: Verdict = "does not hold"
UNTOLD: Verdict = "cannot be told here"

MOST, FEW = 0.75, 0.25
"""Of the cases: from the first share on a claim holds, down to the second it does not."""
Row = Mapping[str, Any]

TABLES = (
    *("findings", "metric_findings", "similarities", "difficulties", "rank_correlations"),
    *("ensembles", "geometry", "attack_findings", "attack_curvatures"),
)
"""What claims read beside the models' scores."""


@dataclass(frozen=True)
class Found:
    """What one study says of a claim."""

    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the value's 95% interval; None where there is none."""
    num: int = 0
    """Cases that the value is taken over."""
    note: str = ""
    """Why it cannot be told, or what else there is to say."""


@dataclass(frozen=True)
class Study:
    """One study as claims read it."""

    label: str
    space: Mapping[str, Any]
    is_of_classes: bool = False
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Rows of those of `TABLES` that it has; of ``geometry`` those of whole
    models of one forget set, with the ``forget_size`` and ``role`` of the first."""
    models: Sequence[Row] = ()
    """Single models and points of walks: ``role``, ``label``, ``forget_size``, ``family``,
    ``second`` and ``t`` as table points has them, and ``scores`` by metric."""

    def rows(self, table: str, **wanted: Any) -> list[Row]:
        """Return the rows of a table with those values; a tuple stands for any of its values."""
        return [row for row in self.tables.get(table, ()) if _has(row, wanted)]

    def scored(self, **wanted: Any) -> list[Row]:
        """Return single models and points of walks with those values, as `rows` does."""
        return [row for row in self.models if _has(row, wanted)]

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Components by title of a method, e.g. ``npo``, and with a mask ``grad_diff+wagle``."""
        found = {}
        for method in self.space.get("methods", ()):
            mask = (method.get("mask") or {}).get("name")
            kind = f"{method['name']}+{mask}" if mask else method["name"]
            found[method.get("label") or method["name"]] = kind
        return found

    def kind(self, label: str) -> str | None:
        """Return the component that made the model of a label; None if no method did."""
        return self.kinds.get(title_of(label))

    def titles(self, *kinds: str) -> list[str]:
        """Return the titles of the methods of those components."""
        return [title for title, kind in self.kinds.items() if kind in kinds]


def title_of(label: str) -> str:
    """Return the title of the method that made the model of a label."""
    key = UnlearnerKey.read(label)
    return key.method if key else label


def _has(row: Row, wanted: Mapping[str, Any]) -> bool:
    return all(
        row.get(name) in value if isinstance(value, tuple) else row.get(name) == value
        for name, value in wanted.items()
    )


Test = Callable[[Study], Found]


@dataclass(frozen=True)
class Claim:
    """A claim: what is said, by what it is tested here, and the test."""

    paper: str
    section: str
    says: str
    tested_by: str
    unit: str
    test: Test

    def __call__(self, study: Study) -> Found:
        """Return what a study says of it."""
        return self.test(study)


CLAIMS: Registry[Claim] = Registry("claim", "raymcu.analysis.claims", "Claim")


def claim(
    name: str, paper: str, section: str, *, by: str, unit: str = "share"
) -> Callable[[Test], Test]:
    """Return a decorator that files a test of a claim; its docstring is the claim, in a sentence.

    Args:
        name: Short and unique.
        paper: MCU, MOX or TARF.
        section: Where it is said: a section, figure or table.
        by: What of our tables tests it, with the thresholds.
        unit: Of the value.
    """

    def add(test: Test) -> Test:
        says = " ".join((test.__doc__ or "").split())
        made = Claim(paper, section, says, by, unit, test)
        CLAIMS.register(name, source=f"{paper}, {section}", described_by=test)(made)
        return test

    return add


def share(  # noqa: PLR0913 - bounds, by name
    cases: Iterable[bool],
    lacks: str,
    *,
    holds: float = MOST,
    fails: float = FEW,
    chance: float | None = None,
    least: int = 2,
    note: str = "",
) -> Found:
    """Judge a claim by the share of cases that bear it out, with Wilson's 95% interval.

    Args:
        cases: Whether each does.
        lacks: What a study without any lacks.
        holds: Least share at which it holds.
        fails: Largest share at which it does not; in between it holds in part.
        chance: Share that chance makes; where the interval reaches down to it, it does not hold.
        least: Fewest cases that are told.
        note: What else there is to say.
    """
    found = list(cases)
    if len(found) < least:
        return _untold(len(found), least, lacks)
    here = sum(found) / len(found)
    low, high = wilson(sum(found), len(found))
    verdict = HOLDS if here >= holds else FAILS if here <= fails else IN_PART
    if chance is not None and low <= chance:
        verdict = FAILS
    return Found(verdict, here, max(0.0, low), min(1.0, high), len(found), note)


def some(
    cases: Iterable[bool], lacks: str, *, least: int = 2, enough: int = 10, note: str = ""
) -> Found:
    """Judge a claim that something occurs: one case is enough, told as the share of all.

    Args:
        cases: Whether it occurs in each.
        lacks: What a study without any lacks.
        least: Fewest cases that are told.
        enough: Fewest cases without it of which is said that it does not occur.
        note: What else there is to say.
    """
    found = list(cases)
    if len(found) >= least and not any(found):
        least = enough
    return share(found, lacks, holds=0.5 / max(1, len(found)), fails=0.0, least=least, note=note)


def level(
    values: Iterable[float],
    lacks: str,
    *,
    holds: float,
    fails: float,
    least: int = 2,
    note: str = "",
) -> Found:
    """Judge a claim by a mean, with Student's 95% interval.

    Args:
        values: Of single cases.
        lacks: What a study without any lacks.
        holds: Value from which on it holds, towards the far side of ``fails``.
        fails: Value from which on it does not.
        least: Fewest cases that are told.
        note: What else there is to say.
    """
    found = [float(value) for value in values]
    if len(found) < least:
        return _untold(len(found), least, lacks)
    here, sign = float(np.mean(found)), 1 if holds > fails else -1
    verdict = (
        HOLDS if sign * (here - holds) >= 0 else FAILS if sign * (here - fails) <= 0 else IN_PART
    )
    return Found(verdict, here, *student_interval(found), len(found), note)


def _untold(num: int, least: int, lacks: str) -> Found:
    why = f"{least} cases or more, not {num}: {lacks}" if num else lacks
    return Found(UNTOLD, num=num, note=why)


def barrier(curve: Row) -> float:
    """Return the larger of both barriers of a row of table findings, in nats."""
    return max(float(curve["retain_barrier"]), float(curve["forget_barrier"]))


Cell = tuple[Any, ...]


def grouped(rows: Iterable[Row], *names: str) -> dict[Cell, list[Row]]:
    """Group rows by columns."""
    groups: dict[Cell, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def pairs_of(curves: Iterable[Row]) -> dict[Cell, list[Row]]:
    """Group curves that were judged by the pair they connect."""
    judged = (curve for curve in curves if curve["is_connected"] is not None)
    return grouped(judged, "setting", "forget_size", "first", "second")


Likeness = Mapping[frozenset[str], float]
"""Of pairs of methods, by their titles."""


def likenesses(
    study: Study, *metrics: str, families: tuple[str, ...] = ("linear",)
) -> Mapping[Cell, Likeness]:
    """Return likenesses of two methods by forget set, setting, kind of curve and metric."""
    found: dict[Cell, dict[frozenset[str], float]] = {}
    for row in study.rows("similarities", family=families, metric=metrics):
        if row["similarity"] is not None and row["first"] != row["second"]:
            cell = tuple(row[name] for name in ("forget_size", "setting", "family", "metric"))
            found.setdefault(cell, {})[frozenset((row["first"], row["second"]))] = row["similarity"]
    return found
