"""What is on each figure of walks from the original, before any drawing: lines, panels, pages.

A figure holds a panel per metric and a line per model, along alpha or layer by layer.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.ticker import MaxNLocator

from raymcu.report.data import TARGETS, Study, Walk, colors_of, metric_info, short_labels, unique
from raymcu.report.panels import Axis, groups, needs_log, slug, value_axis

WALK_METRICS = (
    "model_utility",
    "forget_quality_log10",
    "verbmem",
    "forget_knowmem",
    "retain_knowmem",
    "privleak",
    "retain_accuracy",
    "forget_accuracy",
    "retain_es",
    "forget_es",
    "retain_loss",
    "forget_loss",
    "retain_rouge",
    "forget_rouge",
)
"""What is drawn of a walk, in this order, as far as it was scored; what it is calibrated by too."""
MAX_WALK_PANELS = 8
MAX_TICKS = 7
UNLEARNER = "unlearner"
"""Name of the last position of a walk over layers: all weights from the unlearner."""


@dataclass(frozen=True)
class Across:
    """The axis of positions."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str
    linear_to: float | None = None
    """On a logarithmic axis: up to here it is linear, so that 0 is on it."""


@dataclass(frozen=True)
class WalkLine:
    """One metric along one walk."""

    name: str
    """Of the model."""
    family: str
    values: tuple[tuple[float, float], ...]
    """(position, score)."""
    place: tuple[float, float] | None = None
    """Where the unlearner itself is."""
    is_joined: bool = True


@dataclass(frozen=True)
class WalkPanel:
    """One metric along all walks of a figure."""

    metric: str
    axis: Axis
    lines: tuple[WalkLine, ...]
    references: tuple[tuple[str, float], ...]
    """(role, score) of the original and the retrained model."""


@dataclass(frozen=True)
class WalkPage:
    """One figure."""

    name: str
    title: str
    forget_size: str
    across: Across
    models: tuple[tuple[str, int], ...]
    """Name and number of its colour, the same in every figure of walks."""
    panels: tuple[WalkPanel, ...]
    has_names: bool = False


def walk_pages(study: Study) -> list[WalkPage]:
    """Lay out the walks along alpha: a page per kind of walk and forget set."""
    walks = [walk for walk in study.walks if not walk.has_names]
    families = unique(walk.family for walk in walks)
    made = []
    for family in families:
        for size in study.forget_sizes:
            here = [w for w in walks if (w.family, w.forget_size) == (family, size)]
            drawn = [(walk, walk.points, _place(study, walk)) for walk in here]
            across = across_amounts([t for walk in here for t, _ in walk.points])
            if here and (panels := _panels(study, size, drawn)):
                name = f"walk_{slug(family)}_{slug(size)}"
                made.append(WalkPage(name, family, size, across, _models(study, here), panels))
    return made


def layer_pages(study: Study) -> list[WalkPage]:
    """Lay out the walks over layers: pages of walks whose positions can stand side by side."""
    made = []
    for size in study.forget_sizes:
        walks = [walk for walk in study.walks if walk.has_names and walk.forget_size == size]
        for families in _apart(walks):
            here = [walk for walk in walks if walk.family in families]
            names = unique(step.label for walk in here for step in walk.steps)
            drawn = []
            for walk in here:
                points = [(float(names.index(s.label)), s.point_id) for s in walk.steps]
                ends = _unlearners(study, walk)
                drawn.append((walk, tuple(points), (float(len(names)), ends[0]) if ends else None))
            across = across_names([*names, UNLEARNER])
            if panels := _panels(study, size, drawn):
                name = f"layers_{slug('_'.join(families))}_{slug(size)}"
                title = ", ".join(family.replace("_", " ") for family in families)
                models = _models(study, here)
                made.append(WalkPage(name, title, size, across, models, panels, has_names=True))
    return made


def _apart(walks: Sequence[Walk]) -> list[list[str]]:
    """Put kinds of walks together as long as no position has a name that another one has."""
    labels: dict[str, set[str]] = {}
    for walk in walks:
        labels.setdefault(walk.family, set()).update(step.label for step in walk.steps)
    parts: list[tuple[list[str], set[str]]] = []
    for family, found in labels.items():
        for names, taken in parts:
            if not taken & found:
                names.append(family)
                taken |= found
                break
        else:
            parts.append(([family], set(found)))
    return [names for names, _ in parts]


def across_amounts(ts: Iterable[float], title: str = "alpha (0 = the original)") -> Across:
    """Choose the axis of alpha: by powers of 2 where positions are, as .5, 1, 2, 4, 8."""
    ts = sorted(set(ts)) or [0.0, 1.0]
    low, high = ts[0], ts[-1]
    positive = [t for t in ts if t > 0]
    if not positive or high <= 1 or median(positive) > 0.4 * high:
        pad = 0.04 * (high - low or 1.0)
        places = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = tuple((float(t), f"{t:g}") for t in places if low - pad <= t <= high + pad)
        return Across(low - pad, high + pad, ticks, title)
    start = positive[0]
    powers = [start * 2**k for k in range(math.floor(math.log2(high / start) + 1e-9) + 1)]
    below = [-max(t for t in powers if -t >= low - 1e-9)] if -powers[0] >= low - 1e-9 else []
    powers = powers[-1 :: -math.ceil(len(powers) / MAX_TICKS)][::-1]
    ticks = tuple((t, f"{t:g}") for t in [*below, *([0.0] if low <= 0 else []), *powers])
    left = -0.12 * start if low >= 0 else low * 1.1
    return Across(left, high * 1.12, ticks, title, linear_to=start)


def across_names(names: Sequence[str]) -> Across:
    """Give every named position a place; ``layer 3`` is written as its number."""
    ticks = tuple((float(n), name.removeprefix("layer ")) for n, name in enumerate(names))
    return Across(-0.6, len(names) - 0.4, ticks, "decoder layer")


def _models(study: Study, walks: Sequence[Walk]) -> tuple[tuple[str, int], ...]:
    short, colors = short_labels(walk.second for walk in study.walks), colors_of(study)
    here = sorted({(colors[walk.second], short[walk.second]) for walk in walks})
    return tuple((name, color) for color, name in here)


def _unlearners(study: Study, walk: Walk) -> list[str]:
    """Return the points of the unlearner that a walk is about: a checkpoint, a blend, or both."""
    sought = ("unlearner", walk.second, walk.forget_size)
    return [e.point_id for e in study.endpoints if (e.role, e.label, e.forget_size) == sought]


def _place(study: Study, walk: Walk) -> tuple[float, str] | None:
    """Return where on a walk the unlearner itself is, if it is on it."""
    ends = _unlearners(study, walk)
    return next(((t, here) for t, here in walk.points if here in ends), None)


_Drawn = tuple[Walk, tuple[tuple[float, str], ...], tuple[float, str] | None]
"""A walk, where its points are put, and where its unlearner is."""


def _panels(study: Study, size: str, drawn: Sequence[_Drawn]) -> tuple[WalkPanel, ...]:
    names = short_labels(walk.second for walk in study.walks)
    scored = {
        metric
        for _, points, _ in drawn
        for _, point in points
        for metric, value in study.scores.get(point, {}).items()
        if value is not None
    }
    made = []
    for metric in shown_metrics(study, scored):
        lines = tuple(
            line for row in drawn if (line := _line(study, metric, names[row[0].second], row))
        )
        references = tuple(
            (end.role, value)
            for end in study.endpoints
            if end.role in TARGETS and end.forget_size == size
            if (value := end.scores.get(metric)) is not None
        )
        values = [v for line in lines for _, v in line.values] + [v for _, v in references]
        values += [line.place[1] for line in lines if line.place]
        info = metric_info(metric)
        axis = value_axis(values, info, needs_log(values, info))
        made.append(WalkPanel(metric, axis, lines, references))
    return tuple(made)


def shown_metrics(study: Study, scored: Iterable[str]) -> tuple[str, ...]:
    """Choose what is drawn of walks; where none of the usual was scored, whatever was."""
    scored = set(scored)
    judged_by = [row[key] for row in study.calibrations for key in ("metric", "rank_by")]
    wanted = unique([*judged_by, *WALK_METRICS])
    usual = [metric for metric in wanted if metric in scored][:MAX_WALK_PANELS]
    if not usual:
        found = [metric for group in groups(sorted(scored)) for metric in group.metrics]
        return tuple(found[:MAX_WALK_PANELS])
    return tuple(sorted(usual, key=lambda m: _RANK.get(m, len(_RANK))))


_RANK = {metric: index for index, metric in enumerate(WALK_METRICS)}


def _line(study: Study, metric: str, name: str, drawn: _Drawn) -> WalkLine | None:
    walk, points, place = drawn

    def score(point: str) -> float | None:
        return study.scores.get(point, {}).get(metric)

    values = tuple((t, v) for t, point in points if (v := score(point)) is not None)
    if not values:
        return None
    at = score(place[1]) if place else None
    spot = (place[0], at) if place and at is not None else None
    is_joined = not walk.has_names or all(re.search(r"\d$", step.label) for step in walk.steps)
    return WalkLine(name, walk.family, values, spot, is_joined)
