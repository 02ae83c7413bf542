"""How hard forget sets are to unlearn, by method: rows of tables and figures, and the ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymcu.report.console import number
from raymcu.report.data import Study
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    MARKERS,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    legend_rows,
)
from raymcu.report.panels import balanced, slug
from raymcu.report.tabular import Cell, Column, Row, Table

MAX_ROWS = 40
Rows = Sequence[Mapping[str, Any]]


def ranked(study: Study, setting: str) -> list[tuple[str, str | None, Rows]]:
    """Return what a setting's difficulties are of, hardest first: forget set, method, its rows.

    By the mean over curve families. What is undefined is left out.
    """
    groups: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    for row in study.difficulties:
        if row["setting"] == setting and row["difficulty"] is not None:
            groups.setdefault((row["forget_size"], row["method"]), []).append(row)
    means = {key: sum(r["difficulty"] for r in rows) / len(rows) for key, rows in groups.items()}
    order = sorted(groups, key=lambda key: (-means[key], key[0], key[1] or ""))
    return [(size, method, groups[size, method]) for size, method in order]


def settings_of(study: Study) -> tuple[str, ...]:
    """Return the settings that difficulties are taken from, in the plan's order."""
    there = {row["setting"] for row in study.difficulties}
    return tuple(setting for setting in study.settings if setting in there)


def difficulty_table(study: Study) -> Table | None:
    """Lay the difficulties out, hardest first within a setting; None without any."""
    if not study.difficulties:
        return None
    parts = ("barrier", "curvature", "variation", "disconnected")
    columns = (
        *map(Column, ("setting", "curve", "forget set", "method")),
        Column("difficulty", True, "Mean of the four parts, in [0, 1]; below, range over curves."),
        *(Column(part, True) for part in parts),
        *(Column(name, True) for name in ("curves", "seeds")),
        Column("cost", True, "Nats of retain loss risen for each of forget loss gained."),
    )
    order = {setting: place for place, setting in enumerate(study.settings)}
    rows = sorted(
        study.difficulties,
        key=lambda row: (order.get(row["setting"], 0), row["family"], -(row["difficulty"] or -1)),
    )
    made: list[Row] = []
    for row in rows:
        starts = bool(made) and [made[-1].cells[0].text, made[-1].cells[1].text] != [
            row["setting"],
            row["family"],
        ]
        kind = ("reference" if row["method"] is None else "") + (" starts" if starts else "")
        made.append(Row(_cells(row, parts), kind.strip()))
    return Table("difficulties", columns, tuple(made))


def _cells(row: Mapping[str, Any], parts: Sequence[str]) -> tuple[Cell, ...]:
    small = ""
    if row["difficulty"] is None:
        small = row["note"] or ""
    elif row["num_curves"] > 1:
        small = f"{number(row['lowest'])} to {number(row['highest'])}"
    more = {"deviation": row["deviation"], "lowest": row["lowest"], "highest": row["highest"]}
    return (
        *map(Cell, (row["setting"], row["family"], row["forget_size"], row["method"] or "all")),
        Cell(number(row["difficulty"]), _plain(row["difficulty"]), small=small, more=more),
        *(Cell(number(row[part]), _plain(row[part])) for part in parts),
        *(Cell(str(row[name]), row[name]) for name in ("num_curves", "num_seeds")),
        Cell(number(row["cost"]), _plain(row["cost"])),
    )


def _plain(value: float | None) -> Any:
    return "" if value is None else value


def correlation_table(study: Study) -> Table | None:
    """Lay the rank correlations out that have a value; None without any."""
    found = [row for row in study.rank_correlations if row["spearman"] is not None]
    if not found:
        return None
    columns = (
        *map(Column, ("setting", "curve", "measure")),
        Column("expected", note="Sign that the correlation has if both say what is hard."),
        Column("over"),
        Column("values", True),
        Column("Spearman", True),
    )
    rows = [
        Row((
            *map(Cell, (row["setting"], row["family"], row["measure"].replace("_", " "))),
            Cell("+" if row["sign"] > 0 else "−"),
            Cell(row["over"]),
            Cell(str(row["num"]), row["num"]),
            Cell(f"{row['spearman']:+.2f}", row["spearman"]),
        ))
        for row in found
    ]  # fmt: skip
    return Table("rank_correlations", columns, tuple(rows))


def seeds_note(study: Study) -> str:
    """Say how many seeds the difficulties rest on, where that is fewer than spread would take."""
    least = min((row["num_seeds"] for row in study.difficulties), default=0)
    if least == 1:
        return "Some rest on one seed: nothing is known of how far others may lie."
    return "" if least != 2 else "Two seeds make one Rand curve, which has no spread."


def difficulty_drawings(study: Study) -> list[Drawing]:
    """Draw a ranking for each setting, the first one's at once."""
    made = []
    for place, setting in enumerate(settings_of(study)):
        ranks = ranked(study, setting)
        chunks = balanced(ranks, MAX_ROWS) if ranks else []
        for part, chunk in enumerate(chunks):
            name = f"difficulty_{slug(setting)}" + (f"_{part + 1}" if len(chunks) > 1 else "")
            made.append(_draw(study, setting, name, chunk, is_headline=place == 0))
    return made


def _draw(
    study: Study,
    setting: str,
    name: str,
    ranks: Sequence[tuple[str, str | None, Rows]],
    *,
    is_headline: bool,
) -> Drawing:
    labels = [f"{size}, {method or 'all methods'}" for size, method, _ in ranks]
    families = [
        f for f in study.families if any(r["family"] == f for _, _, rs in ranks for r in rs)
    ]
    handles = [Line2D([], [], ls="", label=family, **_mark(n)) for n, family in enumerate(families)]
    left = 0.2 + 0.078 * max(map(len, labels))
    width = left + 4.2
    legend = legend_rows(handles, width - 0.2)
    top, bottom = 0.42 + LEGEND_ROW * len(legend), 0.42
    height = top + bottom + 0.22 * len(ranks)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        ax = figure.add_axes(
            (left / width, bottom / height, 4.0 / width, 0.22 * len(ranks) / height)
        )
        for place, (_, _, rows) in enumerate(ranks):
            for row in rows:
                which = families.index(row["family"])
                y = place + 0.14 * (which - (len(families) - 1) / 2)
                color = PALETTE[which % len(PALETTE)]
                ax.plot([row["lowest"], row["highest"]], [y, y], color=color, lw=1.2, alpha=0.6)
                ax.plot([row["difficulty"]], [y], ls="", clip_on=False, **_mark(which))
        ax.set_ylim(len(ranks) - 0.5, -0.5)
        ax.set_xlim(0, 1)
        ax.set_yticks(range(len(labels)), labels)
        for text, (_, method, _) in zip(ax.get_yticklabels(), ranks, strict=True):
            text.set_fontweight("bold" if method is None else "normal")
            text.set_color(INK)
        ax.set_xlabel("difficulty (0: straight and connected)")
        figure.text(0.1 / width, 1 - 0.1 / height, f"What is hard to unlearn: {setting}", va="top",
                    fontsize=10.5, fontweight="bold")  # fmt: skip
        draw_legend(figure, legend, 0.2)
        files = render(figure, name, pdf=is_headline)
    caption = (
        "Hardest first, by the mean over kinds of curve; a line spans the single curves of a "
        "method, where there are several. Bold: all methods together."
    )
    return Drawing(name, None, f"What is hard to unlearn: {setting}", caption, files, is_headline,
                   "hard")  # fmt: skip


def _mark(index: int) -> dict[str, Any]:
    color = PALETTE[index % len(PALETTE)]
    return {"marker": MARKERS[index % len(MARKERS)], "ms": 5, "color": color, "mec": color}
