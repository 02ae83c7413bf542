"""What is on each figure, before any drawing: metrics, curves, panels, scales and pages.

Two layouts. In an *overlay* a panel shows one metric and the curve families lie over each other,
so that linear and quadratic compare at a glance (losses, utility, forget quality). In a *bundle* a
panel shows several metrics of one unit, and the families stand side by side.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from raymcu.errors import ConfigError, unknown_name
from raymcu.report.data import TARGETS, Curve, MetricInfo, Study, metric_info, unique

T = TypeVar("T")

MAX_PANELS = 6
"""Panels side by side on one page."""
MAX_ROWS = 8
"""Panels above each other on one page."""
MAX_BUNDLE = 6
"""Metrics in one panel."""
LOG_RATIO = 8.0
"""Positive losses that span more than this ratio get a logarithmic axis."""

OTHER_SCALE = re.compile(
    r"^forget_quality_(ln|p|d)$|_(arith|ou|satimp|uwc|prob_mean|own_nll)$|^ou_aggregate_two$"
    r"|^privleak_|^mia_min_k_20_|^mia_svc_(m_)?entropy_|^ua_accuracy_|^zrf_"
)
"""Much the same as a drawn metric, on another scale or by another convention: tables only."""
OF_TEXTS = re.compile(r"^(verbmem|privleak|.*_knowmem)$")
"""Drawn only where VerbMem was measured: questions alone have ROUGE and the membership AUCs."""
BARRIER_METRICS = {
    f"{prefix}_{loss}": (prefix, side)
    for loss in ("loss", "text_loss")
    for prefix, side in (("retain", 1.0), ("forget", -1.0))
}
"""Metric to its findings prefix and the side of the chord a barrier is on."""


@dataclass(frozen=True)
class MetricFamily:
    """Metrics that are read together."""

    name: str
    title: str
    pattern: str
    is_overlay: bool = False
    is_headline: bool = False
    """Whether its figures are shown first, before those that a reader opens."""


METRIC_FAMILIES = tuple(
    MetricFamily(*row)
    for row in (
        ("losses", "Losses", r"^(retain|forget)_(text_)?loss$", True, True),
        ("utility", "Model utility and forget quality", r"^model_util|^forget_qual", True, True),
        ("muse", "VerbMem and KnowMem (ROUGE-L F1)", r"^verbmem|_knowmem", False, True),
        ("privleak", "PrivLeak", r"^privleak", True, True),
        ("accuracy", "Accuracy", r"_accuracy$", False, True),
        ("classes", "UA, RA, TA, MIA and their gap", r"^(ua|ra|ta)_|_nonmember$", False, True),
        ("choice", "Probability of the right choice", r"_choice_probability$"),
        ("rouge", "ROUGE-L recall", r"rouge"),
        ("extraction", "Extraction strength (ES), exact memorization (EM)", r"_(es|em)(_|$)"),
        ("probability", "Probability of the answer", r"_probability(_ou)?$"),
        ("truth_ratio", "Truth ratio", r"truth_ratio"),
        ("membership", "Membership inference (AUC)", r"^mia_"),
        ("zrf", "Likeness to an untrained model (ZRF)", r"^zrf"),
        ("divergence", "Divergence from the retrained model", r"_(js|kl)_retrained$"),
        ("churn", "Changed predictions", r"_churn_"),
        ("aggregates", "OpenUnlearning's aggregates", r"^ou_"),
        ("collapse", "Collapse of generations", r"_(repetition|empty|fluency|own_nll)$"),
        ("similarity", "Likeness of hidden states (CKA)", r"_cka_"),
        ("readings", "Read inside: probes, soft prompts", r"^(linear_probe|knn|soft_prompt)_"),
        ("sharpness", "Sharpness of losses", r"_(top_eigenvalue|hessian_trace)$"),
        ("grades", "Grades by a judge", r"_(naturalness|similarity)$"),
    )
)
"""A metric belongs to the first family it matches."""
_PROBES = ("model", "retain", "forget", "test", "real_authors", "world_facts")


def metric_families(metrics: Iterable[str]) -> tuple[tuple[MetricFamily, tuple[str, ...]], ...]:
    """Sort metrics into families; those of no known one go together by unit."""
    rest = list(metrics)
    found = []
    for family in METRIC_FAMILIES:
        here = sorted((m for m in rest if re.search(family.pattern, m)), key=_probe_order)
        rest = [metric for metric in rest if metric not in here]
        if here:
            found.append((family, tuple(here)))
    for unit in unique(metric_info(metric).unit for metric in rest):
        title = "Other metrics" + (f" ({unit})" if unit else "")
        other = MetricFamily(f"other_{unit}".rstrip("_"), title, "")
        found.append((other, tuple(m for m in rest if metric_info(m).unit == unit)))
    return tuple(found)


@dataclass(frozen=True)
class Group:
    """Metrics that are drawn on one figure."""

    name: str
    title: str
    metrics: tuple[str, ...]
    is_overlay: bool
    is_headline: bool = False


def groups(metrics: Iterable[str]) -> tuple[Group, ...]:
    """Choose what to draw of the metrics of a study, and on which figures."""
    drawn = [metric for metric in metrics if not OTHER_SCALE.search(metric)]
    if "verbmem" not in drawn:
        drawn = [metric for metric in drawn if not OF_TEXTS.search(metric)]
    found = []
    for family, here in metric_families(drawn):
        chunks = [here] if family.is_overlay else balanced(here, MAX_BUNDLE)
        for index, chunk in enumerate(chunks):
            suffix = f"_{chr(ord('a') + index)}" if len(chunks) > 1 else ""
            name = family.name + suffix
            group = Group(name, family.title, tuple(chunk), family.is_overlay, family.is_headline)
            found.append(group)
    return tuple(found)


def _probe_order(metric: str) -> tuple[int, str]:
    probes = [index for index, probe in enumerate(_PROBES) if metric.startswith(probe)]
    return (probes[0] if probes else len(_PROBES), metric)


def balanced(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Cut into as few chunks of at most ``most`` as possible, of nearly equal length."""
    count = max(1, math.ceil(len(items) / most))
    edges = [round(index * len(items) / count) for index in range(count + 1)]
    return [items[start:end] for start, end in pairwise(edges)]


@dataclass(frozen=True)
class Axis:
    """The value axis that all panels of a row share."""

    low: float
    high: float
    is_log: bool = False


def needs_log(values: Sequence[float], info: MetricInfo) -> bool:
    """Say whether values of a loss lie orders of magnitude apart, as after gradient ascent."""
    low, high = min(values), max(values)
    return info.unit == "nats" and low > 0 and high / low > LOG_RATIO


def value_axis(values: Sequence[float], info: MetricInfo, is_log: bool = False) -> Axis:
    """Choose a range that shows all values, and does not blow noise up to a landscape."""
    low, high = min(values), max(values)
    if is_log:
        return Axis(low / 1.25, high * 1.25, is_log=True)
    least = max(0.05, 0.1 * abs(low + high) / 2)
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    pad = 0.08 * (high - low)
    floor = -math.inf if info.low is None else info.low - 0.02 * (high - low)
    ceiling = math.inf if info.high is None else info.high + 0.02 * (high - low)
    return Axis(max(low - pad, min(floor, min(values))), min(high + pad, max(ceiling, max(values))))


@dataclass(frozen=True)
class Barrier:
    """The worst point of a loss along a curve: from the chord to the curve at ``t``."""

    t: float
    chord: float
    value: float
    size: float
    is_within: bool
    """Whether it is within the tolerance."""


@dataclass(frozen=True)
class Line:
    """One metric along one curve."""

    metric: str
    family: str
    values: tuple[tuple[float, float], ...]
    chord: tuple[float, float] | None = None
    """Values at t = 0 and t = 1, of losses whose ends are both measured."""
    barrier: Barrier | None = None


@dataclass(frozen=True)
class Row:
    """Panels that share a forget size and a value axis."""

    forget_size: str
    metrics: tuple[str, ...]
    axis: Axis
    panels: tuple[tuple[Line, ...], ...]
    """In the order of the page's columns; a panel without lines has no scores yet."""
    starts_size: bool = False
    """Whether the row above is of another forget size."""
    levels: tuple[tuple[str, str, float], ...] = ()
    """(metric, reference model, its score), of those within the axis."""


@dataclass(frozen=True)
class Page:
    """One figure."""

    name: str
    setting: str
    title: str
    group: Group
    families: tuple[str, ...]
    columns: tuple[tuple[str, str | None], ...]
    """(pair, family), or (pair, None) where families lie over each other."""
    rows: tuple[Row, ...]


def slug(text: str) -> str:
    """Turn a label into a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def pages(study: Study, setting: str, group: Group) -> list[Page]:
    """Lay one setting's curves and one group of metrics out on as many pages as they need."""
    curves = [curve for curve in study.curves if curve.setting == setting]
    families = unique(curve.family for curve in curves)
    per_column = 1 if group.is_overlay else len(families)
    pairs = balanced(unique(curve.pair for curve in curves), max(1, MAX_PANELS // per_column))
    per_row = len(group.metrics) if group.is_overlay else 1
    sizes = balanced(unique(c.forget_size for c in curves), max(1, MAX_ROWS // per_row))
    bands = [(metric,) for metric in group.metrics] if group.is_overlay else [group.metrics]
    logs = {band: _is_log(study, curves, band) for band in bands}
    made: list[Page] = []
    for size_chunk in sizes:
        for pair_chunk in pairs:
            across = (None,) if group.is_overlay else families
            found = [(pair, family) for pair in pair_chunk for family in across]
            rows = _rows(study, curves, logs, group, size_chunk, found)
            if rows:
                suffix = f"_{len(made) + 1}" if len(pairs) * len(sizes) > 1 else ""
                name = f"{slug(setting)}_{slug(group.name)}{suffix}"
                made.append(
                    Page(name, setting, group.title, group, families, tuple(found), tuple(rows))
                )
    return made


def curve_page(study: Study, name: str | None, metric: str) -> Page:
    """Lay out one metric along the curves that a name means, or along all of them.

    Args:
        study: It and its scores.
        name: A pair, a curve, or what curves have in common: an end, method, family, forget set,
            setting.
        metric: One that was scored.

    Raises:
        ConfigError: If there are no such curves or scores, or more than one figure holds.
    """
    if metric not in study.metrics:
        raise ConfigError(unknown_name("metric with values here", metric, study.metrics))
    curves = [curve for curve in study.curves if name is None or name in _names(curve)]
    if not curves:
        known = unique(n for c in study.curves for n in (c.setting, c.pair, c.first.split("/")[0]))
        raise ConfigError(unknown_name("curve", str(name), known))
    group = Group(metric, metric_info(metric).title, (metric,), is_overlay=True)
    of_these = replace(study, curves=tuple(curves))
    found = [page for setting in of_these.settings for page in pages(of_these, setting, group)]
    if not found:
        raise ConfigError(f"'{name}': its curves have no {metric} yet. Measure them first.")
    if len(found) > 1:
        told = unique(f"{curve.setting}: {curve.pair}" for curve in curves)
        raise ConfigError(
            f"'{name or 'all curves'}' takes {len(found)} figures of {metric} ({'; '.join(told)}). "
            "Name a setting or a pair."
        )
    return found[0]


def _names(curve: Curve) -> tuple[str, ...]:
    """Return what a curve may be asked for by."""
    ends = (curve.first, curve.second)
    return (
        *(curve.setting, curve.pair, f"{curve.family}({curve.first}, {curve.second})"),
        *(curve.family, curve.forget_size, *ends, *(end.partition("/")[0] for end in ends)),
    )


def _rows(
    study: Study,
    curves: Sequence[Curve],
    logs: Mapping[tuple[str, ...], bool],
    group: Group,
    sizes: Sequence[str],
    columns: Sequence[tuple[str, str | None]],
) -> list[Row]:
    rows: list[Row] = []
    for size in sizes:
        here = [curve for curve in curves if curve.forget_size == size]
        is_first = bool(rows)
        for metrics, is_log in logs.items():
            values = _values(study, here, metrics)
            if values:
                levels = _levels(study, size, metrics) if group.name in _LEVELLED else []
                info = metric_info(metrics[0])
                if info.low is not None and info.high is not None and math.isfinite(info.high):
                    values = [*values, *(value for _, _, value in levels)]
                axis = value_axis(values, info, is_log)
                panels = tuple(
                    tuple(_lines(study, here, metrics, pair, family)) for pair, family in columns
                )
                shown = tuple(one for one in levels if axis.low <= one[2] <= axis.high)
                rows.append(Row(size, metrics, axis, panels, is_first, shown))
                is_first = False
    return rows


_LEVELLED = ("losses", "accuracy", "classes", "zrf")
"""Groups on whose panels the reference models stand as levels."""


def _levels(study: Study, size: str, metrics: Sequence[str]) -> list[tuple[str, str, float]]:
    return [
        (metric, end.role, value)
        for metric in metrics
        for end in study.endpoints
        if end.role in TARGETS and end.forget_size == size
        if (value := end.scores.get(metric)) is not None
    ]


def _values(study: Study, curves: Sequence[Curve], metrics: Sequence[str]) -> list[float]:
    return [v for curve in curves for m in metrics for _, v in study.values(curve, m)]


def _is_log(study: Study, curves: Sequence[Curve], metrics: Sequence[str]) -> bool:
    values = _values(study, curves, metrics)
    return bool(values) and needs_log(values, metric_info(metrics[0]))


def _lines(
    study: Study, curves: Sequence[Curve], metrics: Sequence[str], pair: str, family: str | None
) -> Iterator[Line]:
    for curve in curves:
        if curve.pair != pair or family not in (None, curve.family):
            continue
        for metric in metrics:
            values = study.values(curve, metric)
            if values:
                chord = _chord(values) if metric in BARRIER_METRICS else None
                barrier = _barrier(study, curve, metric, chord) if chord else None
                yield Line(metric, curve.family, values, chord, barrier)


def _chord(values: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    ends = dict(values)
    return (ends[0.0], ends[1.0]) if 0.0 in ends and 1.0 in ends else None


def _barrier(study: Study, curve: Curve, metric: str, chord: tuple[float, float]) -> Barrier | None:
    prefix, side = BARRIER_METRICS[metric]
    finding = study.findings.get(curve.curve_id, {})
    if metric != f"{prefix}_{finding.get('judged_by') or 'loss'}":
        return None  # other losses than those it was judged by
    size, t = finding.get(f"{prefix}_barrier"), finding.get(f"{prefix}_barrier_t")
    if size is None or t is None:
        return None
    level = (1 - t) * chord[0] + t * chord[1]
    return Barrier(t, level, level + side * size, size, size <= finding["tolerance"])
