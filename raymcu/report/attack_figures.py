"""Draws what came back: heat map of attacks, curves over strengths, panels along t, both ends.

What is on them `recovered` lays out. Models differ in colour and marker, as in all figures.
"""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from raymcu.report.console import number
from raymcu.report.data import Study, metric_info, unique
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    LINES,
    MUTED,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    legend_rows,
)
from raymcu.report.overview import BARRIERS, ON_CELL
from raymcu.report.panels import slug
from raymcu.report.recovered import (
    Along,
    AlongPanel,
    Attacks,
    ClimbPanel,
    Heat,
    Stand,
    along,
    attack_name,
    climbs,
    heats,
    stands,
)
from raymcu.report.walk_figures import REFERENCE_LINES, model_style

_SECTION = "attacks"
_PARTS = {"held_out": ", held out", "tuned": ", tuned on", "all": ""}
_CELL_W, _CELL_H = 0.98, 0.3
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 2.3, 1.5, 0.62, 0.62
_ACROSS = 4
_MOST_CURVES = 24


def attack_drawings(attacks: Attacks, study: Study) -> list[Drawing]:
    """Draw all that there is of attacks, the heat maps first."""
    found = [_heat(attacks, heat) for heat in heats(attacks)]
    panels = climbs(attacks)
    for attack in unique(panel.attack for panel in panels):
        found.append(_climb(attack, [panel for panel in panels if panel.attack == attack]))
    found += [_along(attacks, one) for one in along(attacks, study)]
    for size in attacks.forget_sizes:
        for one, here in stands(attacks, study, size):
            found.append(_stand(attacks, one, here[:_MOST_CURVES], size))
    return found


def _heat(attacks: Attacks, heat: Heat) -> Drawing:
    left = 0.25 + 0.072 * max(len(name) for name, _ in heat.rows)
    width = left + _CELL_W * len(heat.columns) + 0.2
    height = 0.7 + _CELL_H * len(heat.rows) + 0.1
    name = f"attacks_{slug(heat.forget_size)}"
    with mpl.rc_context(STYLE):
        figure = _figure(max(width, 5.4), height)
        wide = figure.get_size_inches()[0]
        box = (left / wide, 0.1 / height, _CELL_W * len(heat.columns) / wide, 1 - 0.8 / height)
        ax = figure.add_axes(box)
        ax.set(xlim=(0, len(heat.columns)), ylim=(len(heat.rows), 0))
        ax.grid(visible=False)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set_xticks([i + 0.5 for i in range(len(heat.columns))], heat.columns)
        ax.set_yticks([i + 0.5 for i in range(len(heat.rows))], [row for row, _ in heat.rows])
        for y, (_, cells) in enumerate(heat.rows):
            for x, cell in enumerate(cells):
                _heat_cell(ax, x, y, cell)
        _title(figure, f"What came back, {heat.forget_size}: {metric_info(attacks.metric).title}")
        files = render(figure, name)
    caption = (
        f"Share of what was taken away that an attack brings back, by "
        f"{metric_info(attacks.metric).title}: 0 nothing, 1 as much as the original has. Mean over "
        "seeds and curves; small, the range. After relearning, facts that it was not tuned on "
        "where they are apart. The retrained model's is what anything learns anew. –: the original "
        "knew no more."
    )
    title = f"What came back, {heat.forget_size}"
    return Drawing(name, None, title, caption, files, section=_SECTION)


def _heat_cell(ax: Axes, x: int, y: int, cell: tuple[float, float, float] | None) -> None:
    if cell is None:
        ax.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color=MUTED)
        return
    middle, low, high = cell
    share = min(max(middle, 0.0), 1.0)
    box = Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, color=BARRIERS(share), lw=0)
    ax.add_patch(box)
    ink = ON_CELL if share < 0.55 else "#ffffff"
    is_range = _share(low) != _share(high)
    ax.text(x + (0.3 if is_range else 0.5), y + 0.5, _share(middle), color=ink, ha="center",
            va="center", fontweight="bold")  # fmt: skip
    if is_range:
        text = f"{_share(low)}–{_share(high)}"
        ax.text(x + 0.73, y + 0.5, text, color=ink, ha="center", va="center", fontsize=5.5)


def _share(value: float) -> str:
    """Write a share of what was taken away: a hundredth is fine enough, and fits its cell."""
    return f"{round(value, 2) + 0.0:.2f}"


def _climb(attack: str, panels: Sequence[ClimbPanel]) -> Drawing:
    names = unique(
        line.name for panel in panels for line in panel.lines if line.role not in REFERENCE_LINES
    )
    handles = [
        Line2D([], [], label=name, lw=1.4, ms=3.6, **model_style(i)) for i, name in enumerate(names)
    ]
    roles = unique(
        line.role for panel in panels for line in panel.lines if line.role in REFERENCE_LINES
    )
    handles += [Line2D([], [], color=INK, lw=1.1, ls=REFERENCE_LINES[r], label=r) for r in roles]
    name = f"attack_{slug(attack)}"
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(panels), handles, f"{attack}: scores by strength")
        for ax, panel in zip(axes, panels, strict=True):
            for line in panel.lines:
                xs, ys = zip(*line.values, strict=True)
                if line.role in REFERENCE_LINES:
                    ax.plot(xs, ys, color=INK, lw=1.1, ls=REFERENCE_LINES[line.role], zorder=2)
                else:
                    style = model_style(names.index(line.name))
                    ax.plot(xs, ys, lw=1.4, ms=3.2, clip_on=False, zorder=3, **style)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=_is_whole(panel)))
            head = f"{metric_info(panel.metric).label}{_PARTS[panel.part]}"
            ax.set_title(f"{panel.forget_size}: {head}", loc="left", fontsize=8, fontweight="bold")
        _across(figure, "strength (0: before the attack)")
        files = render(figure, name)
    caption = (
        "Scores over the strengths of the attack, mean over seeds; the original and the retrained "
        "model are attacked alike. Where the retrained model climbs as fast, it is learning and "
        "no recovery."
    )
    return Drawing(name, None, f"{attack}, by strength", caption, files, section=_SECTION)


def _is_whole(panel: ClimbPanel) -> bool:
    return all(float(at).is_integer() for line in panel.lines for at, _ in line.values)


def _along(attacks: Attacks, one: Along) -> Drawing:
    pairs = unique(pair for panel in one.panels for pair, _, _ in panel.lines)
    handles = [
        Line2D([], [], label=pair, lw=1.4, ms=3.6, **_pair_style(i)) for i, pair in enumerate(pairs)
    ]
    if any(ensemble is not None for p in one.panels for _, _, ensemble in p.lines):
        handles.append(Line2D([], [], ls="", marker="D", mfc="none", mec=MUTED, label="ensemble"))
    what = attack_name(one.attack, one.strength)
    name = f"attack_along_{slug(one.attack)}"
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(one.panels), handles, f"What comes back along curves: {what}")
        for ax, panel in zip(axes, one.panels, strict=True):
            _draw_along(ax, panel, pairs)
        _across(figure, "t along the curve (0 = first of the pair, 1 = second), or alpha of a walk")
        files = render(figure, name)
    caption = (
        f"Share that {what} brings back at every point of a curve, by "
        f"{metric_info(attacks.metric).title}{_PARTS[one.part]}; lower resists better. "
        f"Diamonds: the curve's ensemble. {_correlations(attacks, one)}"
    )
    return Drawing(name, None, f"{what} along curves", caption.strip(), files, section=_SECTION)


def _correlations(attacks: Attacks, one: Along) -> str:
    """Say how what comes back goes with curvature, where three curves or more say it."""
    how = (one.attack, one.strength, one.part)
    told = [
        f"{row['forget_size']} {number(row['rank_correlation'], 2)} ({row['num_curves']} curves)"
        for row in attacks.curvatures
        if (row["attack"], row["strength"], row["part"]) == how
        and (row["curvature"], row["against"]) == ("forget_curvature", "interior")
        and row["rank_correlation"] is not None
    ]
    if not told:
        return ""
    return (
        f"Rank correlation of its mean inside with the forget loss's curvature: {'; '.join(told)}."
    )


def _draw_along(ax: Axes, panel: AlongPanel, pairs: Sequence[str]) -> None:
    for pair, values, ensemble in panel.lines:
        style = _pair_style(pairs.index(pair))
        ts, ys = zip(*values, strict=True)
        ax.plot(ts, ys, lw=1.3, ms=3.0, clip_on=False, zorder=3, **style)
        if ensemble is not None:
            ax.plot(1.1, ensemble, ls="", marker="D", ms=4.2, mfc="none", mec=style["color"],
                    clip_on=False, zorder=4)  # fmt: skip
    if panel.setting != "walk":
        ax.set_xlim(-0.04, 1.14)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    head = f"{panel.forget_size}: {panel.setting}, {panel.family}"
    ax.set_title(head, loc="left", fontsize=8, fontweight="bold")


def _pair_style(index: int) -> dict[str, Any]:
    return {**model_style(index), "ls": LINES[index // len(PALETTE) % len(LINES)]}


_MARKS = {
    "first end": ("o", PALETTE[1]),
    "second end": ("s", PALETTE[1]),
    "best inside": ("^", PALETTE[0]),
    "ensemble": ("D", PALETTE[2]),
}


def _stand(attacks: Attacks, one: Along, found: Sequence[Stand], size: str) -> Drawing:
    left = 0.3 + 0.066 * max(len(stand.name) for stand in found)
    height = 1.25 + 0.42 * len(found)
    wide = left + 5.0
    what = attack_name(one.attack, one.strength)
    name = f"attack_ends_{slug(one.attack)}_{slug(size)}"
    kinds = unique(kind for stand in found for kind, _, _ in stand.places)
    handles = [
        Line2D([], [], ls="", marker=_MARKS[k][0], color=_MARKS[k][1], ms=5, label=k) for k in kinds
    ]
    handles += [Line2D([], [], ls="", marker="o", mfc="none", mec=MUTED, ms=5, label="before")]
    with mpl.rc_context(STYLE):
        figure = _figure(wide, height)
        box = (left / wide, 0.5 / height, 4.8 / wide, 1 - 1.15 / height)
        ax = figure.add_axes(box)
        for y, stand in enumerate(found):
            for kind, before, after in stand.places:
                marker, color = _MARKS[kind]
                at = y + 0.19 * (list(_MARKS).index(kind) - 1.5)
                ax.plot([before, after], [at, at], color=color, lw=1.1, alpha=0.6, zorder=2)
                ax.plot(before, at, ls="", marker=marker, ms=4.5, mfc="none", mec=color, zorder=3)
                ax.plot(after, at, ls="", marker=marker, ms=4.5, color=color, zorder=3)
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_yticks(range(len(found)), [stand.name for stand in found])
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"{metric_info(attacks.metric).label}{_PARTS[one.part]}")
        _title(figure, f"Ends, inside and ensemble before and after {what}, {size}")
        draw_legend(figure, legend_rows(handles, wide - 0.2), 0.16)
        files = render(figure, name)
    caption = (
        f"In the form of MCU's figure 6: each curve's ends, its interior point that resists best "
        f"and its ensemble, by {metric_info(attacks.metric).title}{_PARTS[one.part]} before "
        f"(hollow) and after {what}. Short lines resist."
    )
    title = f"{what}: before and after, {size}"
    return Drawing(name, None, title, caption, files, is_headline=False, section=_SECTION)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Figure, text: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(0.12 / width, 1 - 0.1 / height, text, va="top", fontsize=10.5,
                fontweight="bold")  # fmt: skip


def _across(figure: Figure, text: str) -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.5, 0.06 / height, text, ha="center", va="bottom", color=MUTED)


def _panels(count: int, handles: Sequence[Line2D], title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with its title and legend, and so many axes."""
    columns = min(count, _ACROSS)
    rows = math.ceil(count / columns)
    width = max(0.62 + columns * (_WIDTH + _GAP_X) - _GAP_X + 0.2, 5.4)
    legend = legend_rows(handles, width - 0.2)
    top = 0.72 + LEGEND_ROW * len(legend)
    height = top + rows * (_HEIGHT + _GAP_Y) - _GAP_Y + 0.52
    figure = _figure(width, height)
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        left = 0.62 + column * (_WIDTH + _GAP_X)
        bottom = height - top - _HEIGHT - row * (_HEIGHT + _GAP_Y)
        box = (left / width, bottom / height, _WIDTH / width, _HEIGHT / height)
        axes.append(figure.add_axes(box))
    _title(figure, title)
    draw_legend(figure, legend, 0.16)
    return figure, axes
