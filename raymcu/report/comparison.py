"""Writes studies side by side: one page, and its tables as Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from raymcu.analysis.side_by_side import Side, compare, read_side
from raymcu.errors import ConfigError
from raymcu.report.console import number
from raymcu.report.data import metric_info, pair_label
from raymcu.report.plain import fill, write_table
from raymcu.report.tabular import Cell, Column, Row, Table
from raymcu.store.folders import Folder
from raymcu.store.run_folder import RunFolder

_KINDS = ("connected", "better", "alike", "harder", "verdict")
Rows = Sequence[Mapping[str, Any]]


def write_comparison(runs: Sequence[RunFolder], out: str) -> str:
    """Compare studies; write ``index.html`` and ``tables/*.parquet``; return the page's path.

    Args:
        runs: Two run folders or more, with scores that were analyzed.
        out: Folder or URL to write to.

    Raises:
        ConfigError: If there are fewer than two, one stands there twice, or none was analyzed.
        StoreError: If a table is damaged.
    """
    faults = []
    if len({run.url for run in runs}) < max(2, len(runs)):
        faults.append("RUN: name two run folders or more, each once.")
    faults += [
        f"{run.url}: was not analyzed yet. Run `raymcu analyze {run.url}` first."
        for run in runs
        if not run.parts("findings")
    ]
    if faults:
        raise ConfigError(faults)
    sides = [read_side(run, label) for run, label in zip(runs, labels_of(runs), strict=True)]
    found, folder = compare(sides), Folder(out)
    for name, table in found.items():
        write_table(folder, name, table)
    folder.write_bytes("index.html", render(sides, found).encode())
    return folder.path_url("index.html")


def labels_of(runs: Sequence[RunFolder]) -> list[str]:
    """Name runs by their folders, or where these are alike by so many of their parents, too."""
    parts = [PurePosixPath(run.root).parts for run in runs]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        labels = ["/".join(one[-depth:]) for one in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [run.url for run in runs]


def render(sides: Sequence[Side], found: Mapping[str, pa.Table]) -> str:
    """Return the page as HTML."""
    labels = [side.label for side in sides]
    rows = {name: table.to_pylist() for name, table in found.items()}
    keys = {row["key"]: row["is_same"] for row in rows["asked"]}
    tables = {
        "asked": _asked(rows["asked"], labels),
        "claims": _claims(rows["claims"]),
        "curves": _curves(rows["curves"], labels),
        "models": _models(rows["models"], labels),
    }
    return fill(
        "comparison.html",
        labels=labels,
        summary=summary(rows["claims"], len(labels)),
        notes=[*_shared_note(rows["models"]), *filter(None, map(_seed_note, sides))],
        num_same=sum(keys.values()),
        num_agreed=sum(row.cells[-1].kind == "yes" for row in tables["curves"].rows),
        tables=tables,
        files=list(found),
    )


def summary(claims: Rows, num_studies: int) -> str:
    """Say how much holds in all studies."""
    all_of_them = [row for row in claims if row["num_studies"] == num_studies]
    holding = sum(row["holds_in_all"] for row in all_of_them)
    sure = sum(bool(row["is_sure"]) for row in all_of_them if row["holds_in_all"])
    return (
        f"Of {len(all_of_them)} statements that all {num_studies} studies can bear out, {holding} "
        f"hold in all of them, {sure} of these surely."
    )


def _shared_note(rows: Rows) -> list[str]:
    """Say how many models are the same in several studies, if any are."""
    shared = {(row["forget_size"], row["label"]) for row in rows if row["is_same_point"]}
    if not shared:
        return []
    return [f"{len(shared)} models are the same in several of them, and count once."]


def _seed_note(side: Side) -> str:
    seeds = (side.space.get("unlearning") or {}).get("seeds") or ()
    return f"{side.label} has one seed: its scores have no spread." if len(seeds) == 1 else ""


def _asked(rows: Rows, labels: Sequence[str]) -> Table:
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if not row["is_same"]:
            found.setdefault(row["key"], {})[row["study"]] = row["value"] or "–"
    columns = (Column("key"), *map(Column, labels))
    made = (
        Row((Cell(key), *(Cell(values.get(label, "–")) for label in labels)))
        for key, values in found.items()
    )
    return Table("asked", columns, tuple(made))


def _claims(rows: Rows) -> Table:
    columns = (
        Column("statement"),
        Column("holds in"),
        Column("estimate", True),
        Column("95% interval"),
        Column("sure"),
    )
    order = sorted(
        rows,
        key=lambda row: (
            not row["holds_in_all"],
            not row["is_sure"],
            _KINDS.index(row["kind"]),
            row["statement"],
        ),
    )
    made = []
    for row in order:
        kind = "yes" if row["holds_in_all"] else "no" if not row["holds_in"] else ""
        has_interval = row["low"] is not None
        span = f"{number(row['low'])} to {number(row['high'])}" if has_interval else "–"
        made.append(
            Row((
                Cell(row["statement"]),
                Cell(f"{row['holds_in']} of {row['num_studies']}", kind=kind),
                Cell(number(row["estimate"]), small=row["unit"] or ""),
                Cell(span, small=f"{row['num_values']} values"),
                Cell("✓" if row["is_sure"] else ""),
            ))
        )  # fmt: skip
    return Table("claims", columns, tuple(made))


def _curves(rows: Rows, labels: Sequence[str]) -> Table:
    found: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["num_studies"] > 1:
            pair = pair_label(row["first"], row["second"])
            key = (row["setting"], row["forget_size"], pair, row["family"])
            found.setdefault(key, {})[row["study"]] = row
    heads = ("setting", "forget set", "pair", "curve")
    columns = (*map(Column, heads), *map(Column, labels), Column("same"))
    made = []
    for names, here in found.items():
        is_agreed = next(iter(here.values()))["is_agreed"]
        same = Cell("✓ yes" if is_agreed else "✗ no", kind="yes" if is_agreed else "no")
        made.append(Row((*map(Cell, names), *(_verdict(here.get(s)) for s in labels), same)))
    return Table("curves", columns, tuple(made))


def _verdict(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    text = {True: "✓ yes", False: "✗ no", None: "–"}[row["is_connected"]]
    return Cell(text, small=number(max(row["retain_barrier"], row["forget_barrier"])))


def _models(rows: Rows, labels: Sequence[str]) -> Table:
    found: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["num_studies"] > 1:
            key = (row["forget_size"], row["label"], row["metric"])
            found.setdefault(key, {})[row["study"]] = row
    columns = (
        *map(Column, ("forget set", "model", "metric")),
        *(Column(label, True) for label in labels),
        Column("="),
    )
    made = []
    for (size, label, metric), here in found.items():
        is_same = next(iter(here.values()))["is_same_point"]
        cells = (Cell(size), Cell(label), Cell(metric_info(metric).label))
        values = (_score(here.get(study)) for study in labels)
        made.append(Row((*cells, *values, Cell("=" if is_same else ""))))
    return Table("models", columns, tuple(made))


def _score(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    has_interval = row["low"] is not None
    small = f"{number(row['low'])} to {number(row['high'])}" if has_interval else ""
    return Cell(number(row["value"]), row["value"], small=small)
