"""Ensembles of a curve beside its ends and its best point inside: table ``ensembles``.

MCU section 6.2 averages the weights of points of a curve, and finds the mean better than both ends
(table 2). A best of sixteen points is better by chance, too; so the examples of every probe are cut
in two. On the validation half, the even ones, the best point inside is chosen, and the end that all
are compared with; what is gained is told on the test half, the odd ones, with the paired 95%
bootstrap interval of the difference. A gain survives if it is there on the validation half and its
interval on the test half is above 0.

Of the curves that have an ensemble (``curves.ensemble``), and of the metrics that `intervals` knows
question by question.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from raymcu.analysis.intervals import SHARE, Combine, Samples, resampled, samples_of
from raymcu.metrics._base import METRICS, Measured
from raymcu.store import tables
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

_MADE_OF = b"made_of"
"""Key of the schema's metadata that names what a part was made of."""


@dataclass(frozen=True)
class Halved:
    """A metric of one point, question by question."""

    samples: Samples
    combine: Combine

    def value(self, start: int | None = None) -> float:
        """Return the metric on all examples, or on every other one from ``start`` on."""
        means = [np.array([part.mean()]) for part in self._parts(start)]
        return float(self.combine(means)[0])

    def drawn(self, start: int) -> Any:
        """Return it for each draw of those examples: (draws,). Equal probes have equal draws."""
        names = [probe for probe, _ in self.samples.values()]
        parts = zip(names, self._parts(start), strict=True)
        return resampled({str(n): part for n, part in enumerate(parts)}, self.combine)

    def _parts(self, start: int | None) -> list[Any]:
        every = [values for _, values in self.samples.values()]
        return every if start is None else [values[start::2] for values in every]

    @property
    def is_whole(self) -> bool:
        """Whether both halves have examples, and all of them a finite value."""
        parts = self._parts(0) + self._parts(1)
        return bool(parts) and all(len(part) and np.isfinite(part).all() for part in parts)


@dataclass(frozen=True)
class Place:
    """What may be compared along a curve."""

    kind: str
    """``first``, ``second``, ``inside`` or ``ensemble``."""
    point_id: str
    t: float | None = None
    num_inside: int | None = None


def keep_ensembles(run: RunFolder, space: SearchSpace) -> None:
    """Write the rows of every curve with an ensemble whose points are measured, if they changed.

    Raises:
        StoreError: If a measurements file is damaged.
    """
    measured, there = set(run.parts("measurements")), set(run.parts("ensembles"))
    if not space.curves.ensemble:
        for key in there:  # which another search space asked for
            run.remove_part("ensembles", key)
        return
    plan = run.plan
    walks: dict[str, list[tuple[float, str]]] = {}
    for row in plan["curve_points"]:
        walks.setdefault(row["curve_id"], []).append((row["t"], row["point_id"]))
    curves = {curve["id"]: curve for curve in plan["curves"] if ensembles_of(plan, curve)}
    for key in there - set(curves):
        run.remove_part("ensembles", key)
    read = lru_cache(maxsize=64)(partial(_read, run))  # curves that meet share their ends
    metrics = sorted(_compared())
    for key, curve in curves.items():
        places = [
            place
            for place in _places(walks.get(key, ()), ensembles_of(plan, curve))
            if place.point_id in measured
        ]
        made_of = content_id([sorted((p.kind, p.point_id) for p in places), metrics])
        if key in there and run.read_notes("ensembles", key).get(_MADE_OF) == made_of.encode():
            continue
        head = {
            name: curve[name] for name in ("setting", "family", "forget_size", "first", "second")
        }
        points = {place: read(place.point_id) for place in places}
        table = tables.from_rows("ensembles", compared({"curve_id": key, **head}, points))
        marked = {**(table.schema.metadata or {}), _MADE_OF: made_of.encode()}
        run.write_part("ensembles", key, table.replace_schema_metadata(marked))


def _compared() -> list[str]:
    return [entry.name for entry in METRICS if entry.component.better != "neither"]


def ensembles_of(plan: Mapping[str, Any], curve: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return a curve's ensembles; a plan of before there were several names one at most."""
    if "ensembles" in curve:
        return [(int(number), point) for number, point in curve["ensembles"]]
    only = curve.get("ensemble_id")
    asked = plan.get("search_space", {}).get("curves") or {}
    return [(int(asked.get("ensemble") or 1), only)] if only else []


def _places(
    walk: Iterable[tuple[float, str]], ensembles: Iterable[tuple[int, str]]
) -> Iterator[Place]:
    for t, point in sorted(walk):
        yield Place({0.0: "first", 1.0: "second"}.get(t, "inside"), point, t)
    for number, point in ensembles:
        yield Place("ensemble", point, None, number)


def _read(run: RunFolder, point: str) -> dict[str, Halved]:
    """Read a point's metrics."""
    rows = run.read_part("measurements", point)
    return {name: Halved(*parts) for name, parts in samples_of(Measured(rows)).items()}


def compared(
    head: Mapping[str, Any], points: Mapping[Place, Mapping[str, Halved]]
) -> Iterator[dict[str, Any]]:
    """Yield rows of table ``ensembles`` of one curve, by metric.

    Args:
        head: What the curve connects: its columns.
        points: Its ends, points inside and ensembles, with what was measured of each by metric. A
            metric that an end lacks is passed over.
    """
    names = sorted({name for found in points.values() for name in found})
    for metric in names:
        if metric not in METRICS or METRICS[metric].better == "neither":
            continue
        here = {
            place: found[metric]
            for place, found in points.items()
            if metric in found and found[metric].is_whole
        }
        if {"first", "second"} <= {place.kind for place in here}:
            sign = -1.0 if METRICS[metric].better == "lower" else 1.0
            yield from _rows({**head, "metric": metric}, here, sign)


def _rows(
    head: Mapping[str, Any], here: Mapping[Place, Halved], sign: float
) -> Iterator[dict[str, Any]]:
    on_validation = {place: sign * halved.value(0) for place, halved in here.items()}

    def best(kinds: Sequence[str]) -> Place | None:
        found = [place for place in here if place.kind in kinds]
        return max(found, key=lambda place: on_validation[place], default=None)

    end = best(("first", "second"))
    chosen = (best((kind,)) for kind in ("first", "second", "inside"))
    shown = [place for place in chosen if place is not None]
    ensembles = [place for place in here if place.kind == "ensemble"]
    for place in [*shown, *sorted(ensembles, key=lambda one: one.num_inside or 0)]:
        halved = here[place]
        row = {
            **head,
            "kind": place.kind,
            "num_inside": place.num_inside,
            "t": place.t,
            "point_id": place.point_id,
            "value": halved.value(),
            "validation": halved.value(0),
            "test": halved.value(1),
        }
        if place.kind in ("inside", "ensemble") and end is not None:
            differences = sign * (halved.drawn(1) - here[end].drawn(1))
            ends = [(1 - SHARE) / 2, (1 + SHARE) / 2]
            low, high = (float(value) for value in np.quantile(differences, ends))
            gained = on_validation[place] - on_validation[end]
            row |= {
                "gain_validation": gained,
                "gain_test": sign * (halved.value(1) - here[end].value(1)),
                "gain_low": low,
                "gain_high": high,
                "survives": bool(gained > 0 and low > 0),
            }
        yield row


def first_ensembles(plan: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the point of each curve's first ensemble, by id of the curve."""
    return {
        curve["id"]: next((point for _, point in ensembles_of(plan, curve)), None)
        for curve in plan["curves"]
    }
