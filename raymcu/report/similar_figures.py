"""Draws how alike methods are: a matrix of small curves with their scores, as MCU's figure 5."""

from collections.abc import Iterator

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raymcu.report.data import Study, metric_info
from raymcu.report.figure_files import render
from raymcu.report.figures import MUTED, STYLE, Drawing
from raymcu.report.similar import Cell, Matrix, matrices
from raymcu.report.sketches import UNIT, svg, text, way

WIDTH = 7.0
"""Inches that a matrix has at most, so that ten methods fit a page."""
ON_CELL = "#101418"
"""Ink on a cell: not turned round in a dark theme, as the cell is not."""
_LINES = ("#0069a8", "#00805e")
"""Likewise, above and below the diagonal."""
UNLIKE, UNKNOWN = "#f2c4a0", "#eceff2"
ALIKE = LinearSegmentedColormap.from_list("alike", [UNLIKE, "#f6f3ee", "#b9daf0"])
_TOP, _LETTER, _GAP = 0.62, 0.075, 0.02


def similarity_drawings(study: Study, *, has_files: bool = False) -> list[Drawing]:
    """Draw every matrix; those of the losses in the first setting are shown at once.

    Args:
        study: What to draw.
        has_files: Whether they are made as SVG, PNG and PDF too.
    """
    found = matrices(study)
    first = (found[0].above, found[0].setting) if found else ("", "")
    return [
        draw_matrix(one, is_headline=(one.above, one.setting) == first, has_files=has_files)
        for one in found
    ]


def draw_matrix(matrix: Matrix, *, is_headline: bool = True, has_files: bool = False) -> Drawing:
    """Draw one matrix."""
    caption = (
        "Each cell shows the curve between two methods and how alike it says they are: 1 without a "
        "barrier, 0 where the path loses all that the ends gained. Alike methods stand together. "
        "On the diagonal seeds of one method. Cells of a metric share their scale. – : not "
        "measured, or undefined: table similarities says why."
    )
    told = " and ".join(metric_info(metric).title for metric in (matrix.above, matrix.below))
    title = f"{_title(matrix)}, {told}"
    files = matrix_files(matrix) if has_files else {}
    return Drawing(matrix.name, None, title, caption, files, is_headline, "alike",
                   sketch_matrix(matrix))  # fmt: skip


class _Layout:
    """Where everything of a matrix stands, in inches from its upper left corner."""

    def __init__(self, matrix: Matrix) -> None:
        number = len(matrix.methods)
        longest = max(map(len, matrix.methods))
        self.left = 0.2 + _LETTER * longest
        self.wide = min(1.5, (WIDTH - self.left - 0.1) / number)
        self.tall = max(0.42, 0.72 * self.wide)
        self.is_turned = _LETTER * longest > self.wide - 0.04
        self.head = _TOP + (0.12 + _LETTER * longest if self.is_turned else 0.22)
        least = 0.075 * len(_title(matrix)) + 0.3
        self.width = max(self.left + number * self.wide + 0.1, least)
        self.height = self.head + number * self.tall + 0.34

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Return the upper left corner of a cell."""
        return self.left + column * self.wide, self.head + row * self.tall

    def lines(self, cell: Cell, corner: tuple[float, float]) -> list[list[tuple[float, float]]]:
        """Return the small curves of a cell."""
        x, top = corner
        low, high, across = top + self.tall - 0.19, top + 0.07, self.wide - 0.16
        return [
            [(x + 0.08 + t * across, low + height * (high - low)) for t, height in line]
            for line in cell.lines
        ]


def _keys(matrix: Matrix) -> tuple[tuple[float, str], ...]:
    """Return the lines of the legend: where each stands, and what it says."""
    return (
        (0.36, f"above the diagonal: {_label(matrix, matrix.above)}"),
        (0.51, f"below the diagonal: {_label(matrix, matrix.below)}"),
    )


_ACROSS = "t from the row's method (left) to the column's (right)"


def _cells(matrix: Matrix) -> Iterator[tuple[int, int, Cell | None]]:
    number = range(len(matrix.methods))
    return ((row, column, matrix.cells.get((row, column))) for row in number for column in number)


def _score(cell: Cell | None) -> tuple[str, str]:
    """Return a cell's colour and its number."""
    score = None if cell is None else cell.score
    if score is None:
        return UNKNOWN, "–"
    return to_hex(ALIKE(min(max(score, 0.0), 1.0))), f"{round(score, 2) + 0.0:.2f}"  # no -0.00


def sketch_matrix(matrix: Matrix) -> str:
    """Draw one matrix as markup for the page."""
    layout = _Layout(matrix)
    return svg(_title(matrix), (layout.width, layout.height), _parts(matrix, layout))


def _parts(matrix: Matrix, layout: _Layout) -> Iterator[str]:
    def at(x: float, y: float) -> tuple[float, float]:
        return UNIT * x, UNIT * y

    yield text(at(0.1, 0.21), _title(matrix), "H")
    for (y, note), color in zip(_keys(matrix), _LINES, strict=True):
        key = way([at(0.1, y), at(0.3, y)])
        yield f'<path d="{key}" stroke="{color}" stroke-width="14"/>'
        yield text(at(0.36, y + 0.036), note, "q n")
    for place, method in enumerate(matrix.methods):
        middle = layout.head + (place + 0.5) * layout.tall
        yield text(at(layout.left - 0.06, middle + 0.04), method, "e h")
        x = layout.left + (place + 0.5) * layout.wide
        if layout.is_turned:
            yield text(at(x + 0.04, layout.head - 0.05), method, "h", "rotate(-90)")
        else:
            yield text(at(x, layout.head - 0.07), method, "m h")
    wide, tall = (round(UNIT * (side - 2 * _GAP)) for side in (layout.wide, layout.tall))
    for row, column, cell in _cells(matrix):
        x, y = layout.corner(row, column)
        face, number = _score(cell)
        left, top = (round(UNIT * (edge + _GAP)) for edge in (x, y))
        yield f'<path d="M{left} {top}h{wide}v{tall}h-{wide}z" style="fill:{face}"/>'
        if cell is not None and cell.lines:
            lines = "".join(way([at(*p) for p in line]) for line in layout.lines(cell, (x, y)))
            color = _LINES[0] if row <= column else _LINES[1]
            yield f'<path d="{lines}" stroke="{color}" stroke-width="12"/>'
        yield text(at(x + layout.wide / 2, y + layout.tall - 0.06), number, "m w")
    yield text(at(0.1, layout.height - 0.105), _ACROSS, "q w")


def matrix_files(matrix: Matrix) -> dict[str, bytes]:
    """Draw one matrix, as files."""
    layout = _Layout(matrix)
    size = (layout.width, layout.height)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, size[0])
        ax.set_ylim(size[1], 0)
        ax.text(0.1, 0.17, _title(matrix), fontsize=9.5, fontweight="bold", va="center")
        for (y, note), color in zip(_keys(matrix), _LINES, strict=True):
            ax.plot([0.1, 0.3], [y, y], color=color, lw=1.4)
            ax.text(0.36, y, note, color=MUTED, va="center", fontsize=7.5)
        for place, method in enumerate(matrix.methods):
            middle = layout.head + (place + 0.5) * layout.tall
            ax.text(layout.left - 0.06, middle, method, ha="right", va="center", fontweight="bold")
            x = layout.left + (place + 0.5) * layout.wide
            ax.text(x, layout.head - 0.05, method, ha="center", va="bottom", fontweight="bold",
                    rotation=90 if layout.is_turned else 0)  # fmt: skip
        for row, column, cell in _cells(matrix):
            color = _LINES[0] if row <= column else _LINES[1]
            _draw_cell(ax, cell, layout, layout.corner(row, column), color)
        ax.text(0.1, size[1] - 0.14, _ACROSS, color=MUTED, va="center", fontsize=7)
        return render(figure, matrix.name)


def _draw_cell(
    ax: Axes, cell: Cell | None, layout: _Layout, corner: tuple[float, float], color: str
) -> None:
    (x, y), wide, tall = corner, layout.wide, layout.tall
    face, number = _score(cell)
    ax.add_patch(
        Rectangle((x + _GAP, y + _GAP), wide - 2 * _GAP, tall - 2 * _GAP, fc=face, ec="none")
    )
    if cell is not None and cell.lines:
        lines = LineCollection(layout.lines(cell, corner), colors=color, linewidths=1.2, zorder=3)
        ax.add_collection(lines)
    ax.text(x + wide / 2, y + tall - 0.095, number, ha="center", va="center", color=ON_CELL,
            fontsize=7)  # fmt: skip


def _title(matrix: Matrix) -> str:
    return f"How alike methods are: {matrix.setting}, {matrix.family}, {matrix.forget_size}"


def _label(matrix: Matrix, metric: str) -> str:
    return metric_info(metric).label + (" (log)" if metric in matrix.logs else "")
