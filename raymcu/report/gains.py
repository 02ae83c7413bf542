"""Where a point inside a curve is better than both its ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymcu.report.data import Curve, Study, metric_info
from raymcu.report.panels import metric_families


@dataclass(frozen=True)
class Gain:
    """A metric that is better inside some curves than at both their ends."""

    metric: str
    num_better: int
    num_curves: int
    """Curves on which this was judged."""
    curve: Curve
    """The one with the largest gain."""
    row: Mapping[str, Any]
    """Its row of table ``metric_findings``."""
    gain: float
    """Over the better end."""


def gain_rows(study: Study) -> list[Gain]:
    """Return the metrics with an interior point that beats both ends, by family."""
    curves = {curve.curve_id: curve for curve in study.curves}
    judged: dict[str, list[Mapping[str, Any]]] = {}
    for row in study.metric_findings:
        if row["interior_beats_ends"] is not None and row["curve_id"] in curves:
            judged.setdefault(row["metric"], []).append(row)
    rows = []
    for metric in (metric for _, metrics in metric_families(sorted(judged)) for metric in metrics):
        better = [row for row in judged[metric] if row["interior_beats_ends"]]
        if better:
            best = max(better, key=_gain)
            counts = len(better), len(judged[metric])
            rows.append(Gain(metric, *counts, curves[best["curve_id"]], best, _gain(best)))
    return rows


def _gain(row: Mapping[str, Any]) -> float:
    ends: tuple[float, float] = (row["at_first"], row["at_second"])
    if metric_info(row["metric"]).better == "lower":
        return min(ends) - float(row["minimum"])
    return float(row["maximum"]) - max(ends)
