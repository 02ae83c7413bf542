"""Findings per curve: ``points`` and ``scores`` in, ``findings`` and ``metric_findings`` out.

The MCU verdict (eqs 2 to 4): two unlearners are mode connected if neither the
retain loss rises above its chord nor the forget loss falls below its own by more than a tolerance.
L(D_f) and L(D_r) are those of whole texts where both ends were asked these, and else of the answers
to the probes forget and retain.

Fragmentation (section 5.3, figure 4): along a path whose losses are connected, how much another
metric varies, in units of what the single models of the forget set span: the original, the
retrained model, ready models and unlearners. At 1 the path leads as far as all of them lie apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.barriers import (
    chord_barrier,
    curvature,
    forget_barrier,
    retain_barrier,
    total_variation,
)
from raymcu.analysis.doubts import LEAST
from raymcu.metrics._base import METRICS, Better, Floats
from raymcu.store import tables

CURVE_COLUMNS = ("curve_id", "setting", "family", "forget_size", "first", "second")
ANSWERS, TEXTS = "loss", "text_loss"
"""What judges a curve: behind ``retain_`` and ``forget_`` it names the two losses."""
_CLEARLY = 1e-9
"""By how much an interior score has to beat an end to be called better."""


@dataclass(frozen=True)
class _Trace:
    """One score along one curve, ordered by t; points without the score are left out."""

    t: Floats  # (points,)
    value: Floats  # (points,)

    def at(self, t: float) -> float | None:
        """Return the score at exactly ``t``, if it is there."""
        found = self.value[self.t == t]
        return float(found[0]) if len(found) else None

    def has_ends(self) -> bool:
        """Say whether both t = 0 and t = 1 have the score."""
        return self.at(0.0) is not None and self.at(1.0) is not None


_Curve = Mapping[str, _Trace]
"""Metric name to trace."""


def analyze(points: pa.Table, scores: pa.Table, tolerance: float) -> tuple[pa.Table, pa.Table]:
    """Judge every curve by its losses and describe every metric along it.

    A curve is left out unless both its ends have a forget loss and a retain loss. Interior points
    without scores are passed over, and ``num_points`` counts the rest. ``is_connected`` is null if
    that leaves no interior point, and curvatures are too: two ends alone show nothing.

    Args:
        points: Table ``points``; rows without a curve are single checkpoints, rows without a
            setting walks, whose ends are no pair: both are ignored.
        scores: Table ``scores`` of these points; null values are left out.
        tolerance: Largest barrier that still counts as none, in nats, >= 0.

    Returns:
        Tables ``findings`` (one row per curve) and ``metric_findings`` (per curve and metric with
        a value on it), ordered by what the curve connects. The order of input rows is irrelevant.
    """
    findings, metric_findings = [], []
    values = values_of(scores)
    spans = _spans(points, values)
    for head, curve in _curves(points, values):
        losses = _losses(curve)
        if losses is None:
            continue
        judged_by, retain, forget = losses
        found = _finding(retain, forget, tolerance)
        findings.append(head | found | {"judged_by": judged_by})
        for name in sorted(curve):
            row = head | {"metric": name} | _metric_finding(curve[name], _better(name))
            span = spans.get((head["forget_size"], name))
            if found["is_connected"] and span is not None:
                row["fragmentation"] = row["spread"] / span
            metric_findings.append(row)
    return (
        tables.from_rows("findings", findings),
        tables.from_rows("metric_findings", metric_findings),
    )


_SINGLE = ("original", "retrained", "model", "unlearner")


def _spans(
    points: pa.Table, values: Mapping[str, Mapping[str, float]]
) -> dict[tuple[str, str], float]:
    """Return how far single models and ends of curves lie apart, by forget set and metric.

    What is no more than chance would make of models that are alike is left out.
    """
    ends: dict[tuple[str, str], list[float]] = {}
    for row in points.select(["forget_size", "role", "t", "point_id"]).to_pylist():
        if row["role"] in _SINGLE or (row["role"] == "curve" and row["t"] in (0, 1)):
            for metric, value in values.get(row["point_id"], {}).items():
                here = ends.setdefault((row["forget_size"], metric), [value, value])
                here[:] = min(here[0], value), max(here[1], value)
    return {
        (size, metric): high - low
        for (size, metric), (low, high) in ends.items()
        if high - low > LEAST.get(METRICS[metric].unit if metric in METRICS else "", 0.0)
    }


def _curves(
    points: pa.Table, values: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[dict[str, Any], _Curve]]:
    """Yield what each curve is and its traces."""
    heads: dict[str, dict[str, Any]] = {}
    places: dict[str, dict[float, str]] = {}
    for row in points.select([*CURVE_COLUMNS, "t", "point_id"]).to_pylist():
        if row["curve_id"] is not None and row["setting"] is not None:
            heads[row["curve_id"]] = {name: row[name] for name in CURVE_COLUMNS}
            places.setdefault(row["curve_id"], {})[row["t"]] = row["point_id"]
    for curve_id in sorted(heads, key=lambda name: sort_key(heads[name])):
        yield heads[curve_id], _traces(places[curve_id], values)


def values_of(scores: pa.Table) -> dict[str, dict[str, float]]:
    """Return the scores that have a value, by point and metric."""
    values: dict[str, dict[str, float]] = {}
    rows = zip(*tables.columns(scores, "point_id", "metric", "value"), strict=True)
    for point, metric, value in rows:
        if value is not None:
            values.setdefault(point, {})[metric] = value
    return values


def sort_key(head: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what rows of curves are ordered by: what the curve connects."""
    order = ("forget_size", "setting", "first", "second", "family", "curve_id")
    return tuple(head[name] or "" for name in order)


def _traces(places: Mapping[float, str], values: Mapping[str, Mapping[str, float]]) -> _Curve:
    found: dict[str, tuple[list[float], list[float]]] = {}
    for t in sorted(places):
        for name, value in values.get(places[t], {}).items():
            at, here = found.setdefault(name, ([], []))
            at.append(t)
            here.append(value)
    return {name: _Trace(np.array(at), np.array(here)) for name, (at, here) in found.items()}


def _losses(curve: _Curve) -> tuple[str, _Trace, _Trace] | None:
    """Return which losses judge a curve, and those of retain and forget set where both are.

    None without both ends.
    """
    for judged_by in (TEXTS, ANSWERS):
        retain, forget = (curve.get(f"{side}_{judged_by}") for side in ("retain", "forget"))
        if retain is None or forget is None:
            continue
        t, in_retain, in_forget = np.intersect1d(retain.t, forget.t, return_indices=True)
        retain, forget = _Trace(t, retain.value[in_retain]), _Trace(t, forget.value[in_forget])
        if retain.has_ends():
            return judged_by, retain, forget
    return None


def _finding(retain: _Trace, forget: _Trace, tolerance: float) -> dict[str, Any]:
    on_retain = retain_barrier(retain.t, retain.value)
    on_forget = forget_barrier(forget.t, forget.value)
    is_low = max(on_retain.height, on_forget.height) <= tolerance
    return {
        "num_points": len(retain.t),
        "retain_barrier": on_retain.height,
        "retain_barrier_t": on_retain.t,
        "forget_barrier": on_forget.height,
        "forget_barrier_t": on_forget.t,
        "retain_curvature": curvature(retain.t, retain.value),
        "forget_curvature": curvature(forget.t, forget.value),
        "retain_variation": total_variation(retain.t, retain.value),
        "forget_variation": total_variation(forget.t, forget.value),
        "tolerance": tolerance,
        "is_connected": is_low if len(retain.t) > 2 else None,
    }


def _better(name: str) -> Better:
    """Return the metric's direction; a metric this raymcu does not know has none."""
    return METRICS[name].better if name in METRICS else "neither"


def _metric_finding(trace: _Trace, better: Better) -> dict[str, Any]:
    low, high = float(trace.value.min()), float(trace.value.max())
    row: dict[str, Any] = {
        "at_first": trace.at(0.0),
        "at_second": trace.at(1.0),
        "minimum": low,
        "maximum": high,
        "spread": high - low,
    }
    if better == "neither":
        if trace.has_ends() and len(trace.t) > 2:
            off = chord_barrier(trace.t, trace.value)
            row |= {"barrier": off.height, "barrier_t": off.t}
        return row
    goodness = trace.value if better == "higher" else -trace.value
    row["best_t"] = float(trace.t[np.argmax(goodness)])
    if trace.has_ends():
        if len(trace.t) > 2:
            barrier = forget_barrier if better == "higher" else retain_barrier
            worst = barrier(trace.t, trace.value)
            row |= {"barrier": worst.height, "barrier_t": worst.t}
        is_end = (trace.t == 0.0) | (trace.t == 1.0)
        interior = goodness[~is_end]
        best_end = goodness[is_end].max()
        row["interior_beats_ends"] = bool(len(interior) and interior.max() > best_end + _CLEARLY)
    return row


@dataclass(frozen=True)
class Judged:
    """A curve that was judged: its row of ``findings``, and those of ``metric_findings``."""

    finding: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    """By metric."""

    @property
    def forget_loss(self) -> str:
        """Name of the forget loss that it was judged by."""
        return f"forget_{self.finding['judged_by'] or ANSWERS}"

    @property
    def retain_loss(self) -> str:
        """Name of the retain loss that it was judged by."""
        return f"retain_{self.finding['judged_by'] or ANSWERS}"


def judged_curves(findings: pa.Table, metric_findings: pa.Table) -> Iterator[Judged]:
    """Yield the curves of both tables in the order of the first."""
    metrics: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in metric_findings.to_pylist():
        metrics.setdefault(row["curve_id"], {})[row["metric"]] = row
    for row in findings.to_pylist():
        yield Judged(row, metrics.get(row["curve_id"], {}))
