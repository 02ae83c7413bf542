"""How alike two methods are, by the paths between what they make: table ``similarities``.

MCU section 6.1 reads it off its figure 5: two methods are mechanistically alike if their unlearners
are connected. As a number, of one curve and one metric:

    similarity = 1 - barrier / scale

The barrier is how much worse than its chord the metric gets. The scale is what there was to lose:

- of a metric of what is to be forgotten, what the two ends gained over the original, their mean. 0
  is then a path that falls back to the original, 1 one without a barrier, and below 0 one that does
  worse than the original would.
- of a metric of what is to be kept, where nothing is gained, how far the ends' mean is from the
  worst value that the metric can have; the retain loss has none, and takes what the ends gained in
  forget loss.
- ``loss`` is both: the larger of the retain and the forget barrier, over what the ends gained in
  forget loss.

It does not depend on the direction in which a curve is walked, so it is symmetric. Of two methods
it is the mean over their curves: those of all seeds, and where a setting pairs both ways, both.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.curves import Judged, judged_curves
from raymcu.analysis.doubts import LEAST
from raymcu.metrics._base import METRICS
from raymcu.store import tables
from raymcu.study.settings import SETTINGS, UnlearnerKey

BOTH_LOSSES = "loss"
_CLEARLY = 1e-9
"""By how much distances have to differ to order methods by them."""
ITSELF = {
    name: next(
        other
        for other, met in SETTINGS.items()
        if met.pairs_methods and (met.first, met.second) == (rand.first, rand.second)
    )
    for name, rand in SETTINGS.items()
    if not rand.pairs_methods
}
"""By Rand-like setting: the Met-like one of unlearners trained likewise."""
Originals = Mapping[str, Mapping[str, float]]
"""The original's scores by forget set and metric."""


@dataclass(frozen=True)
class Alike:
    """How alike one curve says its two ends are, in one metric."""

    barrier: float | None = None
    scale: float | None = None
    scaled_by: str | None = None
    note: str | None = None

    @property
    def value(self) -> float | None:
        """The similarity; None where it is undefined, and `note` says why."""
        if self.note or self.barrier is None or self.scale is None:
            return None
        return 1.0 - self.barrier / self.scale


def similarities(findings: pa.Table, metric_findings: pa.Table, originals: Originals) -> pa.Table:
    """Return table ``similarities``: a row for each two methods in both orders, and each metric.

    A method with itself is there, too, where it has a Rand-like setting's curves. Curves whose ends
    are no unlearners of methods are passed over.

    Args:
        findings: Table of that name.
        metric_findings: Table of that name, of the same curves.
        originals: Scores of the original; of a forget set without one nothing is defined.
    """
    found: dict[tuple[str, str, str, str], dict[tuple[str, str], list[Alike]]] = {}
    for curve in judged_curves(findings, metric_findings):
        ends = [UnlearnerKey.read(curve.finding[end]) for end in ("first", "second")]
        if ends[0] is None or ends[1] is None:
            continue
        head = curve.finding
        setting = ITSELF.get(head["setting"], head["setting"])
        pair = (ends[0].method, ends[1].method)
        for metric, alike in _alike(curve, originals.get(head["forget_size"])):
            key = (head["forget_size"], setting, head["family"], metric)
            found.setdefault(key, defaultdict(list))[pair].append(alike)
    rows = [row for key, pairs in found.items() for row in _matrix(key, pairs)]
    return tables.from_rows("similarities", rows)


def _alike(curve: Judged, original: Mapping[str, float] | None) -> Iterator[tuple[str, Alike]]:
    """Yield the metrics of a curve and how alike it says its ends are."""
    gained = forget_gain(curve, original)
    heights = [curve.finding[f"{side}_barrier"] for side in ("retain", "forget")]
    yield BOTH_LOSSES, _scaled(max(heights), gained, "gained", curve.forget_loss)
    for metric in sorted(curve.metrics):
        if metric in METRICS and METRICS[metric].better == "neither":
            continue
        row = curve.metrics[metric]
        if row["barrier"] is None:
            yield metric, Alike(note="it is not measured at both ends and between them")
        elif metric not in METRICS:
            yield metric, Alike(row["barrier"], note="this raymcu does not know the metric")
        elif metric.startswith("retain_") and METRICS[metric].high == np.inf:
            yield metric, _scaled(row["barrier"], gained, "gained", curve.forget_loss)
        elif _is_kept(metric):
            kept = mean_distance(metric, row, _worst(metric))
            yield metric, _scaled(row["barrier"], kept, "kept", metric)
        else:
            start = None if original is None else original.get(metric)
            got = None if start is None else mean_distance(metric, row, start)
            yield metric, _scaled(row["barrier"], got, "gained", metric)


def forget_gain(curve: Judged, original: Mapping[str, float] | None) -> float | None:
    """Return what a curve's ends gained in forget loss over the original, their mean, in nats.

    None if the original's loss, or an end's, is not known.
    """
    row = curve.metrics.get(curve.forget_loss)
    start = None if original is None else original.get(curve.forget_loss)
    return None if row is None or start is None else mean_distance(curve.forget_loss, row, start)


def mean_distance(metric: str, row: Mapping[str, Any], start: float) -> float:
    """Return how much better than ``start`` the ends of a curve are, their mean."""
    middle = (float(row["at_first"]) + float(row["at_second"])) / 2
    return start - middle if METRICS[metric].better == "lower" else middle - start


def _scaled(barrier: float, scale: float | None, scaled_by: str, metric: str) -> Alike:
    if scale is None:
        return Alike(barrier, note="there is no score of the original to compare with")
    if not np.isfinite(scale):
        return Alike(barrier, note=f"{metric} has no worst value, and nothing is gained in it")
    least = LEAST.get(METRICS[metric].unit, 0.0) if metric in METRICS else 0.0
    note = None
    if scale <= least:
        what = "over the original" if scaled_by == "gained" else "over its worst value"
        note = f"the ends gained no more than {least:g} in {metric} {what}: {scale:.3g}"
    return Alike(barrier, scale, scaled_by, note)


def _is_kept(metric: str) -> bool:
    """Say whether a metric is of nothing that is to be forgotten."""
    return not any(probe.startswith(("forget", "verbmem")) for probe in METRICS[metric].probes)


def _worst(metric: str) -> float:
    known = METRICS[metric]
    return known.high if known.better == "lower" else known.low


def _matrix(
    key: tuple[str, str, str, str], pairs: Mapping[tuple[str, str], Sequence[Alike]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one matrix, each pair in both orders, by place."""
    joined: dict[tuple[str, str], list[Alike]] = defaultdict(list)
    for (one, other), alike in pairs.items():
        joined[one, other] += alike
        if one != other:
            joined[other, one] += alike
    cells = {pair: _mean(alike) for pair, alike in joined.items()}
    methods = list(dict.fromkeys(method for pair in pairs for method in pair))
    values = {pair: cell["similarity"] for pair, cell in cells.items()}
    place = {method: number for number, method in enumerate(ordered(methods, values))}
    head = dict(zip(("forget_size", "setting", "family", "metric"), key, strict=True))
    for first, second in sorted(cells, key=lambda pair: (place[pair[0]], place[pair[1]])):
        yield {
            **head,
            "first": first,
            "second": second,
            **cells[first, second],
            "first_place": place[first],
            "second_place": place[second],
        }


def _mean(alike: Iterable[Alike]) -> dict[str, Any]:
    """Sum the curves of one pair up; those that are undefined count only if all are."""
    every = list(alike)
    defined = [one for one in every if one.value is not None]
    values = [one.value for one in defined if one.value is not None]
    shown = defined or every
    row: dict[str, Any] = {
        "barrier": _average([one.barrier for one in shown]),
        "scale": _average([one.scale for one in shown]),
        "scaled_by": shown[0].scaled_by,
        "num_curves": len(shown),
        "similarity": None,
        "note": None if values else every[0].note,
    }
    if values:
        # Sorted, as a sum's last digit depends on the order, and both orders are one number.
        row |= {"similarity": float(np.mean(sorted(values)))}
        row |= {"lowest": min(values), "highest": max(values)}
    return row


def _average(values: Iterable[float | None]) -> float | None:
    found = sorted(value for value in values if value is not None)
    return float(np.mean(found)) if found else None


def ordered(
    methods: Sequence[str], similarity: Mapping[tuple[str, str], float | None]
) -> list[str]:
    """Return methods so that alike ones stand together: leaves of an average linkage.

    Args:
        methods: In the order that stays where there is nothing to choose.
        similarity: By pair, in both orders; what is missing or None is taken for the least alike.
    """
    if len(methods) < 3:
        return list(methods)
    known = [
        value for pair, value in similarity.items() if value is not None and pair[0] != pair[1]
    ]
    furthest = 1.0 - min(known, default=0.0)
    distances = np.zeros((len(methods), len(methods)))
    for row, one in enumerate(methods):
        for column, other in enumerate(methods[:row]):
            value = similarity.get((one, other))
            far = furthest if value is None else 1.0 - value
            distances[row, column] = distances[column, row] = max(far, 0.0)
    off_diagonal = distances[np.triu_indices(len(methods), 1)]
    if np.ptp(off_diagonal) < _CLEARLY:
        return list(methods)
    # Imported here: what starts without drawing or scoring starts without SciPy.
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(distances), "average", optimal_ordering=True)
    leaves = [int(leaf) for leaf in leaves_list(tree)]
    # A tree says nothing of left and right: the earlier of its two outermost comes first.
    return [methods[leaf] for leaf in (leaves if leaves[0] < leaves[-1] else leaves[::-1])]


def originals_of(points: pa.Table, scores: Mapping[str, Mapping[str, float]]) -> Originals:
    """Return the scores of the originals among the points, by forget set.

    Args:
        points: Table ``points``.
        scores: By point and metric, see `raymcu.analysis.curves.values_of`.
    """
    return role_scores(points, scores, "original")


def role_scores(
    points: pa.Table, scores: Mapping[str, Mapping[str, float]], role: str
) -> Originals:
    """Return the scores of the points of a role that there is one of in each forget set."""
    rows = points.select(["point_id", "role", "forget_size"]).to_pylist()
    return {
        row["forget_size"]: scores[row["point_id"]]
        for row in rows
        if row["role"] == role and row["point_id"] in scores
    }
