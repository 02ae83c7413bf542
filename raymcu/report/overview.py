"""Draws the two figures that show a whole study: the map of barriers and the trade-off scatter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from raymcu.report.data import Endpoint, Study, metric_info, unique
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    MARKERS,
    MUTED,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    fitted,
    legend_rows,
    render,
    set_log,
)
from raymcu.report.panels import balanced, needs_log

MAX_MAP_ROWS = 30
CELL_W, CELL_H = 0.62, 0.26
ON_CELL = "#101418"
"""Ink on a light cell: not turned round in a dark theme, as the cell is not."""
BARRIERS = LinearSegmentedColormap.from_list(
    "barriers", ["#f3f7fb", "#9ecae9", "#0072b2", "#08375c"]
)
PLOT = 3.6
CONNECTED, BROKEN, UNKNOWN = "#cfe8f7", "#f6d5bd", "#eceff2"


@dataclass(frozen=True)
class MapRow:
    """One pair of one setting: its finding for each (forget size, family)."""

    setting: str
    pair: str
    findings: tuple[Mapping[str, Any] | None, ...]


def map_rows(study: Study) -> tuple[tuple[tuple[str, str], ...], tuple[MapRow, ...]]:
    """Return the map's columns (forget size, family) and its rows."""
    sizes = unique(curve.forget_size for curve in study.curves)
    columns = tuple((size, family) for size in sizes for family in study.families)
    found = {
        (c.setting, c.pair, c.forget_size, c.family): study.findings.get(c.curve_id)
        for c in study.curves
    }
    pairs = dict.fromkeys(
        (setting, curve.pair)
        for setting in study.settings
        for curve in study.curves
        if curve.setting == setting
    )
    rows = (
        MapRow(*pair, tuple(found.get((*pair, *column)) for column in columns)) for pair in pairs
    )
    return columns, tuple(rows)


def barrier_maps(study: Study) -> list[Drawing]:
    """Draw the barriers and verdicts of all curves; nothing if there are no findings."""
    if not study.findings:
        return []
    columns, rows = map_rows(study)
    chunks = balanced(rows, MAX_MAP_ROWS)
    return [
        _draw_map(study, columns, chunk, f"barriers_{i + 1}" if len(chunks) > 1 else "barriers")
        for i, chunk in enumerate(chunks)
    ]


_TOP, _GAP, _LOW = 1.05, 0.3, 0.15


def _draw_map(
    study: Study, columns: Sequence[tuple[str, str]], rows: Sequence[MapRow], name: str
) -> Drawing:
    block = len(columns) * CELL_W
    left = 0.5 + 0.088 * max(len(r.setting) for r in rows) + 0.077 * max(len(r.pair) for r in rows)
    left = max(left, 2.3)
    breaks = sum(a.setting != b.setting for a, b in pairwise(rows))
    size = (left + 3 * block + 2 * _GAP + 0.15, _TOP + len(rows) * CELL_H + breaks * 0.1 + _LOW)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, size[0])
        ax.set_ylim(size[1], 0)
        _map_heads(ax, columns, study, left)
        y, last = _TOP, ""
        for row in rows:
            y += 0.1 if last and row.setting != last else 0.0
            if row.setting != last:
                ax.text(0.12, y + CELL_H / 2, row.setting, va="center", fontweight="bold")
            _map_row(ax, row, (left, y), _largest(study))
            last, y = row.setting, y + CELL_H
        svg, png = render(figure, name)
    caption = (
        "Each cell is one curve's barrier in nats, darker for a higher one; ✗ marks one above the "
        "tolerance. A curve is connected if neither barrier is."
    )
    return Drawing(name, None, "Barriers and verdicts of all curves", caption, svg, png)


def _largest(study: Study) -> float:
    sizes = [row[key] or 0.0 for row in study.findings.values() for key in _BARRIER_KEYS]
    return max(sizes, default=0.0)


_BARRIER_KEYS = ("retain_barrier", "forget_barrier")


def _map_heads(ax: Axes, columns: Sequence[tuple[str, str]], study: Study, left: float) -> None:
    tolerances = sorted({row["tolerance"] for row in study.findings.values()})
    ax.text(0.12, 0.2, "Barriers along every curve", fontsize=10.5, fontweight="bold", va="center")
    note = "nats; tolerance " + ", ".join(f"{t:g}" for t in tolerances)
    ax.text(0.12, 0.42, note, color=MUTED, va="center")
    for index, title in enumerate(("retain barrier ↓", "forget barrier ↓", "connected?")):
        x0 = left + _block_x(index, len(columns))
        ax.text(x0 + len(columns) * CELL_W / 2, 0.42, title, ha="center", va="center",
                fontweight="bold")  # fmt: skip
        for size in unique(size for size, _ in columns):
            here = [i for i, column in enumerate(columns) if column[0] == size]
            middle = x0 + (here[0] + here[-1] + 1) / 2 * CELL_W
            room = len(here) * CELL_W
            ax.text(middle, 0.68, fitted(size, room), ha="center", va="center")
        for i, (_, family) in enumerate(columns):
            ax.text(x0 + (i + 0.5) * CELL_W, 0.9, fitted(family, 1.25 * CELL_W), ha="center",
                    va="center", color=MUTED, fontsize=7)  # fmt: skip


def _block_x(index: int, columns: int) -> float:
    return index * (columns * CELL_W + _GAP)


def _map_row(ax: Axes, row: MapRow, corner: tuple[float, float], largest: float) -> None:
    left, y = corner
    ax.text(left - 0.12, y + CELL_H / 2, row.pair, va="center", ha="right")
    for index, key in enumerate(_BARRIER_KEYS):
        for i, finding in enumerate(row.findings):
            x = left + _block_x(index, len(row.findings)) + i * CELL_W
            _barrier_cell(ax, (x, y), finding, key, largest)
    for i, finding in enumerate(row.findings):
        x = left + _block_x(2, len(row.findings)) + i * CELL_W
        verdict = None if finding is None else finding["is_connected"]
        color = {True: CONNECTED, False: BROKEN, None: UNKNOWN}[verdict]
        _cell(ax, (x, y), color, {True: "✓ yes", False: "✗ no", None: "–"}[verdict], ON_CELL)


def _barrier_cell(
    ax: Axes, corner: tuple[float, float], finding: Mapping[str, Any] | None, key: str, top: float
) -> None:
    size = None if finding is None else finding[key]
    if finding is None or size is None:
        _cell(ax, corner, UNKNOWN, "–", ON_CELL)
        return
    tolerance = finding["tolerance"]
    unit = tolerance or 1e-3
    share = math.log1p(size / unit) / max(1.0, math.log1p(top / unit))
    mark = " ✗" if size > tolerance else ""
    text = f"{size:.2f}" if size < 100 else f"{size:.0f}"
    _cell(ax, corner, BARRIERS(share), text + mark, "#ffffff" if share > 0.55 else ON_CELL)


def _cell(ax: Axes, corner: tuple[float, float], color: Any, text: str, ink: str) -> None:
    x, y = corner
    ax.add_patch(
        Rectangle((x + 0.015, y + 0.015), CELL_W - 0.03, CELL_H - 0.03, fc=color, ec="none")
    )
    ax.text(x + CELL_W / 2, y + CELL_H / 2, text, ha="center", va="center", color=ink, fontsize=7)


_TRADEOFFS = (
    ("retain_knowmem", ("verbmem",)),
    ("retain_accuracy", ("forget_accuracy",)),
    ("model_utility", ("forget_quality_log10", "forget_loss")),
    ("retain_loss", ("forget_quality_log10", "forget_loss")),
)
"""What is kept and how forgetting is told; the first that was scored is drawn."""


def tradeoff(study: Study) -> Drawing | None:
    """Draw forgetting against utility for every point; None if neither was scored."""
    found = ((x, [y for y in ys if _points(study, (x, y))]) for x, ys in _TRADEOFFS)
    x, ys = next(((x, ys) for x, ys in found if ys), ("", []))
    if not ys:
        return None
    sizes = study.forget_sizes
    methods = unique(_method(end.label) for end in study.endpoints if end.role == "unlearner")
    with mpl.rc_context(STYLE):
        width = max(1.1 + PLOT * len(sizes), 6.2)
        legend = legend_rows(_scatter_handles(study, methods), width - 0.2)
        height = 0.6 + LEGEND_ROW * len(legend) + 2.6 * len(ys)
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for row, y in enumerate(ys):
            xs, values = zip(*_points(study, (x, y)), strict=True)
            is_log = needs_log(values, metric_info(y))
            for column, size in enumerate(sizes):
                box = (0.75 + PLOT * column, 0.45 + 2.6 * (len(ys) - 1 - row), PLOT - 0.4, 1.85)
                ax = figure.add_axes(_relative(figure, box))
                if is_log:
                    set_log(ax)
                else:
                    ax.yaxis.set_major_locator(MaxNLocator(5))
                ax.set_xlim(_limits(xs))
                ax.set_ylim(_limits(values, is_log))
                _scatter(ax, study, size, (x, y), methods)
                ax.set_ylabel(_axis_label(y) if column == 0 else "")
        figure.text(0.12 / width, 1 - 0.1 / height, "Forgetting against utility", va="top",
                    fontsize=10.5, fontweight="bold")  # fmt: skip
        draw_legend(figure, legend, 0.16)
        svg, png = render(figure, "tradeoff")
    caption = (
        "Every measured point of every curve, the unlearners at the curves' ends, and the two "
        "reference models. The retrained model is what unlearning aims at. One scale per row."
    )
    return Drawing("tradeoff", None, "Forgetting against utility", caption, svg, png)


def _points(study: Study, metrics: tuple[str, str]) -> list[tuple[float, float]]:
    points = [point for curve in study.curves for _, point in curve.points]
    points += [end.point_id for end in study.endpoints]
    return [pair for point in points if (pair := _xy(study.scores.get(point, {}), metrics))]


def _limits(values: Sequence[float], is_log: bool = False) -> tuple[float, float]:
    """Return a range that holds all values and leaves room for names."""
    low, high = min(values), max(values)
    if is_log:
        room = (high / low) ** 0.18
        return low / room, high * room
    pad = 0.18 * (high - low) or 0.05
    return low - pad, high + pad


def _relative(figure: Figure, box: tuple[float, ...]) -> tuple[float, float, float, float]:
    width, height = figure.get_size_inches()
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def _method(label: str) -> str:
    return label.split("/")[0]


def _scatter(
    ax: Axes, study: Study, size: str, metrics: tuple[str, str], methods: Sequence[str]
) -> None:
    for family in study.families:
        xy = [
            pair
            for curve in study.curves
            if (curve.forget_size, curve.family) == (size, family)
            for t, point in curve.points
            if t not in (0, 1) and (pair := _xy(study.scores.get(point, {}), metrics))
        ]
        if xy:
            ax.scatter(*zip(*xy, strict=True), **_family_style(study.families.index(family)))
    for end in study.endpoints:
        xy_end = _xy(end.scores, metrics)
        if end.forget_size == size and xy_end:
            _mark_endpoint(ax, end, xy_end, methods)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_title(size, loc="left", fontsize=8, fontweight="bold")
    ax.set_xlabel(_axis_label(metrics[0]))


def _xy(scores: Mapping[str, float | None], metrics: tuple[str, str]) -> tuple[float, float] | None:
    x, y = (scores.get(metric) for metric in metrics)
    return None if x is None or y is None else (x, y)


def _axis_label(metric: str) -> str:
    info = metric_info(metric)
    return info.label + (f" ({info.unit_text})" if info.unit_text else "")


def _family_style(index: int) -> dict[str, Any]:
    return {
        "marker": ("o", "s", "^", "D")[index % 4],
        "s": 11,
        "facecolors": MUTED if index % 2 == 0 else "none",
        "edgecolors": MUTED,
        "linewidths": 0.7,
        "alpha": 0.6,
        "zorder": 2,
    }


def _mark_endpoint(
    ax: Axes, end: Endpoint, xy: tuple[float, float], methods: Sequence[str]
) -> None:
    if end.role == "unlearner":
        index = methods.index(_method(end.label))
        ax.scatter(*xy, s=34, zorder=3, **_method_style(index))
        return
    marker = "*" if end.role == "original" else "X"
    ax.scatter(*xy, s=90 if marker == "*" else 55, marker=marker, color=INK, zorder=4)
    is_below = end.role == "original"  # so that the two names part when the models are close
    ax.annotate(end.role, xy, xytext=(0, -8 if is_below else 7), textcoords="offset points",
                ha="center", va="top" if is_below else "bottom", fontweight="bold",
                zorder=5)  # fmt: skip


def _method_style(index: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[index % len(MARKERS)],
        "color": PALETTE[index % len(PALETTE)],
        "edgecolors": INK,
        "linewidths": 0.5,
    }


def _scatter_handles(study: Study, methods: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="", ms=6, mec=INK, mew=0.5, label=method,
               marker=MARKERS[i % len(MARKERS)], color=PALETTE[i % len(PALETTE)])
        for i, method in enumerate(methods)
    ]  # fmt: skip
    for index, family in enumerate(study.families):
        style = _family_style(index)
        handles.append(
            Line2D([], [], ls="", ms=3.5, mec=MUTED, mew=0.7, marker=style["marker"],
                   mfc=style["facecolors"], label=f"inside a {family} curve")
        )  # fmt: skip
    return handles
