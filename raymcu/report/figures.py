"""Draws the figures of a study, as SVG and PNG bytes; computes nothing but where ink goes.

Pages and scales come from ``panels``. The layout is in inches and by hand, so that nothing can
overlap and equal input gives equal bytes. Families, metrics and methods differ in colour (the
palette of Okabe and Ito, safe for colour-blind readers) and in marker or line style.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from raymcu.analysis.processes import fresh_processes
from raymcu.report.data import Study, metric_info
from raymcu.report.figure_files import render
from raymcu.report.panels import Barrier, Line, Page, Row, groups, pages

INK, MUTED, GRID = "#24292f", "#6b7480", "#dde2e8"
"""Inks that the HTML page turns round in its dark theme; used for nothing else."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "p")
"""One more than colours, so that 42 methods differ."""
LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), "-.")

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.axisbelow": True,
}

LEFT, RIGHT, TOP, BOTTOM = 1.08, 0.15, 1.02, 0.42
HEIGHT, GAP_X, GAP_Y, GAP_PAIR, GAP_SIZE = 1.12, 0.14, 0.3, 0.34, 0.18
LEGEND_ROW, HEAD_ROW = 0.19, 0.13
_PAGES_PER_WORKER = 16
"""Fewer are not worth another process."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure and what the page says of it."""

    name: str
    setting: str | None
    """None for the overview figures."""
    title: str
    caption: str
    files: Mapping[str, bytes]
    """What is written of it, by kind of file: svg, png and mostly pdf."""
    is_headline: bool = True
    """Whether the page shows it at once; the others are there to be opened."""
    section: str = "overview"
    """Part of the page it stands in, if it is of no setting."""

    @property
    def svg(self) -> bytes:
        """What stands on the page."""
        return self.files["svg"]


def curve_drawings(study: Study, *, pdf: bool = False) -> list[Drawing]:
    """Draw each setting's metrics along its curves; many pages in several processes.

    Args:
        study: What to draw.
        pdf: Whether they are made as PDF too, which takes as long as SVG or PNG.
    """
    found = [
        page
        for setting in study.settings
        for group in groups(study.metrics)
        for page in pages(study, setting, group)
    ]
    workers = min(os.cpu_count() or 1, len(found) // _PAGES_PER_WORKER)
    if workers < 2:
        return [draw_page(page, pdf=pdf) for page in found]
    with fresh_processes(workers, study.plan["search_space"]) as pool:
        return list(pool.map(partial(draw_page, pdf=pdf), found, chunksize=4))


class PageFigure(Figure):
    """A page of panels; notebooks show it whether or not pyplot is there."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=110, facecolor="white")
        return png.getvalue()


def page_figure(page: Page) -> PageFigure:
    """Draw one page of panels."""
    with mpl.rc_context(STYLE):
        figure, grid = _panel_grid(page)
        for row, axes in zip(page.rows, grid, strict=True):
            for lines, ax in zip(row.panels, axes, strict=True):
                _draw_panel(ax, page, row, lines)
        _label_panels(figure, grid, page)
    return figure


def draw_page(page: Page, *, pdf: bool = False) -> Drawing:
    """Draw one page of panels, as files."""
    with mpl.rc_context(STYLE):
        files = render(page_figure(page), page.name, pdf=pdf)
    return Drawing(
        page.name, page.setting, page.title, _caption(page), files, page.group.is_headline
    )


def _panel_grid(page: Page) -> tuple[PageFigure, list[list[Axes]]]:
    lefts, width = _columns(page)
    total_width = lefts[-1] + width + RIGHT
    gaps = [GAP_Y + (GAP_SIZE if row.starts_size else 0.0) for row in page.rows[1:]]
    legend = len(legend_rows(_legend(page), total_width - LEFT))
    top = TOP + LEGEND_ROW * (legend - 1) + (HEAD_ROW if _has_tall_heads(page, width) else 0.0)
    total_height = top + BOTTOM + len(page.rows) * HEIGHT + sum(gaps)
    figure = PageFigure(figsize=(total_width, total_height))
    FigureCanvasAgg(figure)
    grid = []
    for index in range(len(page.rows)):
        bottom = total_height - top - HEIGHT - index * HEIGHT - sum(gaps[:index])
        box = (bottom / total_height, width / total_width, HEIGHT / total_height)
        grid.append(
            [figure.add_axes((left / total_width, box[0], box[1], box[2])) for left in lefts]
        )
    return figure, grid


def _has_tall_heads(page: Page, width: float) -> bool:
    return any("\n" in fitted(pair, _room(page, width)) for pair, _ in page.columns)


def _room(page: Page, width: float) -> float:
    """Return the inches a pair's name has above its panels."""
    panels = len({family for _, family in page.columns})
    return panels * width + (panels - 1) * GAP_X


def _columns(page: Page) -> tuple[list[float], float]:
    """Return where panels start and how wide they are, in inches."""
    count = len(page.columns)
    width = max(1.35, min(2.3, 9.2 / count))
    lefts, x = [], LEFT
    for index, (pair, _) in enumerate(page.columns):
        if index:
            is_same = pair == page.columns[index - 1][0]
            x += width + (GAP_X if is_same or page.group.is_overlay else GAP_PAIR)
        lefts.append(x)
    return lefts, width


def _draw_panel(ax: Axes, page: Page, row: Row, lines: tuple[Line, ...]) -> None:
    _set_axes(ax, row)
    if not lines:
        ax.text(
            0.5, 0.5, "no scores", transform=ax.transAxes, ha="center", va="center", color=MUTED
        )
    for line in lines:
        keys = page.families if page.group.is_overlay else page.group.metrics
        index = keys.index(line.family if page.group.is_overlay else line.metric)
        ts, values = zip(*line.values, strict=True)
        if line.chord is not None:
            ends = [
                (t / 50, (1 - t / 50) * line.chord[0] + t / 50 * line.chord[1]) for t in range(51)
            ]
            ax.plot(*zip(*ends, strict=True), color=MUTED, lw=0.9, ls=(0, (1, 1.5)), zorder=1.5)
        if line.barrier is not None:
            _draw_barrier(ax, line.barrier, index, len(keys))
        ax.plot(ts, values, **_line_style(index), clip_on=False, zorder=3)
    for metric, role, value in row.levels if lines else ():
        index = page.group.metrics.index(metric)
        color = MUTED if page.group.is_overlay else PALETTE[index % len(PALETTE)]
        ax.axhline(value, color=color, **_LEVELS[role], zorder=1.2)


_LEVELS: Mapping[str, Mapping[str, Any]] = {
    "original": {"lw": 0.9, "ls": (0, (5, 1.5, 1, 1.5))},
    "retrained": {"lw": 0.9, "ls": (0, (6, 2))},
}
"""How the reference models' scores look, which no curve reaches by t."""


def _draw_barrier(ax: Axes, barrier: Barrier, index: int, count: int) -> None:
    color = PALETTE[index % len(PALETTE)]
    if barrier.size > 0:
        x = barrier.t + 0.018 * (index - (count - 1) / 2)
        ax.plot([x, x], [barrier.chord, barrier.value], color=color, lw=3, alpha=0.45,
                solid_capstyle="butt", zorder=2)  # fmt: skip
    x, side = ((0.0, "left"), (1.0, "right"), (0.5, "center"))[index % 3]
    text = f"{barrier.size:.2f} {'✓' if barrier.is_within else '✗'}"
    ax.text(x, 1.03, text, transform=ax.transAxes, ha=side, va="bottom",
            color=color, fontsize=7.5)  # fmt: skip


def _line_style(index: int) -> dict[str, Any]:
    """Return how a line looks; a first one is broad and pale, so that one on it shows both."""
    color = PALETTE[index % len(PALETTE)]
    is_below = index == 0
    return {
        "color": color,
        "lw": 3.2 if is_below else 1.3,
        "alpha": 0.55 if is_below else 1.0,
        "ls": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
        "ms": 4.6 if is_below else 3.0,
        "mfc": color if index % 2 == 0 else "none",
        "mec": color,
        "mew": 0.9,
    }


def _set_axes(ax: Axes, row: Row) -> None:
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    if row.axis.is_log:
        set_log(ax)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylim(row.axis.low, row.axis.high)


_RATIO_OF_STEPS = 10**2.5


class _PlainSteps(LogLocator):
    """Ticks at 1, 2 and 5, or at the powers of ten alone where that would be too many."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Choose by how many decades the axis spans."""
        is_short = vmin > 0 and vmax / vmin < _RATIO_OF_STEPS
        self.set_params(subs=(1.0, 2.0, 5.0) if is_short else (1.0,))
        return super().tick_values(vmin, vmax)


def set_log(ax: Axes) -> None:
    """Make the value axis logarithmic, with plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(_PlainSteps())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _label_panels(figure: Figure, grid: list[list[Axes]], page: Page) -> None:
    width, height = figure.get_size_inches()
    for row, axes in zip(page.rows, grid, strict=True):
        axes[0].set_ylabel(_value_label(row), labelpad=4)
        axes[0].yaxis.set_label_coords(-0.5 / (axes[0].get_position().width * width), 0.5)
        for ax in axes[1:]:
            ax.tick_params(labelleft=False)
        for ax in axes:
            ax.tick_params(labelbottom=row is page.rows[-1])
    for size in dict.fromkeys(row.forget_size for row in page.rows):
        boxes = [
            g[0].get_position()
            for r, g in zip(page.rows, grid, strict=True)
            if r.forget_size == size
        ]
        middle = (boxes[0].y1 + boxes[-1].y0) / 2
        figure.text(
            0.1 / width, middle, size, rotation=90, ha="left", va="center", fontweight="bold"
        )
    _label_columns(figure, grid[0], page)
    figure.text(LEFT / width, 1 - 0.1 / height, f"{page.setting}: {page.title}", va="top",
                fontsize=10.5, fontweight="bold")  # fmt: skip
    draw_legend(figure, legend_rows(_legend(page), width - LEFT), LEFT)
    figure.text((LEFT + width - RIGHT) / 2 / width, 0.06 / height,
                "t along the curve (0 = first of the pair, 1 = second)", ha="center", va="bottom",
                color=MUTED)  # fmt: skip


def _value_label(row: Row) -> str:
    log = "log" if row.axis.is_log else ""
    if len(row.metrics) == 1:
        info = metric_info(row.metrics[0])
        notes = ", ".join(filter(None, [info.unit_text, log]))
        return f"{info.label}\n({notes})" if notes else info.label
    return ", ".join(filter(None, [metric_info(row.metrics[0]).unit, log]))


def _label_columns(figure: Figure, axes: list[Axes], page: Page) -> None:
    width, height = figure.get_size_inches()
    for pair in dict.fromkeys(pair for pair, _ in page.columns):
        boxes = [
            ax.get_position() for ax, (p, _) in zip(axes, page.columns, strict=True) if p == pair
        ]
        middle = (boxes[0].x0 + boxes[-1].x1) / 2
        room = _room(page, boxes[0].width * width)
        figure.text(middle, boxes[0].y1 + 0.24 / height, fitted(pair, room), ha="center",
                    va="bottom", fontweight="bold")  # fmt: skip
    for ax, (_, family) in zip(axes, page.columns, strict=True):
        if family is not None:
            box = ax.get_position()
            figure.text((box.x0 + box.x1) / 2, box.y1 + 0.06 / height, family, ha="center",
                        va="bottom", color=MUTED)  # fmt: skip


def fitted(text: str, room: float) -> str:
    """Break or cut a label that is wider than ``room`` inches at the usual size."""
    letters = max(8, int(room / 0.078))
    if len(text) <= letters:
        return text
    head, dot, tail = text.partition(" · ")
    one, arrow, two = text.partition(" ↔ ")
    lines = [head, tail] if dot else [f"{one} ↔", two] if arrow else [text]
    return "\n".join(line if len(line) <= letters else line[: letters - 1] + "…" for line in lines)


def legend_rows(handles: Sequence[Line2D], room: float) -> list[list[Line2D]]:
    """Break legend entries into lines that fit ``room`` inches."""
    rows: list[list[Line2D]] = [[]]
    used = 0.0
    for handle in handles:
        need = 0.62 + 0.075 * len(str(handle.get_label()))
        if rows[-1] and used + need > room:
            rows.append([])
            used = 0.0
        rows[-1].append(handle)
        used += need
    return rows


def draw_legend(figure: Figure, rows: Sequence[Sequence[Line2D]], left: float) -> None:
    """Draw legend lines under the title."""
    width, height = figure.get_size_inches()
    for index, row in enumerate(rows):
        anchor = ((left - 0.08) / width, 1 - (0.32 + LEGEND_ROW * index) / height)
        figure.legend(handles=row, loc="upper left", ncols=len(row), frameon=False,
                      bbox_to_anchor=anchor, borderaxespad=0, handlelength=2.6,
                      columnspacing=1.6)  # fmt: skip


def _legend(page: Page) -> list[Line2D]:
    keys = (
        page.families
        if page.group.is_overlay
        else tuple(metric_info(metric).label for metric in page.group.metrics)
    )
    handles = [Line2D([], [], label=key, **_line_style(i)) for i, key in enumerate(keys)]
    lines = [line for row in page.rows for panel in row.panels for line in panel]
    if any(line.chord for line in lines):
        handles.append(Line2D([], [], color=MUTED, lw=0.9, ls=(0, (1, 1.5)), label="chord"))
    roles = {role for row in page.rows for _, role, _ in row.levels}
    handles += [
        Line2D([], [], color=MUTED, label=role, **how)
        for role, how in _LEVELS.items()
        if role in roles
    ]
    if any(line.barrier for line in lines):
        handles.append(
            Line2D(
                [], [], color=MUTED, lw=3.5, alpha=0.5, label="barrier; ✓ within tolerance, ✗ above"
            )
        )
    return handles


def _caption(page: Page) -> str:
    pairs = len(dict.fromkeys(pair for pair, _ in page.columns))
    text = f"{page.setting}, {pairs} pair{'s' if pairs != 1 else ''}, rows by forget set. "
    if any(line.chord for row in page.rows for panel in row.panels for line in panel):
        text += (
            "Dotted: the chord between the ends. Bars and numbers: the barrier, in nats, where "
            "retain loss rises above its chord or forget loss falls below it; "
            "✓ within the tolerance, ✗ above it. "
        )
    if any(row.levels for row in page.rows):
        text += "Level: the original and the retrained model, where they are within the scale. "
    if page.group.is_overlay:
        return text + "Panels of one row share their scale."
    return text + "Curve families stand side by side; panels of one row share their scale."
