"""How alike methods are, laid out as MCU's figure 5: a matrix whose cells show the small curves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raymcu.analysis.similarity import ITSELF
from raymcu.report.data import Curve, Study, metric_info
from raymcu.report.panels import Axis, needs_log, value_axis
from raymcu.study.settings import UnlearnerKey

PAIRS = (
    ("forget_text_loss", "retain_text_loss"),
    ("forget_loss", "retain_loss"),
    ("forget_quality_log10", "model_utility"),
    ("verbmem", "retain_knowmem"),
    ("forget_accuracy", "test_kept_accuracy"),
    ("forget_accuracy", "test_accuracy"),
    ("forget_accuracy", "retain_accuracy"),
)
"""What stands above the diagonal and what below it: of the forget set, of what is to be kept."""
SHOWN = 3
"""Of these pairs as many are drawn."""


@dataclass(frozen=True)
class Cell:
    """One pair of methods: its curves from the row's method to the column's, and the score."""

    lines: tuple[tuple[tuple[float, float], ...], ...]
    """(t, height in [0, 1] of the scale that all cells of a metric share), by t."""
    score: float | None
    note: str = ""
    """Why there is no score."""


@dataclass(frozen=True)
class Matrix:
    """One figure: every pair of methods of a setting, on one forget set, along one family."""

    setting: str
    family: str
    forget_size: str
    above: str
    """Metric above the diagonal, and on it."""
    below: str
    methods: tuple[str, ...]
    """Alike ones together."""
    cells: Mapping[tuple[int, int], Cell]
    """By row and column, of those there are."""
    logs: tuple[str, ...]
    """Of both metrics, those whose scale is logarithmic."""

    @property
    def name(self) -> str:
        """Name of its files."""
        parts = (self.setting, self.family, self.forget_size, self.above)
        return "alike_" + "_".join(part.lower().replace(" ", "-") for part in parts)


def matrices(study: Study) -> list[Matrix]:
    """Lay out every matrix with two methods or more, the losses' first."""
    known = set(study.metrics)
    pairs = [pair for pair in PAIRS if known.issuperset(pair)]
    once = {above: (above, below) for above, below in reversed(pairs)}  # one of the accuracies
    pairs = [pair for pair in pairs if once[pair[0]] == pair][:SHOWN]
    groups = unique_groups(study)
    rows: _Rows = {}
    for row in study.similarities:
        key = (row["setting"], row["forget_size"], row["family"], row["metric"])
        rows.setdefault(key, []).append(row)
    curves: dict[Group, list[Curve]] = {}
    for curve in study.curves:
        curves.setdefault((curve.setting, curve.forget_size, curve.family), []).append(curve)
    return [
        found
        for pair in pairs
        for group in groups
        if (found := _matrix(study, rows, _between(curves, group), group, pair)) is not None
    ]


Group = tuple[str, str, str]
"""Met-like setting, forget set, family."""


def unique_groups(study: Study) -> tuple[Group, ...]:
    """Return the groups that table ``similarities`` has rows of, in the plan's order."""
    there = {(row["setting"], row["forget_size"], row["family"]) for row in study.similarities}
    asked = [
        (setting, size, family)
        for setting in study.settings
        for size in study.forget_sizes
        for family in study.families
    ]
    return tuple(group for group in asked if group in there)


_Rows = dict[tuple[str, str, str, str], list[Mapping[str, Any]]]
"""Rows of table ``similarities`` by group and metric."""
_Ends = tuple[str, str]


def _matrix(
    study: Study,
    rows: _Rows,
    found: Sequence[tuple[_Ends, Curve]],
    group: Group,
    pair: tuple[str, str],
) -> Matrix | None:
    places = {row["first"]: row["first_place"] for row in rows.get((*group, "loss"), ())}
    methods = tuple(sorted(places, key=lambda method: places[method]))
    if len(methods) < 2:
        return None
    scores = {
        (metric, row["first"], row["second"]): row
        for metric in pair
        for row in rows.get((*group, metric), ())
    }
    axes = {metric: _axis(study, metric, found) for metric in pair}
    cells = {}
    for row, first in enumerate(methods):
        for column, second in enumerate(methods):
            metric = pair[0] if row <= column else pair[1]
            here, axis = scores.get((metric, first, second)), axes[metric]
            lines = tuple(
                _scaled(line, axis)
                for line in _lines(study, found, first, second, metric)
                if axis is not None
            )
            if lines or here is not None:
                score, note = (here["similarity"], here["note"] or "") if here else (None, "")
                cells[row, column] = Cell(lines, score, note)
    logs = tuple(metric for metric, axis in axes.items() if axis is not None and axis.is_log)
    return Matrix(group[0], group[2], group[1], *pair, methods, cells, logs)


def _between(curves: Mapping[Group, Sequence[Curve]], group: Group) -> list[tuple[_Ends, Curve]]:
    """Return a group's curves with the methods at both ends; a method's own, too."""
    settings = [name for name, met in ITSELF.items() if met == group[0]]
    return [
        ((_method(curve.first), _method(curve.second)), curve)
        for setting in (group[0], *settings)
        for curve in curves.get((setting, *group[1:]), ())
    ]


def _method(label: str) -> str:
    key = UnlearnerKey.read(label)
    return label if key is None else key.method


def _lines(
    study: Study, found: Sequence[tuple[_Ends, Curve]], first: str, second: str, metric: str
) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yield the curves of a pair, walked from the first to the second."""
    for ends, curve in found:
        values = study.values(curve, metric)
        if values and ends == (first, second):
            yield values
        elif values and ends == (second, first):
            yield tuple((1.0 - t, value) for t, value in reversed(values))


def _axis(study: Study, metric: str, found: Sequence[tuple[_Ends, Curve]]) -> Axis | None:
    values = [value for _, curve in found for _, value in study.values(curve, metric)]
    if not values:
        return None
    info = metric_info(metric)
    return value_axis(values, info, needs_log(values, info))


def _scaled(line: Sequence[tuple[float, float]], axis: Axis) -> tuple[tuple[float, float], ...]:
    turn = math.log if axis.is_log else float
    low, high = turn(axis.low), turn(axis.high)
    return tuple((t, (turn(value) - low) / (high - low)) for t, value in line)
