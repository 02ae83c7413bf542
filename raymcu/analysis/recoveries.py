"""What came back: every attacked point against what it was before, by every metric.

The share is (after - before) / (original before - before): 0 where an attack does nothing, 1 where
the point scores as the original does. It is of no direction, as both differences turn round with
the metric; but where the original knows no more than the point did before, nothing was taken away
that could come back, and the share is null.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from raymcu.analysis.curves import values_of
from raymcu.metrics._base import METRICS
from raymcu.planning.plan import references_of
from raymcu.store import tables

Part = Literal["all", "held_out", "tuned"]
Scores = Mapping[str, float]
"""By metric, of one point."""

LEAST = 0.02
"""Two scores differ if they do by more than this share of the larger of them."""
_FORGOTTEN = frozenset({"forget", "forget_text", "verbmem", "bio", "chem", "cyber"})
"""Probes of what is to be forgotten."""
_OF_WRITING = ("_fluency", "_empty", "_repetition", "_naturalness")
"""Ends of metrics that tell how a model writes, not what it knows, also of what was forgotten."""


def knows(metric: str) -> int:
    """Return 1 if a larger score says that more is known, -1 if a smaller one does, 0 if neither.

    Known of the forget set is what is worse for an unlearned model; of all else what is better.
    """
    if metric not in METRICS or METRICS[metric].better == "neither":
        return 0
    better = 1 if METRICS[metric].better == "higher" else -1
    return -better if is_forgotten(metric) else better


def is_forgotten(metric: str) -> bool:
    """Say whether a metric has a direction and tells what is left of what was to be forgotten."""
    if metric not in METRICS or METRICS[metric].better == "neither":
        return False
    if metric.endswith(_OF_WRITING) or metric == "ou_util":
        return False
    one = METRICS[metric]
    return bool(_FORGOTTEN.intersection((*one.probes, *one.or_probes)))


def share(part: float, whole: float, scale: float) -> float | None:
    """Return the quotient of two differences; None if the lower one is none, for its scale."""
    return None if abs(whole) <= LEAST * abs(scale) or whole == 0.0 else part / whole


@dataclass(frozen=True)
class AttackedPoint:
    """One attacked point, what it was before, and the reference models before and after."""

    row: Mapping[str, Any]
    """Of table ``points``."""
    label: str
    """Of what it was before."""
    before: Mapping[str, str]
    """Ids by role, of ``original`` and ``retrained``, as far as there are any."""
    after: Mapping[str, str]
    """Likewise, attacked alike."""

    @property
    def ids(self) -> tuple[str, ...]:
        """All points that it is judged by."""
        known = (self.row["point_id"], self.row["attacked"])
        return tuple(dict.fromkeys((*known, *self.before.values(), *self.after.values())))


def attacked_points(points: pa.Table) -> list[AttackedPoint]:
    """Return the attacked points of table ``points``, in its order."""
    names = ["point_id", "forget_size", "role", "label", "attack", "strength", "attacked", "asking"]
    rows: dict[str, dict[str, Any]] = {}
    for row in points.select(names).to_pylist():  # by itself first, then as a place on a line
        rows.setdefault(row["point_id"], row)
    references = references_of(rows.values())
    alike = {
        (row["attack"], row["strength"], row["attacked"]): key
        for key, row in rows.items()
        if row["attacked"] is not None
    }
    found = []
    for row in rows.values():
        if row["attacked"] is None:
            continue
        known = references.get((row["forget_size"], ""), {})
        before = {role: key for role, key in known.items() if role in ("original", "retrained")}
        how = (row["attack"], row["strength"])
        after = {role: alike[*how, key] for role, key in before.items() if (*how, key) in alike}
        label = rows.get(row["attacked"], {}).get("label") or row["attacked"]
        found.append(AttackedPoint(row, label, before, after))
    return found


def recoveries(points: pa.Table, scores: pa.Table) -> pa.Table:
    """Compare every attacked point with what it was before, over all examples.

    Args:
        points: Table ``points``.
        scores: Table ``scores`` of these points; null values are left out.

    Returns:
        Table ``recoveries``: a row for each attacked point and metric with a value there.
    """
    values = values_of(scores)
    rows: list[dict[str, Any]] = []
    for one in attacked_points(points):
        rows += rows_of(one, "all", lambda key: values.get(key, {}))
    return tables.from_rows("recoveries", rows)


def rows_of(
    one: AttackedPoint, part: Part, scored: Callable[[str], Scores]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one attacked point.

    Args:
        one: The point.
        part: Which examples the scores are of.
        scored: Returns the scores of a point over these.
    """
    row = one.row
    before, after = scored(row["attacked"]), scored(row["point_id"])
    known = {f"{role}_before": scored(key) for role, key in one.before.items()}
    known |= {f"{role}_after": scored(key) for role, key in one.after.items()}
    for metric in sorted(after):
        given = {name: known.get(name, {}).get(metric) for name in _KNOWN}
        at = before.get(metric)
        is_original = row["attacked"] == one.before.get("original")
        recovered, note = recovered_share(metric, at, after[metric], given["original_before"])
        yield {
            **{name: row[name] for name in ("attack", "strength", "forget_size", "point_id")},
            "attacked": row["attacked"],
            "label": one.label,
            "metric": metric,
            "part": part,
            "before": at,
            "after": after[metric],
            **given,
            "recovered": None if is_original else recovered,
            "relative": _relative(after[metric], given),
            "note": "is the original itself" if is_original else note,
        }


_KNOWN = ("original_before", "original_after", "retrained_before", "retrained_after")


def recovered_share(
    metric: str, before: float | None, after: float, original: float | None
) -> tuple[float | None, str | None]:
    """Return how much of what a point had lost came back, or why that is no number."""
    if before is None:
        return None, "has no score before the attack"
    if original is None:
        return None, "the original has no score"
    gap, scale = original - before, max(abs(original), abs(before))
    found = share(after - before, gap, scale)
    if found is None or knows(metric) * gap < 0:
        return None, f"the original knows no more than this point did before ({original:.4g})"
    return found, None


def _relative(after: float, given: Mapping[str, float | None]) -> float | None:
    original, retrained = given["original_after"], given["retrained_after"]
    if original is None or retrained is None:
        return None
    return share(after - retrained, original - retrained, max(abs(original), abs(retrained)))


def by_line(
    rows: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], list[Mapping[str, Any]]]:
    """Return rows of table ``recoveries`` by attack, point before, metric and part, by strength."""
    found: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["attack"], row["attacked"], row["metric"], row["part"])
        found.setdefault(key, []).append(row)
    for line in found.values():
        line.sort(key=lambda row: row["strength"] or 0.0)
    return found
