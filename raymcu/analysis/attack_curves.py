"""Along curves under attack: does an interior point, or the ensemble, resist better than both ends?

MCU claims so for relearning (sections 6.2 and 6.3, figure 6), and explains it by flatness (6.4):
beside the gains stands their rank correlation with curvature, over curves. Of metrics of what is to
be forgotten; lower `recovered` resists better.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.curves import CURVE_COLUMNS, sort_key
from raymcu.analysis.recoveries import is_forgotten
from raymcu.metrics._base import Floats
from raymcu.store import tables

How = tuple[str, float | None, str, str]
"""Attack, strength, metric and part."""
Recovered = Mapping[str, Mapping[How, Mapping[str, Any]]]
"""By point before: rows of table ``recoveries`` that have a share."""
Intervals = Mapping[tuple[str, str], tuple[float, float]]
"""By point and metric."""


def attack_findings(
    points: pa.Table,
    recoveries: pa.Table,
    intervals: pa.Table,
    ensembles: Mapping[str, str | None],
) -> pa.Table:
    """Judge every curve that is attacked at both ends and somewhere else.

    Args:
        points: Table ``points``.
        recoveries: The table of that name.
        intervals: Table ``intervals``, of the attacked points too.
        ensembles: Point of each curve's ensemble, by id of the curve; it may be one of its own.

    Returns:
        Table ``attack_findings``, by what the curve connects, then by attack.
    """
    came_back: dict[str, dict[How, Mapping[str, Any]]] = {}
    for row in recoveries.to_pylist():
        if row["recovered"] is not None and is_forgotten(row["metric"]):
            how = (row["attack"], row["strength"], row["metric"], row["part"])
            came_back.setdefault(row["attacked"], {})[how] = row
    names = ("point_id", "metric", "low", "high")
    sure = {
        (point, metric): (low, high)
        for point, metric, low, high in zip(*(intervals[n].to_pylist() for n in names), strict=True)
    }
    rows: list[dict[str, Any]] = []
    for head, places in _curves(points):
        ensemble = ensembles.get(head["curve_id"])
        rows += (head | row for row in _of_curve(places, ensemble, came_back, sure))
    return tables.from_rows("attack_findings", rows)


def _curves(points: pa.Table) -> Iterator[tuple[dict[str, Any], dict[float, str]]]:
    """Yield what each curve is, and its points by position."""
    heads: dict[str, dict[str, Any]] = {}
    places: dict[str, dict[float, str]] = {}
    for row in points.select([*CURVE_COLUMNS, "t", "point_id"]).to_pylist():
        if row["curve_id"] is not None and row["setting"] is not None:
            heads[row["curve_id"]] = {name: row[name] for name in CURVE_COLUMNS}
            places.setdefault(row["curve_id"], {})[row["t"]] = row["point_id"]
    for key in sorted(heads, key=lambda key: sort_key(heads[key])):
        yield heads[key], places[key]


def _of_curve(
    places: Mapping[float, str], ensemble: str | None, came_back: Recovered, sure: Intervals
) -> Iterator[dict[str, Any]]:
    first, second = (came_back.get(places.get(t, ""), {}) for t in (0.0, 1.0))
    mean_of_weights = came_back.get(ensemble or "", {})
    inside = sorted(t for t in places if 0.0 < t < 1.0)
    for how in first:
        if how not in second:
            continue
        ends = (first[how], second[how])
        interior = [
            (t, row) for t in inside if (row := came_back.get(places[t], {}).get(how)) is not None
        ]
        averaged = mean_of_weights.get(how)
        if not interior and averaged is None:
            continue
        at = [row["recovered"] for row in ends]
        attack, strength, metric, part = how
        found = {
            "attack": attack, "strength": strength, "metric": metric, "part": part,
            "num_points": 2 + len(interior), "at_first": at[0], "at_second": at[1],
            "spread": abs(at[0] - at[1]),
        }  # fmt: skip
        if interior:
            best_t, best = min(interior, key=lambda pair: pair[1]["recovered"])
            shares = [row["recovered"] for _, row in interior]
            found |= {
                "interior": float(np.mean(shares)), "best_t": best_t, "at_best": best["recovered"]
            }  # fmt: skip
            found["gain"], found["gain_is_clear"] = _gain(ends, best, sure)
        if averaged is not None:
            found["ensemble"] = averaged["recovered"]
            gain = _gain(ends, averaged, sure)
            found["ensemble_gain"], found["ensemble_gain_is_clear"] = gain
        yield found


def _gain(
    ends: Sequence[Mapping[str, Any]], one: Mapping[str, Any], sure: Intervals
) -> tuple[float, bool]:
    """Return by how much less comes back than at the better end, and whether that is clear."""
    at = [row["recovered"] for row in ends]
    gain = min(at) - one["recovered"]
    is_clear = gain > abs(at[0] - at[1])
    if one["part"] == "all" and is_clear:
        found = [sure.get((row["point_id"], row["metric"])) for row in (one, *ends)]
        own, *others = found
        if own is not None:
            known = [other for other in others if other is not None]
            is_clear = all(own[1] < other[0] or other[1] < own[0] for other in known)
    return gain, is_clear


def attack_curvatures(findings: pa.Table, attacked: pa.Table) -> pa.Table:
    """Say over curves whether what comes back goes with curvature.

    Args:
        findings: The table of that name.
        attacked: Table ``attack_findings``.

    Returns:
        Table ``attack_curvatures``.
    """
    bends = {row["curve_id"]: row for row in findings.to_pylist()}
    groups: dict[tuple[str, How], list[Mapping[str, Any]]] = {}
    for row in attacked.to_pylist():
        how = (row["attack"], row["strength"], row["metric"], row["part"])
        groups.setdefault((row["forget_size"], how), []).append(row)
    rows = []
    for (size, (attack, strength, metric, part)), here in groups.items():
        for curvature in ("retain_curvature", "forget_curvature"):
            for against in ("interior", "gain", "ensemble_gain"):
                pairs = [
                    (bend, row[against])
                    for row in here
                    if row[against] is not None
                    and (bend := bends.get(row["curve_id"], {}).get(curvature)) is not None
                ]
                value, note = spearman(*np.array(pairs, dtype=float).reshape(-1, 2).T)
                rows.append({
                    "forget_size": size, "attack": attack, "strength": strength,
                    "metric": metric, "part": part, "curvature": curvature, "against": against,
                    "num_curves": len(pairs), "rank_correlation": value, "note": note,
                })  # fmt: skip
    return tables.from_rows("attack_curvatures", rows)


def pearson(x: Floats, y: Floats) -> tuple[float | None, str | None]:
    """Return Pearson's r, or why there is none.

    Args:
        x: (items,), finite.
        y: (items,), finite.
    """
    if len(x) < 3:
        return None, f"{len(x)} of the 3 that it takes"
    x, y = x - x.mean(), y - y.mean()
    least = 1e-12
    spreads = np.linalg.norm(x), np.linalg.norm(y)
    if min(spreads) <= least:
        return None, "one of the two does not vary"
    return float(np.clip(x @ y / (spreads[0] * spreads[1]), -1.0, 1.0)), None


def spearman(x: Floats, y: Floats) -> tuple[float | None, str | None]:
    """Return the rank correlation, ties at their mean rank, or why there is none."""
    return pearson(ranks(x), ranks(y))


def ranks(x: Floats) -> Floats:
    """Return ranks from 1, ties at their mean: (items,)."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = ((last - counts + 1 + last) / 2)[inverse]
    return found
