"""The audit of metrics as the report tells it: metrics ranked by how far they are to be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raymcu.analysis.recoveries import is_forgotten, knows
from raymcu.report.console import number
from raymcu.report.data import unique
from raymcu.report.figure_files import render
from raymcu.report.figures import MUTED, PALETTE, STYLE, Drawing
from raymcu.report.panels import slug
from raymcu.report.recovered import attack_name
from raymcu.report.tabular import Cell, Column, Row, Table
from raymcu.store.run_folder import RunFolder

_TITLES = {
    "faithfulness": "faithfulness (AUC)",
    "ou_r": "R",
    "ou_q": "Q",
    "symmetric_r": "R symmetric",
    "symmetric_q": "Q symmetric",
    "ou_robustness": "HM(R, Q)",
    "symmetric_robustness": "HM(R, Q) symmetric",
    "ou_overall": "overall",
    "symmetric_overall": "overall, symmetric",
    "accuracy": "accuracy of the threshold",
    "threshold": "threshold",
}
_DRAWN = ("faithfulness", "pearson", "ou_robustness", "ou_overall")
_MOST = 40
_MOST_PANELS = 7


@dataclass(frozen=True)
class Audited:
    """The audit of one forget set."""

    forget_size: str
    metrics: tuple[str, ...]
    """Those that tell of forgetting or have no direction, ranked: the most trusted first."""
    columns: tuple[tuple[str, str], ...]
    """(name, attack of a strength or nothing) of what is said, in order."""
    cells: Mapping[tuple[str, str, str], Mapping[str, Any]]
    """Rows of table ``metric_audits`` by metric, name and attack."""

    def value(self, metric: str, column: tuple[str, str]) -> float | None:
        """Return a number."""
        row = self.cells.get((metric, *column))
        found: float | None = row["value"] if row else None
        return found


def read_audits(run: RunFolder) -> list[Audited]:
    """Return the audits of a run, by forget set.

    Raises:
        StoreError: If the table is damaged.
    """
    rows = run.read_table("metric_audits").to_pylist()
    return [_of_size(size, rows) for size in unique(row["forget_size"] for row in rows)]


def _of_size(size: str, rows: Sequence[Mapping[str, Any]]) -> Audited:
    here = [row for row in rows if row["forget_size"] == size]
    cells = {(row["metric"], row["name"], _attack(row)): row for row in here}
    order = ("faithfulness", "pearson", *(name for name in _TITLES if name != "faithfulness"))
    found = {(row["name"], _attack(row)) for row in here if row["value"] is not None}
    columns = sorted(found, key=lambda column: (order.index(column[0]), column[1]))
    told = [m for m in unique(row["metric"] for row in here) if is_forgotten(m) or not knows(m)]
    worth = {m: _worth([row for row in here if row["metric"] == m]) for m in told}
    ranked = sorted((m for m in told if worth[m]), key=lambda m: (*(-w for w in worth[m]), m))
    return Audited(size, tuple(ranked), tuple(columns), cells)


def _attack(row: Mapping[str, Any]) -> str:
    return attack_name(row["attack"], row["strength"]) if row["attack"] is not None else ""


def _worth(rows: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Return what a metric is ranked by: overall, mean correlation, faithfulness; or nothing."""
    found = []
    for name in ("ou_overall", "pearson", "faithfulness"):
        known = [r["value"] for r in rows if r["name"] == name and r["value"] is not None]
        found.append(fmean(known) if known else -2.0)
    return tuple(found) if max(found) > -2.0 else ()


def _title(column: tuple[str, str]) -> str:
    name, attack = column
    head = f"r, {attack}" if name == "pearson" else _TITLES[name]
    return f"{head}, {attack}" if attack and name != "pearson" else head


def audit_drawings(audits: Sequence[Audited]) -> list[Drawing]:
    """Draw each audit as a ranked dot plot."""
    return [_draw(audited) for audited in audits if audited.metrics]


def _draw(audited: Audited) -> Drawing:
    drawn = (column for column in audited.columns if column[0] in _DRAWN)
    columns = [c for c in drawn if c[0] != "faithfulness" or not c[1]][:_MOST_PANELS]
    metrics = audited.metrics[:_MOST]
    left, wide, gap = 0.3 + 0.066 * max(map(len, metrics)), 1.45, 0.25
    width = max(left + len(columns) * (wide + gap) + 0.1, 5.4)
    height = 0.62 + 0.19 * len(metrics) + 0.35
    name = f"audit_{slug(audited.forget_size)}"
    title = f"Which metrics can be trusted, {audited.forget_size}"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for place, column in enumerate(columns):
            box = (
                (left + place * (wide + gap)) / width, 0.35 / height,
                wide / width, 0.19 * len(metrics) / height,
            )  # fmt: skip
            ax = figure.add_axes(box)
            for y, metric in enumerate(metrics):
                row = audited.cells.get((metric, *column), {})
                if row.get("value") is None:
                    continue
                if row["low"] is not None:
                    ax.plot([row["low"], row["high"]], [y, y], color=PALETTE[0], lw=1.6, alpha=0.5)
                ax.plot(row["value"], y, ls="", marker="o", ms=4, color=PALETTE[0])
            is_signed = any((audited.value(m, column) or 0.0) < 0 for m in metrics)
            ax.set_xlim(-1.05 if is_signed else -0.03, 1.05)
            ax.set_xticks([-1, 0, 1] if is_signed else [0, 0.5, 1])
            if column[0] == "faithfulness":
                ax.axvline(0.5, color=MUTED, lw=0.8, ls=(0, (1, 1.5)), zorder=1)
            ax.set_ylim(len(metrics) - 0.5, -0.5)
            ax.set_yticks(range(len(metrics)), metrics if not place else [])
            ax.tick_params(axis="y", length=0)
            ax.set_title(_title(column), fontsize=7.5, loc="left")
        figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5,
                    fontweight="bold")  # fmt: skip
        files = render(figure, name)
    caption = (
        "Metrics of forgetting, the most trusted first (overall, then mean correlation, then "
        "faithfulness). r: Pearson's over models, before against after an attack. Faithfulness: "
        "AUC of telling models that hold the knowledge from models that do not; dotted, chance. "
        "Lines: lowest and highest of the seeds, each by itself."
    )
    return Drawing(name, None, title, caption, files, section="audit")


def audit_table(audits: Sequence[Audited]) -> Table | None:
    """Lay all audits out; None without any."""
    columns = unique_columns(audits)
    rows: list[Row] = []
    for audited in audits:
        for place, metric in enumerate(audited.metrics):
            cells = [Cell(audited.forget_size), Cell(metric, kind="code")]
            cells += [_cell(audited, metric, column) for column in columns]
            rows.append(Row(tuple(cells), "starts" if rows and not place else ""))
    if not rows:
        return None
    heads = [
        Column(_title(column), True, in_files_only=column[0] in _IN_FILES) for column in columns
    ]
    return Table("metric_audits", (Column("forget set"), Column("metric"), *heads), tuple(rows))


_IN_FILES = ("threshold", "accuracy", "symmetric_robustness", "symmetric_overall")


def unique_columns(audits: Sequence[Audited]) -> tuple[tuple[str, str], ...]:
    """Return what any of the audits says, in order."""
    return tuple(dict.fromkeys(column for audited in audits for column in audited.columns))


def _cell(audited: Audited, metric: str, column: tuple[str, str]) -> Cell:
    row = audited.cells.get((metric, *column), {})
    value, low, high = (row.get(key) for key in ("value", "low", "high"))
    small = "" if low is None or high is None else f"{number(low, 2)} to {number(high, 2)}"
    more = {"low": "" if low is None else low, "high": "" if high is None else high}
    return Cell(number(value), "" if value is None else value, small=small, more=more)
