"""How hard a forget set is to unlearn by a method, read off its curves: table ``difficulties``.

MCU section 6.4 takes the smoothness of the landscape between unlearners for a sign of how hard the
task is, and gives no number. Here it is one in [0, 1]. Of a curve it is the mean of four parts:

- ``barrier``: b / (1 + b), b the larger of its retain and forget barrier over the gain;
- ``curvature``: the same with the barrier that a parabola of the largest curvature would have,
  curvature / (8 h²) at points h apart, so that it does not depend on how many points there are;
- ``variation``: the same with the larger of the variations of both losses, as far as it exceeds
  what the ends differ by: a monotone loss has none;
- ``disconnected``: 1 if the curve is not connected, else 0.

The gain is what the ends gained in forget loss over the original, their mean: a barrier of one nat
means much where two were gained, and little where twenty were. 0 is a straight and connected path.
Of a method it is the mean over the curves of a setting and family that have an end of it, all
seeds, and each curve's own value gives the spread. Where nothing was gained it is undefined.

Beside it stand other measures of what is hard, and table ``rank_correlations`` has Spearman's rank
correlation with them: what the original has memorized of the forget set (its extraction strength,
its loss) and how alike forget and retain set are (loss of the model that saw only one) differ by
forget set alone; what unlearning cost in retain loss and, where ``until_loss`` ends trainings, how
many steps it took differ by method, too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.curves import Judged, judged_curves
from raymcu.analysis.doubts import LEAST
from raymcu.analysis.similarity import Originals, forget_gain
from raymcu.metrics._base import Floats
from raymcu.store import tables
from raymcu.study.settings import UnlearnerKey

OF_SETS = {"memorization": 1, "known_loss": -1, "likeness": 1}
"""Measures that differ by forget set alone, and 1 where more of it should be harder."""
OF_METHODS = {"cost": 1, "steps": 1}
"""Measures that differ by method, too."""
_FEWEST = 3
"""Values that a rank correlation takes."""


@dataclass(frozen=True)
class Parts:
    """What the difficulty of one curve is the mean of, each in [0, 1]."""

    barrier: float
    curvature: float
    variation: float
    disconnected: float

    @property
    def difficulty(self) -> float:
        """Their mean."""
        return (self.barrier + self.curvature + self.variation + self.disconnected) / 4


@dataclass(frozen=True)
class _One:
    """One curve: its parts, or why there are none; what unlearning its ends cost."""

    ends: tuple[UnlearnerKey, UnlearnerKey]
    labels: tuple[str, str]
    parts: Parts | None
    cost: float | None = None
    note: str | None = None


def difficulties(
    findings: pa.Table,
    metric_findings: pa.Table,
    originals: Originals,
    retrained: Originals,
    gaps: Mapping[str, float],
    steps: Mapping[tuple[str, str], int],
) -> pa.Table:
    """Return table ``difficulties``: a row for each forget set, setting, family and method.

    One more, without a method, is of all curves of a forget set, setting and family.

    Args:
        findings: Table of that name.
        metric_findings: Table of that name, of the same curves.
        originals: The original's scores by forget set.
        retrained: Those of the models that never saw it.
        gaps: Distance between a curve's points, their median, by curve.
        steps: Optimizer steps till an unlearner met a threshold, by forget set and label.
    """
    groups: dict[tuple[str, str, str], list[_One]] = {}
    for curve in judged_curves(findings, metric_findings):
        row = curve.finding
        one, other = (UnlearnerKey.read(row[end]) for end in ("first", "second"))
        if one is not None and other is not None:
            key = (row["forget_size"], row["setting"], row["family"])
            found = _judged(curve, (one, other), originals, gaps.get(row["curve_id"]))
            groups.setdefault(key, []).append(found)
    rows = []
    for (size, setting, family), curves in groups.items():
        head: dict[str, Any] = {"forget_size": size, "setting": setting, "family": family}
        head |= _of_set(originals.get(size, {}), retrained.get(size, {}))
        methods = dict.fromkeys(end.method for curve in curves for end in curve.ends)
        for method in (*methods, None):
            here = [c for c in curves if method is None or method in _methods(c)]
            rows.append(head | {"method": method} | _summed(here, method, size, steps))
    return tables.from_rows("difficulties", rows)


def _methods(curve: _One) -> tuple[str, ...]:
    return tuple(end.method for end in curve.ends)


def _judged(
    curve: Judged,
    ends: tuple[UnlearnerKey, UnlearnerKey],
    originals: Originals,
    gap: float | None,
) -> _One:
    row = curve.finding
    original = originals.get(row["forget_size"])
    gain = forget_gain(curve, original)
    labels = (row["first"], row["second"])
    if gain is None or original is None:
        note = "there is no score of the original to compare with"
        return _One(ends, labels, None, note=note)
    if gain <= LEAST["nats"]:
        note = f"the ends gained no more than {LEAST['nats']:g} nats of forget loss: {gain:.3g}"
        return _One(ends, labels, None, note=note)
    kept, start = curve.metrics.get(curve.retain_loss), original.get(curve.retain_loss)
    cost = None
    if kept is not None and start is not None:
        cost = ((kept["at_first"] + kept["at_second"]) / 2 - start) / gain
    if row["is_connected"] is None or gap is None:
        return _One(ends, labels, None, cost, "it has no point between its ends")
    return _One(ends, labels, parts_of(curve, gain, gap), cost)


def parts_of(curve: Judged, gain: float, gap: float) -> Parts:
    """Return what a curve's difficulty is the mean of.

    Args:
        curve: With three points or more.
        gain: What its ends gained in forget loss over the original, > 0, in nats.
        gap: Distance between its points.
    """
    row = curve.finding
    variations, bends = [0.0], [0.0]
    for side, loss in (("retain", curve.retain_loss), ("forget", curve.forget_loss)):
        ends = curve.metrics[loss]
        rest = row[f"{side}_variation"] - abs(ends["at_first"] - ends["at_second"])
        variations.append(rest)
        bends.append((row[f"{side}_curvature"] or 0.0) / (8 * gap**2))
    heights = (row["retain_barrier"], row["forget_barrier"])
    barrier, curvature, variation = (
        height / (height + gain) for height in (max(heights), max(bends), max(variations))
    )
    return Parts(barrier, curvature, variation, 0.0 if row["is_connected"] else 1.0)


def _of_set(
    original: Mapping[str, float], retrained: Mapping[str, float]
) -> dict[str, float | None]:
    """Return the measures that differ by forget set alone."""
    seen, unseen = retrained.get("retain_loss"), retrained.get("forget_loss")
    return {
        "memorization": original.get("forget_es"),
        "known_loss": original.get("forget_loss"),
        "likeness": None if seen is None or unseen is None else seen - unseen,
    }


def _summed(
    curves: Sequence[_One], method: str | None, size: str, steps: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    found = [curve.parts for curve in curves if curve.parts is not None]
    values = [parts.difficulty for parts in found]
    ends = {
        (end, label)
        for curve in curves
        for end, label in zip(curve.ends, curve.labels, strict=True)
        if method in (None, end.method)
    }
    row: dict[str, Any] = {
        "num_curves": len(found) or len(curves),
        "num_seeds": len({end.seed for end, _ in ends}),
        "cost": _mean(curve.cost for curve in curves),
        "steps": _mean(steps.get((size, label)) for _, label in ends),
    }
    if not found:
        return row | {"note": curves[0].note}
    return row | {
        "difficulty": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "lowest": min(values),
        "highest": max(values),
        **{part.name: _mean(getattr(one, part.name) for one in found) for part in fields(Parts)},
    }


def _mean(values: Iterable[float | None]) -> float | None:
    found = sorted(value for value in values if value is not None)
    return float(np.mean(found)) if found else None


def rank_correlations(table: pa.Table) -> pa.Table:
    """Return table ``rank_correlations`` of a table ``difficulties``."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault((row["setting"], row["family"]), []).append(row)
    rows = [
        {"setting": setting, "family": family, **found}
        for (setting, family), here in groups.items()
        for found in _compared(here)
    ]
    return tables.from_rows("rank_correlations", rows)


def _compared(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for measures, over, is_whole in (
        (OF_SETS, "forget sets", True),
        (OF_METHODS, "methods and forget sets", False),
    ):
        here = [row for row in rows if (row["method"] is None) is is_whole]
        for measure, sign in measures.items():
            pairs = [(row["difficulty"], row[measure]) for row in here]
            known = [pair for pair in pairs if None not in pair]
            value, note = None, None
            if len(known) < _FEWEST:
                note = f"takes {_FEWEST} {over} at least, and there are {len(known)}"
            else:
                value = spearman(*map(np.array, zip(*known, strict=True)))
                note = None if value is not None else "one of both is the same everywhere"
            yield {"measure": measure, "sign": sign, "over": over, "spearman": value,
                   "num": len(known), "note": note}  # fmt: skip


def spearman(one: Floats, other: Floats) -> float | None:
    """Return the correlation of ranks, equal values sharing their mean rank: in [-1, 1].

    Args:
        one: (values,).
        other: (values,).

    Returns:
        None if all values of one of them are equal.
    """
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (one, other)]
    norms = [float(rank @ rank) for rank in ranks]
    if min(norms) == 0.0:
        return None
    return float(np.clip(ranks[0] @ ranks[1] / np.sqrt(norms[0] * norms[1]), -1.0, 1.0))


def _ranks(values: Floats) -> Floats:
    """Return ranks from 0, equal values sharing their mean: (values,)."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    found: Floats = (last - (counts - 1) / 2)[where]
    return found


def gaps_of(points: pa.Table) -> dict[str, float]:
    """Return the median distance between neighbouring points of each curve, by curve."""
    places: dict[str, list[float]] = {}
    for row in points.select(["curve_id", "t"]).to_pylist():
        if row["curve_id"] is not None:
            places.setdefault(row["curve_id"], []).append(row["t"])
    return {
        curve: float(np.median(np.diff(np.sort(ts)))) for curve, ts in places.items() if len(ts) > 1
    }
