"""Draws planes through three checkpoints: losses as contours, and the curves that lie in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from raymcu.report.console import number
from raymcu.report.data import unique
from raymcu.report.figure_files import render
from raymcu.report.figures import LEGEND_ROW, PALETTE, STYLE, Drawing, draw_legend, legend_rows
from raymcu.report.overview import BARRIERS, ON_CELL
from raymcu.report.panels import LOG_RATIO

Rows = Sequence[Mapping[str, Any]]

_LOSSES = ("forget_loss", "retain_loss")
_LEVELS = 11
_WIDTH, _LOW, _LEFT, _GAP, _TOP = 3.1, 0.4, 0.62, 1.15, 0.72


def surface_drawings(plan: Mapping[str, Any], rows: Rows) -> list[Drawing]:
    """Draw each plane of a plan, forget loss and retain loss side by side.

    Args:
        plan: As ``plan.json`` has it.
        rows: Of table ``surfaces``.
    """
    found = []
    for plane in plan.get("surfaces") or ():
        head = plane["label"], plane["forget_size"]
        here = [row for row in rows if (row["surface"], row["forget_size"]) == head]
        if any(row[loss] is not None for row in here for loss in _LOSSES):
            found.append(_draw(plane, here))
    return found


def grid_of(rows: Rows, name: str) -> np.ndarray:
    """Return a column of the grid as (b, a), both ascending; NaN where there is no value."""
    at = {(row["b"], row["a"]): row[name] for row in rows if row["line"] is None}
    ups, acrosses = (sorted({key[place] for key in at}) for place in (0, 1))
    values = [[at.get((b, a)) for a in acrosses] for b in ups]
    return np.array(values, dtype=float)


def levels_of(values: np.ndarray) -> tuple[np.ndarray, Normalize]:
    """Return the losses of contours, and their scale: a logarithm if they differ much."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low > 0 and high / low > LOG_RATIO:
        return np.geomspace(low, high, _LEVELS), LogNorm(low, high)
    high = high if high > low else low + 1e-9
    return np.linspace(low, high, _LEVELS), Normalize(low, high)


def _draw(plane: Mapping[str, Any], rows: Rows) -> Drawing:
    is_known = rows[0]["x"] is not None
    across, up = ("x", "y") if is_known else ("a", "b")
    xs, ys = grid_of(rows, across), grid_of(rows, up)
    wide, tall = np.ptp(xs) or 1.0, np.ptp(ys) or 1.0
    height = float(np.clip(_WIDTH * tall / wide, 1.3, 3.4))
    lines = unique(row["line"] for row in rows if row["line"] is not None)
    colors = {
        line: ("#d55e00", *PALETTE[2:])[n % (len(PALETTE) - 1)] for n, line in enumerate(lines)
    }
    handles = [mpl.lines.Line2D([], [], color=color, marker="o", ms=3, lw=1.3, label=line)
               for line, color in colors.items()]  # fmt: skip
    width = _LEFT + 2 * _WIDTH + _GAP + 0.75
    legend = legend_rows(handles, width - 0.3) if handles else []
    top = _TOP + LEGEND_ROW * len(legend)
    total = top + height + _LOW
    name, title = (
        f"surface_{plane['label']}_{plane['forget_size']}",
        (f"Plane {plane['label']}, {plane['forget_size']}"),
    )
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, total))
        FigureCanvasAgg(figure)
        figure.text(0.14 / width, 1 - 0.1 / total, title, va="top", fontsize=10.5,
                    fontweight="bold")  # fmt: skip
        if legend:
            draw_legend(figure, legend, 0.16)
        for place, loss in enumerate(_LOSSES):
            left = _LEFT + place * (_WIDTH + _GAP)
            box = (left / width, _LOW / total, _WIDTH / width, height / total)
            bar = ((left + _WIDTH + 0.1) / width, _LOW / total, 0.1 / width, height / total)
            _contours(figure, box, bar, (xs, ys, grid_of(rows, loss)), loss)
            ax = figure.axes[-2]
            for line, color in colors.items():
                at = [row for row in rows if row["line"] == line]
                ax.plot([r[across] for r in at], [r[up] for r in at], color=color, lw=1.3,
                        marker="o", ms=2.6, mec="#ffffff", mew=0.4, zorder=3)  # fmt: skip
            _corners(ax, plane["corners"], rows, (across, up))
        files = render(figure, name)
    scale = (
        "Distances are those of the weights."
        if is_known
        else "Axes are coefficients of the second and third corner."
    )
    caption = (
        f"Losses in the plane through {', '.join(plane['corners'])}, measured at the grid's points "
        f"and drawn between them. {scale} Lines: curves and walks that lie in the plane."
    )
    return Drawing(name, None, title, caption, files, section="geometry")


def _contours(
    figure: Figure,
    box: tuple[float, float, float, float],
    bar: tuple[float, float, float, float],
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    loss: str,
) -> None:
    ax, cax = figure.add_axes(box), figure.add_axes(bar)
    xs, ys, losses = values
    ax.set_title(f"{loss.replace('_', ' ')} (nats)", loc="left", fontsize=8, fontweight="bold")
    if np.isfinite(losses).any():
        levels, norm = levels_of(losses)
        filled = ax.contourf(xs, ys, losses, levels=levels, norm=norm, cmap=BARRIERS)
        ax.contour(xs, ys, losses, levels=levels, colors=ON_CELL, linewidths=0.3)
        figure.colorbar(filled, cax=cax, ticks=levels[::2])
        cax.minorticks_off()
        cax.set_yticks(levels[::2], [number(float(level)) for level in levels[::2]])
    ax.plot(xs, ys, ls="", marker=".", ms=1.2, color=ON_CELL, zorder=2)
    ax.tick_params(length=2)
    ax.locator_params(nbins=5)


def _corners(ax: Axes, names: Sequence[str], rows: Rows, axes: tuple[str, str]) -> None:
    grid = {(row["a"], row["b"]): row for row in rows if row["line"] is None}
    for label, at in zip(names, ((0, 0), (1, 0), (0, 1)), strict=True):
        name = label.partition("(")[0]  # a bend's names its ends
        place = grid[at][axes[0]], grid[at][axes[1]]
        ax.plot(*place, marker="o", ms=5, mfc="#ffffff", mec=ON_CELL, zorder=4)
        ax.annotate(name, place, xytext=(0, 6 if at[1] else -13), ha="center",
                    textcoords="offset points", fontsize=7, color=ON_CELL, zorder=5,
                    bbox={"fc": "#ffffffcc", "ec": "none", "pad": 1.0})  # fmt: skip
