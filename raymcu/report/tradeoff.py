"""Draws forgetting against utility for everything that was measured, in one figure.

Curves, walks, ensembles, blends by hand and chosen layers stand side by side with the unlearners
and the two reference models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.report.data import (
    REFERENCES,
    Curve,
    Endpoint,
    Study,
    Walk,
    methods_of,
    metric_info,
    unique,
)
from raymcu.report.figure_files import render
from raymcu.report.figures import (
    INK,
    LEGEND_ROW,
    LINES,
    MARKERS,
    MUTED,
    PALETTE,
    STYLE,
    Drawing,
    draw_legend,
    legend_rows,
    set_log,
)
from raymcu.report.panels import LOG_RATIO, needs_log

_TRADEOFFS = (
    ("retain_knowmem", ("verbmem",)),
    ("retain_accuracy", ("forget_accuracy",)),
    ("model_utility", ("forget_quality_log10", "forget_loss")),
    ("retain_es", ("forget_es",)),
    ("retain_loss", ("forget_quality_log10", "forget_loss")),
)
"""What is kept and how forgetting is told; the first that was scored is drawn."""
OTHERS: dict[str, tuple[str, str]] = {
    "model": ("h", "ready model"),
    "learner": ("p", "further learner"),
    "ensemble": ("o", "ensemble of a curve"),
    "blend": ("D", "blend by hand"),
    "layers": ("s", "chosen layers"),
}
"""Marker and legend of what no method has made, and is on no way."""
MAX_NAMED = 8


def tradeoff(study: Study) -> Drawing | None:
    """Draw forgetting against utility for every point; None if there is nothing to compare."""
    if not (study.curves or study.walks or any(e.role not in REFERENCES for e in study.endpoints)):
        return None
    shown = tuple(end for end in study.shown_endpoints if end.role != "random")
    study = replace(study, endpoints=shown)
    found = ((x, [y for y in ys if _points(study, (x, y))]) for x, ys in _TRADEOFFS)
    x, ys = next(((x, ys) for x, ys in found if ys), ("", []))
    if not ys:
        return None
    methods = methods_of(study)
    sizes = study.forget_sizes
    wide, tall = (4.6, 2.7) if study.walks and len(sizes) <= 3 else (3.2, 1.95)
    with mpl.rc_context(STYLE):
        width = max(0.75 + (wide + _GAP) * len(sizes) - _GAP + 0.2, 6.2)
        legend = legend_rows(_handles(study, methods), width - 0.2)
        height = 0.45 + LEGEND_ROW * len(legend) + (tall + 0.75) * len(ys)
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for row, y in enumerate(ys):
            for column, size in enumerate(sizes):
                bottom = 0.45 + (tall + 0.75) * (len(ys) - 1 - row)
                box = (0.75 + (wide + _GAP) * column, bottom, wide, tall)
                ax = figure.add_axes(_relative(figure, box))
                is_log = _frame(ax, study, size, (x, y))
                _scatter(ax, study, size, (x, y), methods)
                ax.set_ylabel(_axis_label(y, is_log))
        figure.text(0.12 / width, 1 - 0.1 / height, "Forgetting against utility", va="top",
                    fontsize=10.5, fontweight="bold")  # fmt: skip
        draw_legend(figure, legend, 0.16)
        files = render(figure, "tradeoff")
    return Drawing("tradeoff", None, "Forgetting against utility", _caption(study), files)


_GAP = 0.72


def _frame(ax: Axes, study: Study, size: str, metrics: tuple[str, str]) -> bool:
    """Choose both scales of a panel; say whether forgetting is on a logarithmic one.

    The original, which forgets nothing, does not stretch them: it is marked at the edge if it is
    far off, with its value.
    """
    found = _points(study, metrics, size)
    if not found:
        return False
    known = _references(study, size, metrics)
    others = _points(study, metrics, size, without=("original",)) or found
    xs, ys = zip(*others, strict=True)
    if (original := known.get("original")) and _is_near(original[0], xs):
        xs = (*xs, original[0])
    info = metric_info(metrics[1])
    if original and _is_near(original[1], ys, by_ratio=info.unit == "nats" and min(ys) > 0):
        ys = (*ys, original[1])
    is_log = needs_log(ys, info)
    if is_log:
        set_log(ax)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlim(_limits(xs))
    ax.set_ylim(_limits(ys, is_log))
    return is_log


def _is_near(value: float, others: Sequence[float], *, by_ratio: bool = False) -> bool:
    """Say whether a value can be shown among others without taking most of their room."""
    low, high = min(others), max(others)
    if by_ratio:
        return value > 0 and low / value < max(high / low, LOG_RATIO)
    return low - value < max(high - low, 0.05) and value - high < max(high - low, 0.05)


def _references(
    study: Study, size: str, metrics: tuple[str, str]
) -> dict[str, tuple[float, float]]:
    return {
        end.role: xy
        for end in study.endpoints
        if end.role in REFERENCES and end.forget_size == size and (xy := _xy(end.scores, metrics))
    }


def _caption(study: Study) -> str:
    ends = "the unlearners at the curves' ends" if study.curves else "the unlearners"
    text = f"Every measured point, {ends}, and the two reference models. "
    if study.walks:
        text += "Lines join the points of a walk along alpha, which is written where it fits. "
    return text + (
        "The retrained model, where the dashed lines cross, is what unlearning aims at: more "
        "forgetting than its is no better. Every panel has scales of its own; an original that is "
        "off them stands at the edge with its value."
    )


def walk_path(
    study: Study, walk: Walk, metrics: tuple[str, str]
) -> tuple[tuple[str, tuple[float, float]], ...]:
    """Return what is at each scored position of a walk, and its two scores."""
    return tuple(
        (step.label.removeprefix("alpha="), xy)
        for step in walk.steps
        if (xy := _xy(study.scores.get(step.point_id, {}), metrics))
    )


def _points(
    study: Study, metrics: tuple[str, str], size: str | None = None, without: Sequence[str] = ()
) -> list[tuple[float, float]]:
    """Return where all that was scored stands; of one forget set and without some roles."""
    lines: list[Curve | Walk] = [*study.curves, *study.walks]
    sizes = (None, *study.forget_sizes) if size is None else (size,)
    points = [point for line in lines if line.forget_size in sizes for _, point in line.points]
    ends = [end for end in study.endpoints if end.forget_size in sizes]
    left_out = {end.point_id for end in ends if end.role in without}
    points += [end.point_id for end in ends]
    return [
        pair
        for point in points
        if point not in left_out and (pair := _xy(study.scores.get(point, {}), metrics))
    ]


def _limits(values: Sequence[float], is_log: bool = False) -> tuple[float, float]:
    """Return a range that holds all values and leaves room for names."""
    low, high = min(values), max(values)
    if is_log:
        room = (high / low) ** 0.18
        return low / room, high * room
    pad = 0.18 * (high - low) or 0.05
    return low - pad, high + pad


def _relative(figure: Figure, box: tuple[float, ...]) -> tuple[float, float, float, float]:
    width, height = figure.get_size_inches()
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def _method(label: str) -> str:
    return label.split("/")[0]


def _xy(scores: Mapping[str, float | None], metrics: tuple[str, str]) -> tuple[float, float] | None:
    x, y = (scores.get(metric) for metric in metrics)
    return None if x is None or y is None else (x, y)


def _axis_label(metric: str, is_log: bool = False) -> str:
    info = metric_info(metric)
    notes = ", ".join(filter(None, [info.unit_text, "log" if is_log else ""]))
    return info.title + (f" ({notes})" if notes else "")


@dataclass
class _Labels:
    """Puts short texts beside points, each only where nothing is yet."""

    ax: Axes
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def mark(self, xy: tuple[float, float], half: float = 5.0) -> None:
        """Keep texts off a mark."""
        x, y = self._pixels(xy)
        self.taken.append((x - half, y - half, x + half, y + half))

    def put(self, xy: tuple[float, float], text: str, **style: Any) -> None:
        """Write a text if there is room for it."""
        x, y = self._pixels(xy)
        wide, tall = 5.4 * len(text), 9.0
        for dx, dy in ((5, 2), (-5 - wide, 2), (5, -2 - tall), (-5 - wide, -2 - tall),
                       (-wide / 2, 6), (-wide / 2, -6 - tall)):  # fmt: skip
            box = (x + dx, y + dy, x + dx + wide, y + dy + tall)
            if self._is_inside(box) and not any(_overlap(box, other) for other in self.taken):
                self.taken.append(box)
                points = 72 / self.ax.figure.dpi
                self.ax.annotate(text, xy, xytext=(dx * points, dy * points), fontsize=6.5,
                                 textcoords="offset points", zorder=6, **style)  # fmt: skip
                return

    def _pixels(self, xy: tuple[float, float]) -> tuple[float, float]:
        x, y = self.ax.transData.transform(xy)
        return float(x), float(y)

    def _is_inside(self, box: tuple[float, float, float, float]) -> bool:
        frame = self.ax.get_window_extent()
        return bool(
            frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
        )


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


_TARGET: dict[str, Any] = {"color": MUTED, "lw": 0.9, "ls": (0, (4, 2)), "zorder": 1.5}


def _scatter(
    ax: Axes, study: Study, size: str, metrics: tuple[str, str], methods: Sequence[str]
) -> None:
    for family in study.families:
        inside = [
            pair
            for curve in study.curves
            if (curve.forget_size, curve.family) == (size, family)
            for t, point in curve.points
            if t not in (0, 1) and (pair := _xy(study.scores.get(point, {}), metrics))
        ]
        if inside:
            ax.scatter(*zip(*inside, strict=True), **_family_style(study.families.index(family)))
    labels = _Labels(ax)
    if target := _references(study, size, metrics).get("retrained"):
        ax.axvline(target[0], **_TARGET)
        ax.axhline(target[1], **_TARGET)
    ends = [(end, xy) for end in study.endpoints
            if end.forget_size == size and (xy := _xy(end.scores, metrics))]  # fmt: skip
    for end, xy_end in ends:
        _mark_endpoint(ax, end, xy_end, methods)
        labels.mark(xy_end)
        if end.role in REFERENCES:
            below = -14.0 if end.role == "original" else 14.0
            x, y = ax.transData.transform(xy_end)
            wide = 6.5 * len(end.role)
            labels.taken.append((x - wide, y + below - 7, x + wide, y + below + 7))
    walks = [walk for walk in study.walks if walk.forget_size == size]
    for walk in walks:
        for _, xy_step in walk_path(study, walk, metrics):
            labels.mark(xy_step, 3.0)
    named = [(end, xy) for end, xy in ends if end.role in ("blend", "model", "learner")]
    for end, xy_end in named if len(named) <= MAX_NAMED else []:
        labels.put(xy_end, end.label, color=INK, fontweight="bold")
    _walk_lines(study, walks, metrics, methods, labels)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_title(size, loc="left", fontsize=8, fontweight="bold")
    ax.set_xlabel(_axis_label(metrics[0]))


def _walk_lines(
    study: Study,
    walks: Sequence[Walk],
    metrics: tuple[str, str],
    methods: Sequence[str],
    labels: _Labels,
) -> None:
    families = unique(walk.family for walk in study.walks)
    for walk in walks:
        path = walk_path(study, walk, metrics)
        if not path:
            continue
        color = PALETTE[methods.index(_method(walk.second)) % len(PALETTE)]
        family = families.index(walk.family)
        style = _walk_style(family, walk.has_names)
        labels.ax.plot(*zip(*(xy for _, xy in path), strict=True), color=color, zorder=2.5, **style)
        if not walk.has_names:
            for text, xy in reversed(path[1:] if path[0][0] == "0" else path):
                labels.put(xy, text, color=color)


def _walk_style(index: int, has_names: bool) -> dict[str, Any]:
    if has_names:
        return {"marker": ("_", "|", "x", "+")[index % 4], "ms": 4.5, "mew": 0.9, "ls": ""}
    return {"marker": ".", "ms": 4.0, "lw": 1.1, "ls": LINES[index % len(LINES)]}


def _family_style(index: int) -> dict[str, Any]:
    return {
        "marker": ("o", "s", "^", "D")[index % 4],
        "s": 11,
        "facecolors": MUTED if index % 2 == 0 else "none",
        "edgecolors": MUTED,
        "linewidths": 0.7,
        "alpha": 0.6,
        "zorder": 2,
    }


def _method_style(index: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[index % len(MARKERS)],
        "color": PALETTE[index % len(PALETTE)],
        "edgecolors": INK,
        "linewidths": 0.5,
    }


def _mark_endpoint(
    ax: Axes, end: Endpoint, xy: tuple[float, float], methods: Sequence[str]
) -> None:
    if end.role in OTHERS:
        marker, _ = OTHERS[end.role]
        ax.scatter(*xy, s=40, marker=marker, facecolors="none", edgecolors=INK, linewidths=1.0,
                   zorder=3.5)  # fmt: skip
        return
    if end.role not in REFERENCES:
        ax.scatter(*xy, s=34, zorder=3, **_method_style(methods.index(_method(end.label))))
        return
    marker = "*" if end.role == "original" else "X"
    (x, y), told = _at_edge(ax, xy)
    size = 90 if marker == "*" else 55
    ax.scatter(x, y, s=size, marker=marker, color=INK, zorder=4, clip_on=False)
    is_below = end.role == "original" and not told  # so that names part when the models are close
    is_right = ax.transAxes.inverted().transform(ax.transData.transform((x, y)))[0] > 0.5
    ax.annotate(f"{end.role}{told}", (x, y), xytext=(-5 if is_right else 5, -6 if is_below else 5),
                ha="right" if is_right else "left", textcoords="offset points",
                va="top" if is_below else "bottom", fontweight="bold", zorder=5)  # fmt: skip


def _at_edge(ax: Axes, xy: tuple[float, float]) -> tuple[tuple[float, float], str]:
    """Bring a point that is off the scales to their edge; say where it really is."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    near = (min(max(xy[0], left), right), min(max(xy[1], low), high))
    off = [value for value, shown in zip(xy, near, strict=True) if value != shown]
    way = "↓" if xy[1] < low else "↑" if xy[1] > high else "←" if xy[0] < left else "→"
    return near, f" {way} {', '.join(f'{value:.2g}' for value in off)}" if off else ""


def _handles(study: Study, methods: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="", ms=6, mec=INK, mew=0.5, label=method,
               marker=MARKERS[i % len(MARKERS)], color=PALETTE[i % len(PALETTE)])
        for i, method in enumerate(methods)
    ]  # fmt: skip
    for index, family in enumerate(study.families):
        style = _family_style(index)
        handles.append(
            Line2D([], [], ls="", ms=3.5, mec=MUTED, mew=0.7, marker=style["marker"],
                   mfc=style["facecolors"], label=f"inside a {family} curve")
        )  # fmt: skip
    walks = {walk.family: walk.has_names for walk in study.walks}
    for index, (family, has_names) in enumerate(walks.items()):
        style = _walk_style(index, has_names)
        handles.append(Line2D([], [], color=MUTED, label=family.replace("_", " "), **style))
    roles = {end.role for end in study.endpoints}
    return handles + [
        Line2D([], [], ls="", ms=6, mec=INK, mfc="none", marker=marker, label=label)
        for role, (marker, label) in OTHERS.items()
        if role in roles
    ]
