"""Draws the figures along curves: compactly on the page, as files where these are asked for."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.analysis.processes import fresh_processes
from raymcu.report.curve_sketches import sketch
from raymcu.report.data import Study
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    LINES,
    MARKERS,
    MUTED,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    set_log,
)
from raymcu.report.panel_layout import (
    ACROSS,
    HEIGHT,
    LEFT,
    NUM_TICKS,
    RIGHT,
    Key,
    Layout,
    caption,
    value_label,
)
from raymcu.report.panels import Barrier, Line, Page, Row, groups, pages

_PAGES_PER_WORKER = 16
"""Fewer are not worth another process."""


def curve_drawings(study: Study, *, has_files: bool = False) -> list[Drawing]:
    """Draw each setting's metrics along its curves.

    Args:
        study: What to draw.
        has_files: Whether they are made as SVG, PNG and PDF too, which takes a second each; many
            in several processes.
    """
    found = [
        page
        for setting in study.settings
        for group in groups(study.metrics)
        for page in pages(study, setting, group)
    ]
    files = _files(found, study.plan["search_space"]) if has_files else [{}] * len(found)
    return [
        Drawing(page.name, page.setting, page.title, caption(page), here, page.group.is_headline,
                inline=sketch(page))
        for page, here in zip(found, files, strict=True)
    ]  # fmt: skip


def _files(found: Sequence[Page], space: Mapping[str, Any]) -> Iterable[Mapping[str, bytes]]:
    workers = min(os.cpu_count() or 1, len(found) // _PAGES_PER_WORKER)
    if workers < 2:
        return [page_files(page) for page in found]
    with fresh_processes(workers, space) as pool:
        return list(pool.map(page_files, found, chunksize=4))


class PageFigure(Figure):
    """A page of panels; notebooks show it whether or not pyplot is there."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=110, facecolor="white")
        return png.getvalue()


def page_figure(page: Page) -> PageFigure:
    """Draw one page of panels."""
    layout = Layout(page)
    with mpl.rc_context(STYLE):
        figure = PageFigure(figsize=(layout.page_width, layout.page_height))
        FigureCanvasAgg(figure)
        grid = _panel_grid(figure, layout)
        for row, axes in zip(page.rows, grid, strict=True):
            for lines, ax in zip(row.panels, axes, strict=True):
                _draw_panel(ax, page, row, lines)
        _label_panels(figure, grid, page, layout)
    return figure


def page_files(page: Page) -> dict[str, bytes]:
    """Draw one page of panels, as files."""
    with mpl.rc_context(STYLE):
        return render(page_figure(page), page.name)


def _panel_grid(figure: Figure, layout: Layout) -> list[list[Axes]]:
    width, height = layout.page_width, layout.page_height
    return [
        [
            figure.add_axes((left / width, 1 - (top + HEIGHT) / height,
                             layout.width / width, HEIGHT / height))
            for left in layout.lefts
        ]
        for top in layout.tops
    ]  # fmt: skip


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
        ax.yaxis.set_major_locator(MaxNLocator(NUM_TICKS))
    ax.set_ylim(row.axis.low, row.axis.high)


def _label_panels(figure: Figure, grid: list[list[Axes]], page: Page, layout: Layout) -> None:
    width, height = layout.page_width, layout.page_height
    for row, axes in zip(page.rows, grid, strict=True):
        axes[0].set_ylabel(value_label(row), labelpad=4)
        axes[0].yaxis.set_label_coords(-0.5 / layout.width, 0.5)
        for ax in axes[1:]:
            ax.tick_params(labelleft=False)
        for ax in axes:
            ax.tick_params(labelbottom=row is page.rows[-1])
    for size, y in layout.middles_of_sizes(page).items():
        figure.text(0.1 / width, 1 - y / height, size, rotation=90, ha="left", va="center",
                    fontweight="bold")  # fmt: skip
    top = 1 - layout.tops[0] / height
    for pair, x in layout.middles_of_pairs(page).items():
        figure.text(x / width, top + 0.24 / height, layout.heads[pair], ha="center", va="bottom",
                    fontweight="bold")  # fmt: skip
    for left, (_, family) in zip(layout.lefts, page.columns, strict=True):
        if family is not None:
            figure.text((left + layout.width / 2) / width, top + 0.06 / height, family,
                        ha="center", va="bottom", color=MUTED)  # fmt: skip
    figure.text(LEFT / width, 1 - 0.1 / height, f"{page.setting}: {page.title}", va="top",
                fontsize=10.5, fontweight="bold")  # fmt: skip
    draw_legend(figure, [[_handle(key) for key in row] for row in layout.legend], LEFT)
    figure.text((LEFT + width - RIGHT) / 2 / width, 0.06 / height, ACROSS, ha="center",
                va="bottom", color=MUTED)  # fmt: skip


def _handle(key: Key) -> Line2D:
    looks: Mapping[str, Mapping[str, Any]] = {
        "line": _line_style(key.index),
        "chord": {"color": MUTED, "lw": 0.9, "ls": (0, (1, 1.5))},
        "barrier": {"color": MUTED, "lw": 3.5, "alpha": 0.5},
        **{role: {"color": MUTED, **how} for role, how in _LEVELS.items()},
    }
    return Line2D([], [], label=key.label, **looks[key.look])
