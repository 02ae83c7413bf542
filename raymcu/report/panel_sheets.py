"""Stands panels on sheets: row by row, under heads and one legend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymcu.report.figure_files import render
from raymcu.report.figures import (
    LEGEND_ROW,
    STYLE,
    Drawing,
    draw_legend,
    fitted,
    legend_rows,
)
from raymcu.report.panels import balanced

TOP, BOTTOM, LEFT, RIGHT, GAP = 0.5, 0.12, 0.78, 0.18, 0.62
HEAD, FOOT = 0.28, 0.42
MAX_ROWS = 8


@dataclass(frozen=True)
class Panel:
    """A head and what draws below it."""

    head: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Sheet:
    """How panels stand on a figure, in inches."""

    name: str
    title: str
    caption: str
    columns: int
    width: float
    height: float
    left: float = LEFT
    """Room for the labels of each panel's value axis."""
    is_headline: bool = True
    section: str = "search"


def draw_sheets(sheet: Sheet, panels: Sequence[Panel], handles: Sequence[Line2D]) -> list[Drawing]:
    """Draw panels row by row; on several figures if there are many rows."""
    rows = [panels[n : n + sheet.columns] for n in range(0, len(panels), sheet.columns)]
    chunks = balanced(rows, MAX_ROWS)
    return [
        _draw_sheet(sheet, chunk, handles, f"_{n + 1}" if len(chunks) > 1 else "")
        for n, chunk in enumerate(chunks)
        if chunk
    ]


def _draw_sheet(
    sheet: Sheet, rows: Sequence[Sequence[Panel]], handles: Sequence[Line2D], part: str
) -> Drawing:
    columns = max(len(row) for row in rows)
    step = sheet.left + sheet.width
    width = columns * step + (columns - 1) * (GAP - 0.5) + RIGHT
    legend = legend_rows(handles, width - 0.3) if handles else []
    top = TOP + LEGEND_ROW * len(legend)
    head = HEAD if any(panel.head for row in rows for panel in row) else 0.06
    block = head + sheet.height + FOOT
    height = top + len(rows) * block + BOTTOM
    name = sheet.name + part
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        figure.text(0.14 / width, 1 - 0.1 / height, sheet.title, va="top", fontsize=10.5,
                    fontweight="bold")  # fmt: skip
        if legend:
            draw_legend(figure, legend, 0.22)
        for line, row in enumerate(rows):
            bottom = height - top - line * block - head - sheet.height
            for place, panel in enumerate(row):
                left = sheet.left + place * (step + GAP - 0.5)
                ax = figure.add_axes((left / width, bottom / height,
                                      sheet.width / width, sheet.height / height))  # fmt: skip
                panel.draw(ax)
                ax.text(0, 1 + 0.07 / sheet.height, fitted(panel.head, sheet.width),
                        transform=ax.transAxes, va="bottom", fontweight="bold")  # fmt: skip
        files = render(figure, name, pdf=sheet.is_headline)
    return Drawing(name, None, sheet.title, sheet.caption, files, sheet.is_headline, sheet.section)
