"""Draws the map of barriers: every curve of a study in one figure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from raymcu.report.data import Study, unique
from raymcu.report.figure_files import render
from raymcu.report.figures import MUTED, STYLE, Drawing, fitted
from raymcu.report.panels import balanced

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


@dataclass(frozen=True)
class Tile:
    """One cell of a map on the page."""

    text: str
    share: int | None = None
    """How dark it is, in percent; None of a verdict and of what is unknown."""
    kind: str = ""
    """``yes``, ``no`` or nothing."""


@dataclass(frozen=True)
class Grid:
    """One map on the page: a barrier or the verdict of every curve."""

    title: str
    sizes: tuple[tuple[str, int], ...]
    """Forget sets and how many columns each has."""
    families: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Tile, ...]], ...]
    """(setting, pair, cells)."""


def barrier_grid(study: Study, doubted: Collection[str] = ()) -> list[Grid]:
    """Return what `barrier_maps` draws as cells of tables, which a narrow page breaks better.

    Verdicts on the forget sets that are doubted have no colour.
    """
    if not study.findings:
        return []
    columns, rows = map_rows(study)
    sizes = unique(size for size, _ in columns)
    heads = tuple((size, sum(column[0] == size for column in columns)) for size in sizes)
    families = tuple(family for _, family in columns)
    keys = (*_BARRIER_KEYS, "is_connected")
    top = _largest(study)
    return [
        Grid(title, heads, families, tuple(
            (row.setting, row.pair, tuple(_tile(one, key, top, doubted) for one in row.findings))
            for row in rows
        ))
        for title, key in zip(_TITLES, keys, strict=True)
    ]  # fmt: skip


def _tile(
    finding: Mapping[str, Any] | None, key: str, top: float, doubted: Collection[str]
) -> Tile:
    value = None if finding is None else finding[key]
    if finding is None or value is None:
        return Tile("–")
    if key == "is_connected":
        kind = "" if finding["forget_size"] in doubted else "yes" if value else "no"
        return Tile(_VERDICTS[value], kind=kind)
    text = _barrier_text(value, finding["tolerance"])
    return Tile(text, round(100 * _share(value, finding, top)))


def _share(size: float, finding: Mapping[str, Any], top: float) -> float:
    """Return how dark a barrier is, in [0, 1]: by its logarithm above the tolerance."""
    unit = finding["tolerance"] or 1e-3
    return math.log1p(size / unit) / max(1.0, math.log1p(top / unit))


def _barrier_text(size: float, tolerance: float) -> str:
    return (f"{size:.2f}" if size < 100 else f"{size:.0f}") + (" ✗" if size > tolerance else "")


_VERDICTS = {True: "✓ yes", False: "✗ no", None: "–"}
_TITLES = ("retain barrier ↓", "forget barrier ↓", "connected?")


def barrier_maps(study: Study) -> list[Drawing]:
    """Draw the barriers and verdicts of all curves; nothing if there are no findings."""
    if not study.findings:
        return []
    columns, rows = map_rows(study)
    chunks = _chunks(rows)
    return [
        _draw_map(study, columns, chunk, f"barriers_{i + 1}" if len(chunks) > 1 else "barriers")
        for i, chunk in enumerate(chunks)
    ]


def _chunks(rows: Sequence[MapRow]) -> list[Sequence[MapRow]]:
    """Cut into figures of about equal length, between settings unless one alone is too long."""
    settings = [
        [row for row in rows if row.setting == name] for name in unique(r.setting for r in rows)
    ]
    most = len(rows) / math.ceil(len(rows) / MAX_MAP_ROWS)
    chunks: list[list[MapRow]] = []
    for setting in settings:
        if chunks and len(chunks[-1]) + len(setting) / 2 <= most:
            chunks[-1] += setting
        else:
            chunks.append(setting)
    return [part for chunk in chunks for part in balanced(chunk, MAX_MAP_ROWS + 10)]


_TOP, _GAP, _LOW = 1.05, 0.3, 0.15


def _draw_map(
    study: Study, columns: Sequence[tuple[str, str]], rows: Sequence[MapRow], name: str
) -> Drawing:
    block = len(columns) * CELL_W
    left = 0.5 + 0.088 * max(len(r.setting) for r in rows) + 0.077 * max(len(r.pair) for r in rows)
    left = max(left, 2.3)
    breaks = sum(a.setting != b.setting for a, b in pairwise(rows))
    largest = _largest(study)
    size = (left + 3 * block + 2 * _GAP + 0.15, _TOP + len(rows) * CELL_H + breaks * 0.1 + _LOW)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, size[0])
        ax.set_ylim(size[1], 0)
        _map_heads(ax, columns, study, left)
        cells = _Cells(ax)
        y, last = _TOP, ""
        for row in rows:
            y += 0.1 if last and row.setting != last else 0.0
            if row.setting != last:
                ax.text(0.12, y + CELL_H / 2, row.setting, va="center", fontweight="bold")
            _map_row(cells, row, (left, y), largest)
            last, y = row.setting, y + CELL_H
        cells.paint()
        files = render(figure, name)
    caption = (
        "Each cell is one curve's barrier in nats, darker for a higher one; ✗ marks one above the "
        "tolerance. A curve is connected if neither barrier is."
    )
    return Drawing(name, None, "Barriers and verdicts of all curves", caption, files)


def _largest(study: Study) -> float:
    sizes = [row[key] or 0.0 for row in study.findings.values() for key in _BARRIER_KEYS]
    return max(sizes, default=0.0)


_BARRIER_KEYS = ("retain_barrier", "forget_barrier")


def _map_heads(ax: Axes, columns: Sequence[tuple[str, str]], study: Study, left: float) -> None:
    tolerances = sorted({row["tolerance"] for row in study.findings.values()})
    ax.text(0.12, 0.2, "Barriers along every curve", fontsize=10.5, fontweight="bold", va="center")
    note = "nats; tolerance " + ", ".join(f"{t:g}" for t in tolerances)
    ax.text(0.12, 0.42, note, color=MUTED, va="center")
    for index, title in enumerate(_TITLES):
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


@dataclass
class _Cells:
    """The cells of a map: a number on each, and their colours painted at once."""

    ax: Axes
    corners: list[tuple[float, float]] = field(default_factory=list)
    colors: list[Any] = field(default_factory=list)

    def put(self, corner: tuple[float, float], color: Any, text: str, ink: str) -> None:
        """Stand a cell at its upper left corner."""
        x, y = corner
        self.corners.append(corner)
        self.colors.append(color)
        self.ax.text(x + CELL_W / 2, y + CELL_H / 2, text, ha="center", va="center", color=ink,
                     fontsize=7)  # fmt: skip

    def paint(self) -> None:
        """Paint them all: a patch for each would take most of the time."""
        low, wide, tall = 0.015, CELL_W - 0.015, CELL_H - 0.015
        box = ((low, low), (wide, low), (wide, tall), (low, tall))
        shapes = [[(x + dx, y + dy) for dx, dy in box] for x, y in self.corners]
        faces = PolyCollection(shapes, facecolors=self.colors, edgecolors="none", zorder=1)
        self.ax.add_collection(faces, autolim=False)


def _map_row(cells: _Cells, row: MapRow, corner: tuple[float, float], largest: float) -> None:
    left, y = corner
    cells.ax.text(left - 0.12, y + CELL_H / 2, row.pair, va="center", ha="right")
    for index, key in enumerate(_BARRIER_KEYS):
        for i, finding in enumerate(row.findings):
            x = left + _block_x(index, len(row.findings)) + i * CELL_W
            cells.put((x, y), *_barrier_cell(finding, key, largest))
    for i, finding in enumerate(row.findings):
        x = left + _block_x(2, len(row.findings)) + i * CELL_W
        verdict = None if finding is None else finding["is_connected"]
        color = {True: CONNECTED, False: BROKEN, None: UNKNOWN}[verdict]
        cells.put((x, y), color, _VERDICTS[verdict], ON_CELL)


def _barrier_cell(finding: Mapping[str, Any] | None, key: str, top: float) -> tuple[Any, str, str]:
    """Return a cell's colour, text and ink."""
    size = None if finding is None else finding[key]
    if finding is None or size is None:
        return UNKNOWN, "–", ON_CELL
    share = _share(size, finding, top)
    text = _barrier_text(size, finding["tolerance"])
    return BARRIERS(share), text, "#ffffff" if share > 0.55 else ON_CELL
