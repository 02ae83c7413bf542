"""Writes what studies say of the claims of papers: one page, Markdown, a table as Parquet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.table import Table as ConsoleTable
from rich.text import Text

from raymcu.analysis.claimed import judge, read_study
from raymcu.analysis.claims._base import FAILS, HOLDS, IN_PART, UNTOLD
from raymcu.errors import ConfigError
from raymcu.report.comparison import labels_of
from raymcu.report.console import plain_table
from raymcu.report.plain import fill, write_table
from raymcu.report.tabular import Cell, Column, Row, Table
from raymcu.store.folders import Folder
from raymcu.store.run_folder import RunFolder

PAPERS = {
    "MCU": "MCU, Mode Connectivity in Unlearning",
    "MOX": "MOX, Memorize to Forget",
    "TARF": "TARF, Decoupling the Class Label and the Target Concept",
}
_MARKS = {HOLDS: "✓", IN_PART: "~", FAILS: "✗", UNTOLD: "–"}
_KINDS = {HOLDS: "yes", FAILS: "no"}
_STYLES = {HOLDS: "green", FAILS: "red", IN_PART: "yellow", UNTOLD: "dim"}
_TOGETHER = "together"
Rows = Sequence[Mapping[str, Any]]


def write_claims(runs: Sequence[RunFolder], out: str) -> tuple[str, pa.Table]:
    """Put all claims to studies; return the page's path and table ``claims``.

    Writes ``index.html``, ``claims.md`` and ``tables/claims.parquet``.

    Args:
        runs: One run folder or more, with scores that were analyzed.
        out: Folder or URL to write to.

    Raises:
        ConfigError: If one stands there twice, or was not analyzed.
        StoreError: If a table is damaged.
    """
    faults = []
    if len({run.url for run in runs}) < len(runs):
        faults.append("RUN: name each run folder once.")
    faults += [
        f"{run.url}: was not analyzed yet. Run `raymcu analyze {run.url}` first."
        for run in runs
        if not run.parts("scores")
    ]
    if faults:
        raise ConfigError(faults)
    labels = labels_of(runs)
    found = judge([read_study(run, label) for run, label in zip(runs, labels, strict=True)])
    folder, rows = Folder(out), found.to_pylist()
    write_table(folder, "claims", found)
    folder.write_bytes("claims.md", markdown(rows).encode())
    folder.write_bytes("index.html", page(rows).encode())
    return folder.path_url("index.html"), found


def by_claim(rows: Rows) -> dict[str, dict[str | None, Mapping[str, Any]]]:
    """Return the rows of table ``claims`` by claim, and by study; None is all together."""
    found: dict[str, dict[str | None, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["claim"], {})[row["study"]] = row
    return found


def summary(rows: Rows) -> str:
    """Count the verdicts of all studies together."""
    verdicts = Counter(row["verdict"] for row in rows if row["study"] is None)
    told = f"Of {verdicts.total()} claims {verdicts[HOLDS]} hold"
    more = ((IN_PART, "hold in part"), (FAILS, "do not hold"), (UNTOLD, "cannot be told here"))
    return f"{told}, {', '.join(f'{verdicts[one]} {words}' for one, words in more)}."


def measure(row: Mapping[str, Any]) -> str:
    """Write the value of one study with its interval and the number of cases."""
    if row["value"] is None:
        return ""
    span = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['value']:.2f}{span}, n {row['num']}"


def page(rows: Rows) -> str:
    """Return the page as HTML."""
    found = by_claim(rows)
    labels = [label for label in next(iter(found.values())) if label is not None]
    papers = {}
    for paper, title in PAPERS.items():
        here = [one for one in found.values() if one[None]["paper"] == paper]
        columns = (Column("claim"), Column("where"), Column(_TOGETHER), *map(Column, labels))
        made = (Row((_said(one[None]), Cell(one[None]["section"]), _cell(one[None]),
                     *(_cell(one[label]) for label in labels))) for one in here)  # fmt: skip
        papers[title] = Table(paper, columns, tuple(made))
    return fill("claimed.html", labels=labels, summary=summary(rows), papers=papers)


def _said(row: Mapping[str, Any]) -> Cell:
    unit = "" if row["unit"] == "share" else f" ({row['unit']})"
    return Cell(row["says"], small=f"{row['tested_by']}{unit}")


def _cell(row: Mapping[str, Any]) -> Cell:
    takes = "it takes " if row["verdict"] == UNTOLD and row["study"] is not None else ""
    told = "; ".join(filter(None, (measure(row), takes + row["note"])))
    return Cell(f"{_MARKS[row['verdict']]} {row['verdict']}", kind=_KINDS.get(row["verdict"], ""),
                small=told)  # fmt: skip


def markdown(rows: Rows) -> str:
    """Return the verdicts as a table of Markdown; what no study can tell is listed behind it."""
    found = by_claim(rows)
    labels = [label for label in next(iter(found.values())) if label is not None]
    lines = [summary(rows), "", "| claim | where | together | " + " | ".join(labels) + " |"]
    lines.append("|" + "---|" * (3 + len(labels)))
    untold = []
    for one in found.values():
        whole = one[None]
        if whole["verdict"] == UNTOLD:
            untold.append(
                f"- {whole['says']} ({whole['paper']} {whole['section']}): {whole['note']}."
            )
            continue
        cells = [whole["says"], f"{whole['paper']} {whole['section']}", whole["verdict"]]
        cells += (f"{_MARKS[one[x]['verdict']]} {measure(one[x])}".strip() for x in labels)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if untold:
        lines += ["", "What none of them can tell:", "", *untold]
    return "\n".join([*lines, ""])


def claims_table(rows: Rows) -> ConsoleTable:
    """Lay the verdicts out for a terminal: a line for each claim, a column for each study."""
    found = by_claim(rows)
    labels = [label for label in next(iter(found.values())) if label is not None]
    table = plain_table("Claims of papers", summary(rows))
    table.add_column("claim", overflow="fold")
    table.add_column("where", overflow="fold")
    for head in (_TOGETHER, *labels):
        table.add_column(head, overflow="fold")
    for name, one in found.items():
        whole = one[None]
        table.add_row(
            name,
            f"{whole['paper']} {whole['section']}",
            Text(whole["verdict"], style=_STYLES[whole["verdict"]]),
            *(_text(one[label]) for label in labels),
        )
    return table


def _text(row: Mapping[str, Any]) -> Text:
    value = "" if row["value"] is None else f" {row['value']:.2f}"
    return Text(f"{_MARKS[row['verdict']]}{value}", style=_STYLES[row["verdict"]])
