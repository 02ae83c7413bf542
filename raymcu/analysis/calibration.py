"""How far along a walk or curve enough is retained, and methods compared there.

Calibration by model mixing (UWC, Wang et al. 2024): two unlearners that retain unequally do not
compare, so each is taken back towards the original as far as it must be to retain a share of what
the original has, and what is left of the forgetting is compared. A retain metric is a step function
of the position and need not be monotone: the position is the last of all measured ones that keeps
the bar, by the file's grid first, then by halving the step behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.curves import CURVE_COLUMNS, sort_key, values_of
from raymcu.metrics._base import Better, Floats
from raymcu.planning.objectives import better_of, with_attacks
from raymcu.store import tables
from raymcu.study.after import Asked
from raymcu.study.walks import Calibration

_SLACK = 1e-9
"""Rounding errors of positions, and of scores that are the same."""

Place = tuple[str, str, str]
"""What is ranked together: forget set, family, metric."""


@dataclass(frozen=True)
class Crossing:
    """Where along a walk a metric is kept for the last time."""

    t: float | None
    """The last position that keeps it; None if none does."""
    fails_at: float | None
    """The next position, which does not; None if there is none."""
    is_monotone: bool | None
    """Whether the metric gets no better anywhere on the way; None for fewer than two positions."""


def bar_of(original: float, keep: float, better: Better) -> float:
    """Return the value that keeps a share of the original's, never stricter than the original's.

    ``keep`` times it where higher is better, its ``keep``-th where lower is. Of a value below 0,
    e.g. a logarithm, it is the other way round; of 0 there is no share, and the bar is 0.

    Args:
        original: The original's value.
        keep: Share in (0, 1].
        better: The metric's direction, which it must have.
    """
    return original * keep if (original > 0) == (better == "higher") else original / keep


def goodness(value: float, better: Better) -> float:
    """Return the value, with its sign turned if lower is better."""
    return value if better == "higher" else -value


def last_crossing(t: Floats, value: Floats, bar: float, better: Better) -> Crossing:
    """Find the last position whose value is at least as good as the bar.

    Args:
        t: Positions in order: (positions,).
        value: The metric at each, finite: (positions,).
        bar: Value to be kept.
        better: The metric's direction.
    """
    good = value if better == "higher" else -value
    is_monotone = bool((np.diff(good) <= _SLACK).all()) if len(t) > 1 else None
    kept = np.flatnonzero(good >= goodness(bar, better))
    if not len(kept):
        return Crossing(None, None, is_monotone)
    last = int(kept[-1])
    fails_at = float(t[last + 1]) if last + 1 < len(t) else None
    return Crossing(float(t[last]), fails_at, is_monotone)


def calibrate(points: pa.Table, scores: pa.Table, calibration: Calibration) -> pa.Table:
    """Say of each walk or curve how far it keeps the metric, and what it is worth there.

    Positions without a value are passed over. Without a value of the original there is no bar, and
    no position keeps it. Ranks are among the walks of one family and forget set that have a value:
    1 is the best, and equal values share a place, after which as many are left out.

    Args:
        points: Table ``points``.
        scores: Table ``scores`` of these points.
        calibration: What is to be kept where. Its metrics have a direction.

    Returns:
        Table ``calibrations``: a row for each walk or curve and metric of ``rank_by``, ordered by
        what they go through. The order of input rows is irrelevant.
    """
    values = _with_attacks(points, values_of(scores))
    originals = {
        row["forget_size"]: values.get(row["point_id"], {})
        for row in points.select(["forget_size", "point_id", "role"]).to_pylist()
        if row["role"] == "original"
    }
    rows = []
    for head, places in _lines(points, calibration.curves):
        here = {t: values.get(point, {}) for t, point in places.items()}
        found = _calibrated(places, here, originals.get(head["forget_size"], {}), calibration)
        uncalibrated = here[1.0 if 1.0 in here else max(here)]
        calibrated = here.get(found["t"], {})
        rows += [
            {
                **head,
                **found,
                "rank_by": name,
                "before": uncalibrated.get(name),
                "after": calibrated.get(name),
            }
            for name in (str(Asked.parse(text)) for text in calibration.rank_by)
        ]
    for which in ("before", "after"):
        _rank(rows, which)
    return tables.from_rows("calibrations", rows)


def _with_attacks(
    points: pa.Table, values: Mapping[str, Mapping[str, float]]
) -> Mapping[str, Mapping[str, float]]:
    """Return the scores by point, those after attacks among those of the point before."""
    names = ["point_id", "attack", "strength", "attacked"]
    after: dict[str, list[tuple[str, float | None, Mapping[str, float]]]] = {}
    for row in points.select(names).to_pylist():
        if row["attacked"] is not None:
            told = (row["attack"], row["strength"], values.get(row["point_id"], {}))
            after.setdefault(row["attacked"], []).append(told)
    return {**values, **{k: with_attacks(values.get(k, {}), told) for k, told in after.items()}}


def next_positions(calibrations: pa.Table, resolution: float) -> dict[str, float]:
    """Return where to look next, by curve: halfway to where the metric fails.

    The same scores give the same answer, so a run that goes on after an end asks for the same.

    Args:
        calibrations: Table ``calibrations``.
        resolution: A step no longer than this is not halved.
    """
    return {
        row["curve_id"]: (row["t"] + row["fails_at"]) / 2
        for row in calibrations.select(["curve_id", "t", "fails_at"]).to_pylist()
        if row["t"] is not None
        and row["fails_at"] is not None
        and row["fails_at"] - row["t"] > resolution + _SLACK
    }


def _lines(
    points: pa.Table, families: tuple[str, ...]
) -> list[tuple[dict[str, Any], dict[float, str]]]:
    """Return what each walk or curve is, and its points by position."""
    heads: dict[str, dict[str, Any]] = {}
    places: dict[str, dict[float, str]] = {}
    for row in points.select([*CURVE_COLUMNS, "t", "point_id"]).to_pylist():
        if row["curve_id"] is not None and row["family"] in families:
            heads[row["curve_id"]] = {name: row[name] for name in CURVE_COLUMNS}
            places.setdefault(row["curve_id"], {})[row["t"]] = row["point_id"]
    return [(heads[key], places[key]) for key in sorted(heads, key=lambda k: sort_key(heads[k]))]


def _calibrated(
    places: Mapping[float, str],
    here: Mapping[float, Mapping[str, float]],
    original: Mapping[str, float],
    calibration: Calibration,
) -> dict[str, Any]:
    name = str(Asked.parse(calibration.metric))
    better, at_original = better_of(name), original.get(name)
    row = {"metric": name, "keep": calibration.keep, "at_original": at_original, "t": None}
    if at_original is None:
        return row
    bar = bar_of(at_original, calibration.keep, better)
    ts = [t for t in sorted(here) if name in here[t]]
    crossing = last_crossing(np.array(ts), np.array([here[t][name] for t in ts]), bar, better)
    row |= {"bar": bar, "fails_at": crossing.fails_at, "is_monotone": crossing.is_monotone}
    if crossing.t is not None:
        row |= {
            "t": crossing.t,
            "value": here[crossing.t][name],
            "point_id": places[crossing.t],
        }
    return row


def _rank(rows: list[dict[str, Any]], which: str) -> None:
    """Write the places of ``before`` or ``after`` into the rows."""
    groups: dict[Place, list[float]] = {}
    for row in rows:
        if row[which] is not None:
            groups.setdefault(_place(row), []).append(_good(row, which))
    for row in rows:
        if row[which] is not None:
            others = groups[_place(row)]
            row[f"rank_{which}"] = 1 + sum(other > _good(row, which) for other in others)


def _place(row: Mapping[str, Any]) -> Place:
    return row["forget_size"], row["family"], row["rank_by"]


def _good(row: Mapping[str, Any], which: str) -> float:
    return goodness(row[which], better_of(row["rank_by"]))
