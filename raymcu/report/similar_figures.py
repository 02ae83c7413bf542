"""Draws how alike methods are: a matrix of small curves with their scores, as MCU's figure 5."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raymcu.report.data import Study, metric_info
from raymcu.report.figure_files import render
from raymcu.report.figures import MUTED, STYLE, Drawing
from raymcu.report.similar import Cell, Matrix, matrices

WIDTH = 7.0
"""Inches that a matrix has at most, so that ten methods fit a page."""
ON_CELL = "#101418"
"""Ink on a cell: not turned round in a dark theme, as the cell is not."""
_LINES = ("#0069a8", "#00805e")
"""Likewise, above and below the diagonal."""
UNLIKE, UNKNOWN = "#f2c4a0", "#eceff2"
ALIKE = LinearSegmentedColormap.from_list("alike", [UNLIKE, "#f6f3ee", "#b9daf0"])
_TOP, _LETTER, _GAP = 0.62, 0.075, 0.02


def similarity_drawings(study: Study, *, pdf: bool = False) -> list[Drawing]:
    """Draw every matrix; those of the losses in the first setting are shown at once."""
    found = matrices(study)
    first = (found[0].above, found[0].setting) if found else ("", "")
    return [
        draw_matrix(one, is_headline=(one.above, one.setting) == first, pdf=pdf) for one in found
    ]


def draw_matrix(matrix: Matrix, *, is_headline: bool = True, pdf: bool = False) -> Drawing:
    """Draw one matrix."""
    number = len(matrix.methods)
    longest = max(map(len, matrix.methods))
    left = 0.2 + _LETTER * longest
    wide = min(1.5, (WIDTH - left - 0.1) / number)
    tall = max(0.42, 0.72 * wide)
    is_turned = _LETTER * longest > wide - 0.04
    head = _TOP + (0.12 + _LETTER * longest if is_turned else 0.22)
    least = 0.075 * len(_title(matrix)) + 0.3
    size = (max(left + number * wide + 0.1, least), head + number * tall + 0.34)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, size[0])
        ax.set_ylim(size[1], 0)
        ax.text(0.1, 0.17, _title(matrix), fontsize=9.5, fontweight="bold", va="center")
        for y, where, metric, color in (
            (0.36, "above the diagonal", matrix.above, _LINES[0]),
            (0.51, "below the diagonal", matrix.below, _LINES[1]),
        ):
            ax.plot([0.1, 0.3], [y, y], color=color, lw=1.4)
            note = f"{where}: {_label(matrix, metric)}"
            ax.text(0.36, y, note, color=MUTED, va="center", fontsize=7.5)
        for place, method in enumerate(matrix.methods):
            middle = head + (place + 0.5) * tall
            ax.text(left - 0.06, middle, method, ha="right", va="center", fontweight="bold")
            x = left + (place + 0.5) * wide
            ax.text(x, head - 0.05, method, ha="center", va="bottom", fontweight="bold",
                    rotation=90 if is_turned else 0)  # fmt: skip
        for row in range(number):
            for column in range(number):
                corner = (left + column * wide, head + row * tall)
                color = _LINES[0] if row <= column else _LINES[1]
                _draw_cell(ax, matrix.cells.get((row, column)), (*corner, wide, tall), color)
        ax.text(0.1, size[1] - 0.14, "t from the row's method (left) to the column's (right)",
                color=MUTED, va="center", fontsize=7)  # fmt: skip
        files = render(figure, matrix.name, pdf=pdf)
    caption = (
        "Each cell shows the curve between two methods and how alike it says they are: 1 without a "
        "barrier, 0 where the path loses all that the ends gained. Alike methods stand together. "
        "On the diagonal seeds of one method. Cells of a metric share their scale. – : not "
        "measured, or undefined: table similarities says why."
    )
    told = " and ".join(metric_info(metric).title for metric in (matrix.above, matrix.below))
    title = f"{_title(matrix)}, {told}"
    return Drawing(matrix.name, None, title, caption, files, is_headline, "alike")


def _title(matrix: Matrix) -> str:
    return f"How alike methods are: {matrix.setting}, {matrix.family}, {matrix.forget_size}"


def _label(matrix: Matrix, metric: str) -> str:
    return metric_info(metric).label + (" (log)" if metric in matrix.logs else "")


def _draw_cell(
    ax: Axes, cell: Cell | None, box: tuple[float, float, float, float], color: str
) -> None:
    x, y, wide, tall = box
    score = None if cell is None else cell.score
    face = UNKNOWN if score is None else ALIKE(min(max(score, 0.0), 1.0))
    ax.add_patch(
        Rectangle((x + _GAP, y + _GAP), wide - 2 * _GAP, tall - 2 * _GAP, fc=face, ec="none")
    )
    low, high = y + tall - 0.19, y + 0.07
    if cell is not None and cell.lines:
        lines = [
            [(x + 0.08 + t * (wide - 0.16), low + height * (high - low)) for t, height in line]
            for line in cell.lines
        ]
        ax.add_collection(LineCollection(lines, colors=color, linewidths=1.2, zorder=3))
    text = "–" if score is None else f"{round(score, 2) + 0.0:.2f}"  # + 0.0: no negative zero
    ax.text(x + wide / 2, y + tall - 0.095, text, ha="center", va="center", color=ON_CELL,
            fontsize=7)  # fmt: skip
