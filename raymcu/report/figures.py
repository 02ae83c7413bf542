"""What all figures share: inks, style, legends, labels that fit, logarithmic axes.

Layouts are in inches and by hand, so that nothing can overlap and equal input gives equal bytes.
Families, metrics and methods differ in colour (the palette of Okabe and Ito, safe for colour-blind
readers) and in marker or line style.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK, MUTED, GRID = "#24292f", "#6b7480", "#dde2e8"
"""Inks that the HTML page turns round in its dark theme; used for nothing else."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
THEMED = {INK: "ink", MUTED: "muted", GRID: "line", PALETTE[0]: "plot-blue"}
"""Colours that follow the page's theme, and what its styles call them."""
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

LEGEND_ROW = 0.19


@dataclass(frozen=True)
class Drawing:
    """A finished figure and what the page says of it."""

    name: str
    setting: str | None
    """None for the overview figures."""
    title: str
    caption: str
    files: Mapping[str, bytes]
    """What is written of it, by kind of file: svg, png and mostly pdf; nothing of what is drawn
    on the page alone."""
    is_headline: bool = True
    """Whether the page shows it at once; the others are there to be opened."""
    section: str = "overview"
    """Part of the page it stands in, if it is of no setting."""
    inline: str = ""
    """What stands on the page, as markup; if empty it is the SVG file."""

    @property
    def svg(self) -> bytes:
        """The SVG file."""
        return self.files["svg"]


class Labelled(Protocol):
    """An entry of a legend."""

    def get_label(self) -> object:
        """Return what it says."""


Entry = TypeVar("Entry", bound=Labelled)


_RATIO_OF_STEPS = 10**2.5


class PlainSteps(LogLocator):
    """Ticks at 1, 2 and 5, or at the powers of ten alone where that would be too many."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Choose by how many decades the axis spans."""
        is_short = vmin > 0 and vmax / vmin < _RATIO_OF_STEPS
        self.set_params(subs=(1.0, 2.0, 5.0) if is_short else (1.0,))
        return super().tick_values(vmin, vmax)


def set_log(ax: Axes) -> None:
    """Make the value axis logarithmic, with plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(PlainSteps())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def fitted(text: str, room: float) -> str:
    """Break or cut a label that is wider than ``room`` inches at the usual size."""
    letters = max(8, int(room / 0.078))
    if len(text) <= letters:
        return text
    head, dot, tail = text.partition(" · ")
    one, arrow, two = text.partition(" ↔ ")
    lines = [head, tail] if dot else [f"{one} ↔", two] if arrow else [text]
    return "\n".join(line if len(line) <= letters else line[: letters - 1] + "…" for line in lines)


def legend_width(label: str) -> float:
    """Return the inches that an entry of a legend takes."""
    return 0.62 + 0.075 * len(label)


def legend_rows(entries: Sequence[Entry], room: float) -> list[list[Entry]]:
    """Break legend entries into lines that fit ``room`` inches."""
    rows: list[list[Entry]] = [[]]
    used = 0.0
    for entry in entries:
        need = legend_width(str(entry.get_label()))
        if rows[-1] and used + need > room:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
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
