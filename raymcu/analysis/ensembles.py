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
from functools import cached_property
from typing import Any

import numpy as np

from raymcu.analysis.intervals import bounds, resampled, single_points
from raymcu.metrics._base import METRICS, Floats
from raymcu.metrics._samples import COMBINE, Combine, Sampled, Samples, read_samples
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

    @cached_property
    def _means(self) -> Floats:
        """Means of the samples over all examples, the even and the odd ones: (samples, 3)."""
        cuts = (slice(None), slice(0, None, 2), slice(1, None, 2))
        parts = ([values[cut] for cut in cuts] for _, values in self.samples.values())
        return np.array([[np.add.reduce(half) / len(half) for half in three] for three in parts])

    @cached_property
    def values(self) -> tuple[float, float, float]:
        """The metric on all examples, on the even and on the odd ones."""
        every, even, odd = (float(value) for value in self.combine(list(self._means)))
        return every, even, odd

    @cached_property
    def drawn(self) -> Floats:
        """The metric for each draw of the odd examples: (draws,). Equal probes have equal draws."""
        halves = {name: (probe, values[1::2]) for name, (probe, values) in self.samples.items()}
        return resampled(halves, self.combine)

    @cached_property
    def is_whole(self) -> bool:
        """Whether both halves have examples, and all of them a finite value."""
        sizes = [len(values) for _, values in self.samples.values()]
        return min(sizes, default=0) > 1 and bool(np.isfinite(self._means).all())


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
        StoreError: If a file of what was measured is damaged.
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
    metrics = sorted(_compared())
    waiting: list[tuple[Mapping[str, Any], list[Place], bytes]] = []
    for key, curve in curves.items():
        places = [
            place
            for place in _places(walks.get(key, ()), ensembles_of(plan, curve))
            if place.point_id in measured
        ]
        ids = sorted((p.kind, p.point_id) for p in places)
        made_of = content_id([ids, metrics]).encode()
        if key not in there or run.read_notes("ensembles", key).get(_MADE_OF) != made_of:
            waiting.append((curve, places, made_of))
    for first in range(0, len(waiting), _AT_ONCE):
        _keep(run, waiting[first : first + _AT_ONCE])


_AT_ONCE = 256
"""Curves whose points are in memory together: points are read in the order they are stored in."""


def _keep(
    run: RunFolder, curves: Sequence[tuple[Mapping[str, Any], Sequence[Place], bytes]]
) -> None:
    """Write the rows of some curves, each with its places and what they are made of."""
    ids = {place.point_id for _, places, _ in curves for place in places}
    points = {point: _halved(found) for point, found in read_samples(run, ids)}
    for curve, places, made_of in curves:
        head = {
            name: curve[name] for name in ("setting", "family", "forget_size", "first", "second")
        }
        found = {place: points[place.point_id] for place in places}
        table = tables.from_rows("ensembles", compared({"curve_id": curve["id"], **head}, found))
        marked = {**(table.schema.metadata or {}), _MADE_OF: made_of}
        run.write_part("ensembles", curve["id"], table.replace_schema_metadata(marked))


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


def _halved(found: Mapping[str, Sampled]) -> dict[str, Halved]:
    return {name: Halved(samples, COMBINE[made]) for name, (samples, made) in found.items()}


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
    on_validation = {place: sign * halved.values[1] for place, halved in here.items()}

    def best(kinds: Sequence[str]) -> Place | None:
        found = [place for place in here if place.kind in kinds]
        return max(found, key=lambda place: on_validation[place], default=None)

    end = best(("first", "second"))
    chosen = (best((kind,)) for kind in ("first", "second", "inside"))
    ensembles = [place for place in here if place.kind == "ensemble"]
    ensembles.sort(key=lambda one: one.num_inside or 0)
    shown = [*(place for place in chosen if place is not None), *ensembles]
    gaining = [place for place in shown if place.kind in ("inside", "ensemble")] if end else []
    ranges = {}
    if end and gaining:
        differences = [sign * (here[place].drawn - here[end].drawn) for place in gaining]
        ranges = dict(zip(gaining, bounds(differences).T.tolist(), strict=True))
    for place in shown:
        value, validation, test = here[place].values
        row = {
            **head,
            "kind": place.kind,
            "num_inside": place.num_inside,
            "t": place.t,
            "point_id": place.point_id,
            "value": value,
            "validation": validation,
            "test": test,
        }
        if end and place in ranges:
            low, high = ranges[place]
            gained = on_validation[place] - on_validation[end]
            row |= {
                "gain_validation": gained,
                "gain_test": sign * (test - here[end].values[2]),
                "gain_low": low,
                "gain_high": high,
                "survives": bool(gained > 0 and low > 0),
            }
        yield row


def sampled_points(run: RunFolder) -> frozenset[str] | None:
    """Return the points whose single questions analysis asks for.

    None for all of them, as it is where curves have ensembles: a curve may get more points.
    """
    plan = run.plan
    has_ensembles = any(ensembles_of(plan, curve) for curve in plan.get("curves", ()))
    return None if has_ensembles else single_points(run)


def first_ensembles(plan: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the point of each curve's first ensemble, by id of the curve."""
    return {
        curve["id"]: next((point for _, point in ensembles_of(plan, curve)), None)
        for curve in plan["curves"]
    }
