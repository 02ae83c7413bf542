"""Ensembles of curves beside their ends and best point inside: tables of the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raymcu.report.console import number
from raymcu.report.data import Study, metric_info, pair_label, unique
from raymcu.report.page_tables import metric_column
from raymcu.report.tabular import Cell, Column, Row, Table

Rows = Sequence[Mapping[str, Any]]


def kind_label(row: Mapping[str, Any]) -> str:
    """Name what a row of table ``ensembles`` is of."""
    if row["kind"] == "ensemble":
        return f"ensemble of {row['num_inside']}"
    return {"inside": "best inside"}.get(row["kind"], str(row["kind"]))


def gains_table(study: Study, metrics: Iterable[str]) -> Table | None:
    """Sum up over curves how often, and by how much, each kind gains over the better end.

    None without rows of these metrics.
    """
    metrics = set(metrics)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in study.ensembles:
        if row["metric"] in metrics and row["gain_test"] is not None:
            groups.setdefault((row["metric"], kind_label(row)), []).append(row)
    if not groups:
        return None
    columns = (
        *map(Column, ("metric", "model")),
        Column("curves", True),
        Column("better, chosen half", True, "Curves where it is better on the validation half."),
        Column("better, test half", True, "Of all curves."),
        Column("survives", True, "Better on the validation half, and surely on the test half."),
        *(Column(f"mean gain, {half} half", True) for half in ("chosen", "test")),
    )
    made: list[Row] = []
    for metric, kind in sorted(groups, key=lambda key: key[0]):
        rows = groups[metric, kind]
        counts = [
            sum(row["gain_validation"] > 0 for row in rows),
            sum(row["gain_test"] > 0 for row in rows),
            sum(bool(row["survives"]) for row in rows),
        ]
        means = [
            sum(row[f"gain_{half}"] for row in rows) / len(rows) for half in ("validation", "test")
        ]
        cells = (
            Cell(metric_info(metric).label, more={"name": metric}),
            Cell(kind),
            *(Cell(str(count), count) for count in (len(rows), *counts)),
            *(Cell(number(mean), mean) for mean in means),
        )
        starts = bool(made) and made[-1].cells[0].text != cells[0].text
        made.append(Row(cells, "starts" if starts else ""))
    return Table("ensemble_gains", columns, tuple(made))


def ensembles_table(study: Study, metrics: Sequence[str]) -> Table | None:
    """Lay every curve out: a row for each model, a column for each metric on the test half.

    None without rows of these metrics.
    """
    rows = [row for row in study.ensembles if row["metric"] in set(metrics)]
    if not rows:
        return None
    shown = [metric for metric in metrics if any(row["metric"] == metric for row in rows)]
    columns = (
        *map(Column, ("setting", "forget set", "pair", "curve", "model")),
        *(metric_column(metric) for metric in shown),
    )
    made: list[Row] = []
    for curve in unique(row["curve_id"] for row in rows):
        of_curve = [row for row in rows if row["curve_id"] == curve]
        for place, kind in enumerate(sorted(unique(map(kind_label, of_curve)), key=_order)):
            here = {row["metric"]: row for row in of_curve if kind_label(row) == kind}
            head = next(iter(here.values()))
            names = (
                head["setting"],
                head["forget_size"],
                pair_label(head["first"], head["second"]),
            )
            cells = (
                *map(Cell, (*names, head["family"], kind)),
                *(_value(here.get(metric)) for metric in shown),
            )
            made.append(Row(cells, "starts" if made and not place else ""))
    return Table("ensembles", columns, tuple(made))


_KINDS = ("first", "second", "best inside")


def _order(kind: str) -> tuple[int, int]:
    if kind in _KINDS:
        return _KINDS.index(kind), 0
    return len(_KINDS), int(kind.rsplit(" ", 1)[1])


def _value(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–", "")
    names = ("value", "validation", "gain_validation", "gain_test", "gain_low", "gain_high")
    more = {name: "" if row[name] is None else row[name] for name in names}
    small = ""
    if row["gain_test"] is not None:
        small = f"{'✓' if row['survives'] else ''} {row['gain_test']:+.3g}".strip()
    if row["kind"] == "inside":
        small += f" at t = {row['t']:.2f}"
    return Cell(number(row["test"]), row["test"], small=small, more=more)
