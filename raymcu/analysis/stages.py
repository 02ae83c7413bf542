"""The stages that need tables only: measurements to scores to findings. No torch, no Ray."""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, lru_cache
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.analysis.adaptive import extremes, next_places
from raymcu.analysis.attacks import analyze_attacks
from raymcu.analysis.calibration import calibrate, next_positions
from raymcu.analysis.conclusions import keep_conclusions
from raymcu.analysis.curves import analyze
from raymcu.analysis.ensembles import keep_ensembles, sampled_points
from raymcu.analysis.geometry import keep_geometry, losses_of
from raymcu.analysis.intervals import keep_intervals
from raymcu.analysis.layers import Layers, Worth, choose_layers
from raymcu.analysis.processes import fresh_processes
from raymcu.analysis.surfaces import keep_surfaces
from raymcu.metrics._base import METRICS, Measured, References
from raymcu.metrics._scoring import is_whole, keep_scores, known_metrics
from raymcu.planning.facts import Surroundings
from raymcu.planning.plan import More, Plan, references_of
from raymcu.planning.planner import make_plan
from raymcu.progress import Watch
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.curve_tables import ADAPTIVE
from raymcu.study.search_space import SearchSpace
from raymcu.study.walks import LayerChoice

_POINTS_PER_WORKER = 16
"""Fewer are not worth another process."""


def unscored(run: RunFolder) -> tuple[list[dict[str, str]], int]:
    """Return the measured points whose scores lack a metric, and the number of measured points.

    Any metric that is registered now counts, so what another raymcu has scored is scored again.
    """
    measured = set(run.parts("measurements"))
    points = [point for point in run.plan["points"] if point["id"] in measured]
    known = known_metrics()
    whole = {key for key, notes in run.all_notes("scores").items() if is_whole(notes, known)}
    return [point for point in points if point["id"] not in whole], len(points)


def score_points(run: RunFolder, points: Sequence[Mapping[str, str]], watch: Watch) -> None:
    """Compute every metric of the points from their stored measurements.

    Many points are scored by several processes, one per core.

    Raises:
        ConfigError: If a reference model was measured on other questions.
        StoreError: If a measurements file is damaged.
    """
    workers = min(os.cpu_count() or 1, len(points) // _POINTS_PER_WORKER)
    if workers < 2:
        scorer = _Scorer(run)
        for point in points:
            watch([scorer(point)], [])
        return
    with run.at_work(), fresh_processes(workers, run.plan["search_space"]) as pool:
        for label in pool.map(_score_there, repeat(run.url), points):
            watch([label], [])


class _Scorer:
    """Scores points of a run; each reference model's measurements are read once."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        measured = set(run.parts("measurements"))
        points = [point for point in run.plan["points"] if point["id"] in measured]
        self.ids = references_of(points)
        self.sampled = sampled_points(run)
        tables = ("representations", "judgements", "readings", "sharpness")
        self.others = {table: set(run.parts(table)) for table in tables}
        self.measured: dict[str, Measured] = {}

    def __call__(self, point: Mapping[str, str]) -> str:
        """Write the scores of a point; return its label."""
        key = point["id"]
        rows = self.run.read_part("measurements", key)
        others = {
            table: self.run.read_part(table, key)
            for table, there in self.others.items()
            if key in there
        }
        against = self._references(point["forget_size"], point.get("asking") or "")
        with_samples = self.sampled is None or key in self.sampled
        keep_scores(self.run, key, Measured(rows, others), against, with_samples=with_samples)
        return point["label"]

    def _references(self, forget_size: str, asking: str) -> References:
        ids: Mapping[Any, str] = self.ids.get((forget_size, asking), {})
        for key in ids.values():
            if key not in self.measured:
                self.measured[key] = Measured(self.run.read_part("measurements", key))
        return {role: self.measured[key] for role, key in ids.items()}


_resting = ExitStack()
"""What a process that scores rests in, to its end."""


@lru_cache(maxsize=1)
def _scorer(url: str) -> _Scorer:
    run = RunFolder(url)
    _resting.enter_context(run.at_rest())  # what others write meanwhile are scores
    return _Scorer(run)


def _score_there(url: str, point: Mapping[str, str]) -> str:
    """Score a point in a process that does nothing else."""
    return _scorer(url)(point)


def analyze_run(run: RunFolder, space: SearchSpace) -> None:
    """Judge every curve, calibrate, choose layers, and say how sure the scores of models are."""
    points, scores = run.read_table("points"), run.read_table("scores")
    findings, ranges = analyze(points, scores, space.analysis.tolerance)
    run.write_part("findings", "all", findings)
    run.write_part("metric_findings", "all", ranges)
    keep_conclusions(run, points, scores, findings, ranges)
    run.remove_part("calibrations", "all")  # which another search space may have asked for
    if space.calibration:
        run.write_part("calibrations", "all", calibrate(points, scores, space.calibration))
    run.remove_part("layer_choices", "all")
    if space.layer_choice:
        run.write_part("layer_choices", "all", _choose(run, points, space, space.layer_choice)[0])
    keep_intervals(run)
    analyze_attacks(run, space, points, scores)
    keep_ensembles(run, space)
    keep_geometry(run, space)
    keep_surfaces(run, space)


def follow(
    run: RunFolder, plan: Plan, whole: Plan, space: SearchSpace, around: Surroundings
) -> Plan:
    """Return the plan that findings so far call for.

    Args:
        run: Where scores are.
        plan: The plan that was measured last.
        whole: The plan of the file alone.
        space: What is asked.
        around: What plans are made from.
    """
    is_open = space.curves.num_points == ADAPTIVE or space.curves.quadratic == "if_barrier"
    if not (is_open or space.calibration or space.layer_choice or space.measurement.inside):
        return whole
    more = called_for(run, plan, space)
    found = make_plan(space, around, more) if more else whole
    return found.decided(_barriers(run, plan, space)) if found.has_choice else found


def _barriers(run: RunFolder, plan: Plan, space: SearchSpace) -> dict[str, bool]:
    """Say of every curve whose points all have scores or failed whether it has a barrier."""
    points = tables.from_rows("points", plan.point_rows())
    waiting = _waiting(run, points)
    is_whole = [curve not in waiting for curve in points["curve_id"].to_pylist()]
    if not any(is_whole) or not (scores := run.read_table("scores")):
        return {}
    findings, _ = analyze(points.filter(pa.array(is_whole)), scores, space.analysis.tolerance)
    return {row["curve_id"]: not row["is_connected"] for row in findings.to_pylist()}


def _waiting(run: RunFolder, points: pa.Table) -> set[str | None]:
    """Return the curves with points that have neither scores nor failed."""
    done = set(run.parts("scores")) | set(run.parts("failures"))
    rows = zip(*tables.columns(points, "point_id", "curve_id"), strict=True)
    return {curve for point, curve in rows if point not in done}


def called_for(run: RunFolder, plan: Plan, space: SearchSpace) -> More:
    """Say what calibration, layer choice and adaptive curves call for, earlier calls included.

    A walk or curve calls for more once each of its points has scores or has failed. All is worked
    out from the plan and the scores, so a run that was killed goes the way it would have gone.
    """
    points = tables.from_rows("points", plan.point_rows())
    waiting = _waiting(run, points)
    positions = {key: set(ts) for key, ts in plan.more.positions.items()}
    layers = dict(plan.more.layers)
    if space.calibration:
        found = calibrate(points, run.read_table("scores"), space.calibration)
        for key, t in next_positions(found, space.calibration.resolution).items():
            if key not in waiting:
                positions.setdefault(key, set()).add(t)
    whole = _of_curves(run, plan, space, waiting, positions)
    if space.layer_choice:
        _, sets = _choose(run, points, space, space.layer_choice)
        layers |= {k: nested for k, nested in sets.items() if nested and k not in waiting}
    return More(
        {key: tuple(sorted(ts)) for key, ts in positions.items()},
        layers,
        {key: tuple(sorted(ts)) for key, ts in whole.items()},
    )


def _of_curves(
    run: RunFolder,
    plan: Plan,
    space: SearchSpace,
    waiting: Collection[str | None],
    positions: dict[str, set[float]],
) -> dict[str, set[float]]:
    """Add where curves are open to ``positions``; return where settled ones are asked everything.

    Args:
        run: Where scores are.
        plan: The curves as they were measured.
        space: What is asked.
        waiting: Curves with points that have neither scores nor failed.
        positions: By curve, what is called for besides the file.
    """
    whole = {key: set(ts) for key, ts in plan.more.extremes.items()}
    is_adaptive = space.curves.num_points == ADAPTIVE
    if not (is_adaptive or space.measurement.inside):
        return whole
    losses, still = losses_of(run), set(waiting)
    if is_adaptive:
        for key, t in next_places(plan, losses, space.analysis.tolerance).items():
            if key not in still:
                positions.setdefault(key, set()).add(t)
                still.add(key)
    if space.measurement.inside:
        for key, ts in extremes(plan, losses).items():
            if key not in still:
                whole.setdefault(key, set()).update(ts)
    return whole


def _choose(
    run: RunFolder, points: pa.Table, space: SearchSpace, choice: LayerChoice
) -> tuple[pa.Table, dict[str, tuple[Layers, ...]]]:
    """Choose layers by what is measured."""
    columns = ["point_id", "forget_size", "role", "attacked", "asking"]
    rows = points.select(columns).to_pylist()
    measured = set(run.parts("measurements"))
    sizes = {row["point_id"]: row["forget_size"] for row in rows if row["point_id"] in measured}
    references = references_of(row for row in rows if row["point_id"] in sizes)
    put_in = [
        use.title
        for use in space.walks
        if use.name == "layers" and use.options.get("direction") != "restore"
    ]

    def worth(point: str) -> Worth | None:
        if point not in sizes:
            return None
        against = tuple(references.get((sizes[point], ""), {}).items())
        return _worth(run.url, point, against, choice.utility, choice.forget)

    return choose_layers(points, put_in, choice, worth)


@cache
def _worth(
    url: str, point: str, against: tuple[tuple[str, str], ...], utility: str, forget: str
) -> Worth:
    """Compute two metrics on each half of a point's examples; every round asks for them again."""
    values = []
    for parity in (0, 1):  # even rows of every probe choose, odd ones test
        here = _half(url, point, parity)
        there: Any = {role: _half(url, key, parity) for role, key in against}
        for name in (utility, forget):
            metric = METRICS[name]
            is_there = metric.is_measured(here)
            values.append(metric.score(here, there).value if is_there else None)
    return Worth(*values)


@lru_cache(maxsize=8)
def _half(url: str, point: str, parity: int) -> Measured:
    rows = RunFolder(url).read_part("measurements", point)
    return Measured(rows.filter(pc.equal(pc.bit_wise_and(rows["example"], 1), parity)))
