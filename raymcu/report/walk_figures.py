"""Draws the walks from the original: what each metric does along alpha, or layer by layer.

A figure holds a panel per metric and a line per model; `walks` lays out what is on it.
"""

import math
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from raymcu.report.data import Study, metric_info, unique
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    MARKERS,
    MUTED,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    legend_rows,
    set_log,
)
from raymcu.report.walks import Across, WalkPage, WalkPanel, layer_pages, walk_pages

REFERENCE_LINES: dict[str, Any] = {"original": (0, (4, 2)), "retrained": "-"}
_LEFT, _TOP, _LOW, _HEIGHT, _GAP_X, _GAP_Y = 0.62, 0.66, 0.46, 1.35, 0.62, 0.52
_ROOM = 10.8
_MOST_SIZES = 3
"""Forget sets whose figures the page shows at once."""


def set_across(ax: Axes, across: Across) -> None:
    """Make the axis of positions."""
    if across.linear_to is not None:
        ax.set_xscale("symlog", base=2, linthresh=across.linear_to, linscale=1.0)
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks([t for t, _ in across.ticks], [text for _, text in across.ticks])
    ax.set_xlim(across.low, across.high)


def walk_drawings(study: Study) -> list[Drawing]:
    """Draw the walks along alpha."""
    return [_draw(study, page, "walks") for page in walk_pages(study)]


def layer_drawings(study: Study) -> list[Drawing]:
    """Draw the walks over layers."""
    return [_draw(study, page, "layers") for page in layer_pages(study)]


def _draw(study: Study, page: WalkPage, section: str) -> Drawing:
    with mpl.rc_context(STYLE):
        figure, axes = _grid(page)
        for panel, ax in zip(page.panels, axes, strict=True):
            _draw_panel(ax, page, panel)
        _label(figure, page)
        files = render(figure, page.name)
    title = f"{page.title}, {page.forget_size}"
    is_first = page.forget_size in study.forget_sizes[:_MOST_SIZES]
    return Drawing(page.name, None, title, _caption(page), files, is_first, section)


def _grid(page: WalkPage) -> tuple[Figure, list[Axes]]:
    count = len(page.panels)
    width = min(9.4, max(2.3, 0.24 * len(page.across.ticks))) if page.has_names else 2.05
    low = _LOW + (0.3 if page.has_names else 0.0)
    columns = min(count, max(1, int((_ROOM - _LEFT + _GAP_X) / (width + _GAP_X))))
    rows = math.ceil(count / columns)
    total_width = max(_LEFT + columns * width + (columns - 1) * _GAP_X + 0.15, 5.2)
    lines = len(legend_rows(_legend(page), total_width - 0.2))
    top = _TOP + LEGEND_ROW * lines
    gap_y = _GAP_Y + (0.3 if page.has_names else 0.0)
    total_height = top + rows * _HEIGHT + (rows - 1) * gap_y + low
    figure = Figure(figsize=(total_width, total_height))
    FigureCanvasAgg(figure)
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        left = _LEFT + column * (width + _GAP_X)
        bottom = total_height - top - _HEIGHT - row * (_HEIGHT + gap_y)
        box = (left / total_width, bottom / total_height, width / total_width)
        axes.append(figure.add_axes((*box, _HEIGHT / total_height)))
    return figure, axes


def model_style(index: int) -> dict[str, Any]:
    """Return colour and marker of a model's line, the same in all figures of walks."""
    color = PALETTE[index % len(PALETTE)]
    return {"color": color, "marker": MARKERS[index % len(MARKERS)], "mew": 0.8, "mec": color}


def _draw_panel(ax: Axes, page: WalkPage, panel: WalkPanel) -> None:
    set_across(ax, page.across)
    if page.has_names:
        for label in ax.get_xticklabels():
            if not label.get_text().isdigit():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
    if panel.axis.is_log:
        set_log(ax)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylim(panel.axis.low, panel.axis.high)
    for role, value in panel.references:
        ax.axhline(value, color=INK, lw=0.9, ls=REFERENCE_LINES[role], zorder=1.6)
    colors = dict(page.models)
    for line in panel.lines:
        style = model_style(colors[line.name])
        place = list(colors).index(line.name)
        shift = _dodge(place, len(colors)) if page.has_names else 0.0
        xs, ys = zip(*line.values, strict=True)
        thin = 0.8 if page.has_names else 1.4
        ax.plot([x + shift for x in xs], ys, lw=thin, ms=2.8, clip_on=False, zorder=3,
                ls="-" if line.is_joined else "", **style)  # fmt: skip
        if line.place:
            x, y = line.place
            ax.plot(x + shift, y, ls="", ms=7, mfc="none", clip_on=False, zorder=4,
                    marker="o", mew=1.3, mec=style["color"])  # fmt: skip
    info = metric_info(panel.metric)
    notes = ", ".join(filter(None, [info.unit_text, "log" if panel.axis.is_log else ""]))
    ax.set_title(
        f"{info.label} ({notes})" if notes else info.label,
        loc="left",
        fontsize=8,
        fontweight="bold",
    )


def _dodge(index: int, count: int) -> float:
    """Return how far aside a model's marks stand, so that equal scores can all be seen."""
    return 0.0 if count == 1 else 0.5 * (index / (count - 1) - 0.5)


def _label(figure: Figure, page: WalkPage) -> None:
    width, height = figure.get_size_inches()
    figure.text(0.12 / width, 1 - 0.1 / height, f"{page.title}, {page.forget_size}", va="top",
                fontsize=10.5, fontweight="bold")  # fmt: skip
    draw_legend(figure, legend_rows(_legend(page), width - 0.2), 0.16)
    figure.text(0.5, 0.06 / height, page.across.title, ha="center", va="bottom", color=MUTED)


def _legend(page: WalkPage) -> list[Line2D]:
    handles = [
        Line2D([], [], label=name, lw=1.4, ms=3.6, **model_style(index))
        for name, index in page.models
    ]
    lines = [line for panel in page.panels for line in panel.lines]
    if any(line.place for line in lines):
        handles.append(
            Line2D([], [], ls="", marker="o", ms=7, mfc="none", mec=MUTED, mew=1.3,
                   label="the unlearner as trained")
        )  # fmt: skip
    roles = unique(role for panel in page.panels for role, _ in panel.references)
    return handles + [
        Line2D([], [], color=INK, lw=0.9, ls=REFERENCE_LINES[role], label=role) for role in roles
    ]


def _caption(page: WalkPage) -> str:
    if page.has_names:
        return (
            "Each position takes the decoder layers it names from one of the two models and the "
            "rest from the other. Rings: the unlearners. Every panel has its own scale."
        )
    return (
        "Weights between and beyond the original and a trained model. Rings: the unlearners as "
        "trained, where the walk passes them. Every panel has its own scale."
    )
