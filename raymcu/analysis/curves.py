"""Findings per curve: ``points`` and ``scores`` in, ``findings`` and ``metric_findings`` out.

The MCU verdict (eqs 2 to 4): two unlearners are mode connected if neither the
retain loss rises above its chord nor the forget loss falls below its own by more than a tolerance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.barriers import curvature, forget_barrier, retain_barrier, total_variation
from raymcu.metrics._base import METRICS, Better, Floats
from raymcu.store import tables

CURVE_COLUMNS = ("curve_id", "setting", "family", "forget_size", "first", "second")
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
    for head, curve in _curves(points, scores):
        losses = _losses(curve)
        if losses is None:
            continue
        findings.append(head | _finding(*losses, tolerance))
        metric_findings += [
            head | {"metric": name} | _metric_finding(curve[name], _better(name))
            for name in sorted(curve)
        ]
    return (
        tables.from_rows("findings", findings),
        tables.from_rows("metric_findings", metric_findings),
    )


def _curves(points: pa.Table, scores: pa.Table) -> Iterator[tuple[dict[str, Any], _Curve]]:
    """Yield what each curve is and its traces."""
    values = values_of(scores)
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
    for row in scores.select(["point_id", "metric", "value"]).to_pylist():
        if row["value"] is not None:
            values.setdefault(row["point_id"], {})[row["metric"]] = row["value"]
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


def _losses(curve: _Curve) -> tuple[_Trace, _Trace] | None:
    """Return retain and forget loss at the points that have both; None without both ends."""
    retain, forget = curve.get("retain_loss"), curve.get("forget_loss")
    if retain is None or forget is None:
        return None
    t, in_retain, in_forget = np.intersect1d(retain.t, forget.t, return_indices=True)
    retain, forget = _Trace(t, retain.value[in_retain]), _Trace(t, forget.value[in_forget])
    return (retain, forget) if retain.has_ends() else None


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
