"""Draws the calibration: how far each method can go and still retain enough, and what that changes.

Per forget set, on the left what is to be kept along alpha with the bar and each model's calibrated
position; on the right the metrics that models are ranked by, before and after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.report.console import number
from raymcu.report.data import (
    Curve,
    Study,
    Walk,
    colors_of,
    metric_info,
    short_labels,
    unique,
)
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    MUTED,
    STYLE,
    Drawing,
    draw_legend,
    fitted,
    legend_rows,
    set_log,
)
from raymcu.report.ordered import calibrated
from raymcu.report.panels import Axis, balanced, needs_log, slug, value_axis
from raymcu.report.walk_figures import model_style, set_across
from raymcu.report.walks import Across, across_amounts

MAX_ROWS = 5
"""Forget sets on one figure."""


@dataclass(frozen=True)
class Kept:
    """What is to be kept along one walk or curve."""

    name: str
    color: int
    values: tuple[tuple[float, float], ...]
    """(t, score)."""
    place: tuple[float, float] | None
    """(t, score) of the calibrated position; None if no position keeps enough."""


@dataclass(frozen=True)
class Ranked:
    """One model in the ranking, before and after."""

    name: str
    before: float | None
    after: float | None
    rank_before: int | None
    rank_after: int | None


@dataclass(frozen=True)
class Calibrated:
    """What calibration found on one kind of walk or curve for one forget set."""

    family: str
    forget_size: str
    metric: str
    keep: float
    bar: float | None
    at_original: float | None
    kept: tuple[Kept, ...]
    rankings: tuple[tuple[str, tuple[Ranked, ...]], ...]
    """By the metric that ranks: models in their new order."""


def calibrations(study: Study) -> list[Calibrated]:
    """Put table ``calibrations`` together, by family and forget set."""
    named = calibrated(study.calibrations)
    return [
        _calibrated(study, here)
        for family in unique(row["family"] for _, row in named)
        for size in study.forget_sizes
        if (here := [pair for pair in named
                     if (pair[1]["family"], pair[1]["forget_size"]) == (family, size)])
    ]  # fmt: skip


def _calibrated(study: Study, named: Sequence[tuple[str, Mapping[str, Any]]]) -> Calibrated:
    lines: dict[str, Curve | Walk] = {curve.curve_id: curve for curve in study.curves}
    lines |= {walk.walk_id: walk for walk in study.walks}
    short = _short(study, unique(name for name, _ in named))
    metrics = unique(row["rank_by"] for _, row in named)
    kept = []
    for name, row in named:
        if row["rank_by"] == metrics[0]:
            place = None if row["t"] is None else (row["t"], row["value"])
            values = study.values(lines[row["curve_id"]], row["metric"])
            kept.append(Kept(*short[name], values, place))
    rankings = tuple(
        (metric, tuple(_ranked(short[n][0], row) for n, row in named if row["rank_by"] == metric))
        for metric in metrics
    )
    first = named[0][1]
    what = (first["metric"], first["keep"], first["bar"], first["at_original"])
    return Calibrated(first["family"], first["forget_size"], *what, tuple(kept), rankings)


def _short(study: Study, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return short name and colour of walked models; curves have colours of their own."""
    colors = colors_of(study)
    short = short_labels(walk.second for walk in study.walks)
    return {n: (short.get(n, n), colors.get(n, index)) for index, n in enumerate(names)}


def _ranked(name: str, row: Mapping[str, Any]) -> Ranked:
    return Ranked(name, *(row[key] for key in ("before", "after", "rank_before", "rank_after")))


def best_calibrated(study: Study) -> str:
    """Say which models rank first once all retain the same; empty if nothing was calibrated."""
    found = calibrations(study)
    said = []
    for one in found[:3]:
        metric, models = one.rankings[0]
        best = [model for model in models if model.rank_after == 1]
        if best:
            names = " and ".join(
                f"{model.name} (place {model.rank_before or '–'} before)" for model in best
            )
            has = "has" if len(best) == 1 else "have"
            title = metric_info(metric).title
            said.append(f"{names} {has} the best {title} ({one.family}, {one.forget_size})")
    if not said:
        return ""
    title = metric_info(found[0].metric).title
    share = _kept_share(found[0])
    return f"With {share} {title} kept, " + "; ".join(said) + "."


def _kept_share(one: Calibrated) -> str:
    return f"{100 * one.keep:g}% of the original's"


_LEFT, _PLOT, _GAP, _RIGHT, _LOW, _GAP_Y = 0.62, 3.3, 0.4, 0.62, 0.46, 0.62


def calibration_drawings(study: Study) -> list[Drawing]:
    """Draw a figure for every kind of walk or curve that was calibrated."""
    found = calibrations(study)
    made = []
    for family in unique(one.family for one in found):
        chunks = balanced([one for one in found if one.family == family], MAX_ROWS)
        for index, rows in enumerate(chunks):
            suffix = f"_{index + 1}" if len(chunks) > 1 else ""
            made.append(_draw(rows, f"calibration_{slug(family)}{suffix}"))
    return made


def _draw(rows: Sequence[Calibrated], name: str) -> Drawing:
    models = {kept.name: kept.color for one in rows for kept in one.kept}
    with mpl.rc_context(STYLE):
        title = f"Calibration: {rows[0].family}"
        _draw_all(figure := _figure(rows, models), rows, models, title)
        files = render(figure, name)
    what = metric_info(rows[0].metric).title
    caption = (
        f"Left: {what} along alpha; filled marks stand at the last position found that keeps "
        f"{_kept_share(rows[0])} (the dashed bar). Right: what models are ranked by, hollow as "
        "trained and filled once calibrated, best on top; numbers are the places before and after."
    )
    return Drawing(name, None, title, caption, files, section="calibration")


def _names_room(models: Mapping[str, int]) -> float:
    return 0.2 + 0.075 * min(26, max(len(name) for name in models))


def _ranking_width(models: Mapping[str, int]) -> float:
    return _GAP + _names_room(models) + 2.2 + _RIGHT


def _row_height(one: Calibrated) -> float:
    return max(1.6, 0.2 * len(one.kept) + 0.2)


def _figure(rows: Sequence[Calibrated], models: Mapping[str, int]) -> Figure:
    columns = max(len(one.rankings) for one in rows)
    width = _LEFT + _PLOT + columns * _ranking_width(models)
    lines = len(legend_rows(_legend(models), width - 0.2))
    heights = sum(_row_height(one) for one in rows) + _GAP_Y * (len(rows) - 1)
    return Figure(figsize=(width, 0.62 + LEGEND_ROW * lines + heights + _LOW))


def _draw_all(
    figure: Figure, rows: Sequence[Calibrated], models: Mapping[str, int], title: str
) -> None:
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    legend = legend_rows(_legend(models), width - 0.2)
    figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5, fontweight="bold")
    draw_legend(figure, legend, 0.16)
    across = across_amounts([t for one in rows for kept in one.kept for t, _ in kept.values])
    top = height - 0.62 - LEGEND_ROW * len(legend)
    for one in rows:
        tall = _row_height(one)
        bottom = (top - tall) / height
        ax = figure.add_axes((_LEFT / width, bottom, _PLOT / width, tall / height))
        _draw_kept(ax, one, across, models)
        for column, (metric, ranked) in enumerate(one.rankings):
            left = _LEFT + _PLOT + column * _ranking_width(models) + _GAP + _names_room(models)
            ax = figure.add_axes((left / width, bottom, 2.2 / width, tall / height))
            _draw_ranking(ax, metric, ranked, models)
        top -= tall + _GAP_Y
    figure.text((_LEFT + _PLOT / 2) / width, 0.06 / height, across.title, ha="center",
                va="bottom", color=MUTED)  # fmt: skip


def _draw_kept(ax: Axes, one: Calibrated, across: Across, models: Mapping[str, int]) -> None:
    info = metric_info(one.metric)
    values = [v for kept in one.kept for _, v in kept.values]
    values += [v for v in (one.bar, one.at_original) if v is not None]
    set_across(ax, across)
    if values:
        axis = value_axis(values, info, needs_log(values, info))
        if axis.is_log:
            set_log(ax)
        ax.set_ylim(axis.low, axis.high)
    if ax.get_yscale() != "log":
        ax.yaxis.set_major_locator(MaxNLocator(4))
    for kept in one.kept:
        style = model_style(kept.color)
        if kept.values:
            ax.plot(*zip(*kept.values, strict=True), lw=1.2, ms=2, clip_on=False, **style)
        if kept.place:
            ax.plot(*kept.place, ls="", ms=7, clip_on=False, zorder=4, **(style | {"mec": INK}))
    if one.bar is not None:
        ax.axhline(one.bar, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=1.6)
        ax.text(1.01, one.bar, f"bar\n{number(one.bar)}", transform=ax.get_yaxis_transform(),
                va="center", fontsize=7)  # fmt: skip
    log = " (log)" if ax.get_yscale() == "log" else ""
    ax.set_title(f"{one.forget_size}: {info.label}{log}", loc="left", fontsize=8, fontweight="bold")


def _draw_ranking(
    ax: Axes, metric: str, ranked: Sequence[Ranked], models: Mapping[str, int]
) -> None:
    info = metric_info(metric)
    values = [v for model in ranked for v in (model.before, model.after) if v is not None]
    if values:
        axis = value_axis(values, info, needs_log(values, info))
        if axis.is_log:
            ax.set_xscale("log")
        else:
            axis = _clear_of_marks(axis)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlim(axis.low, axis.high)
    ax.set_ylim(len(ranked) - 0.4, -0.6)
    ax.set_yticks(range(len(ranked)), [fitted(model.name, 2.0) for model in ranked])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    for y, model in enumerate(ranked):
        style = model_style(models[model.name])
        if model.before is not None and model.after is not None:
            ax.plot([model.before, model.after], [y, y], color=style["color"], lw=1.6, alpha=0.5)
        if model.before is not None:
            ax.plot(model.before, y, ls="", ms=5.5, clip_on=False, **(style | {"mfc": "none"}))
        if model.after is not None:
            ax.plot(model.after, y, ls="", ms=5.5, clip_on=False, zorder=4, **style)
        places = f"{model.rank_before or '–'} → {model.rank_after or '–'}"
        ink, weight = (MUTED, "normal") if model.rank_before == model.rank_after else (INK, "bold")
        ax.text(1.03, y, places, transform=ax.get_yaxis_transform(), va="center",
                color=ink, fontweight=weight)  # fmt: skip
    log = " (log)" if ax.get_xscale() == "log" else ""
    ax.set_title(info.label + log, loc="left", fontsize=8, fontweight="bold")
    ax.text(1.03, 1.06, "place", transform=ax.transAxes, va="bottom", color=MUTED, fontsize=7)


def _clear_of_marks(axis: Axis) -> Axis:
    pad = 0.04 * (axis.high - axis.low)
    return Axis(axis.low - pad, axis.high + pad)


def _legend(models: Mapping[str, int]) -> list[Line2D]:
    return [
        Line2D([], [], label=name, lw=1.4, ms=3.6, **model_style(index))
        for name, index in sorted(models.items(), key=lambda item: item[1])
    ]
