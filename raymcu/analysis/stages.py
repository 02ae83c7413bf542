"""The stages that need tables only: measurements to scores to findings. No torch, no Ray."""

import importlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context

from raymcu.analysis.curves import analyze
from raymcu.metrics._base import Measured
from raymcu.metrics._scoring import score_point
from raymcu.plan import More, Plan
from raymcu.search_space import SearchSpace
from raymcu.store import RunFolder
from raymcu.watch import Watch

_POINTS_PER_WORKER = 16
"""Fewer are not worth another process."""


def unscored(run: RunFolder) -> tuple[list[dict[str, str]], int]:
    """Return the measured points without scores, and the number of all measured points."""
    measured, scored = set(run.parts("measurements")), set(run.parts("scores"))
    points = [point for point in run.plan["points"] if point["id"] in measured]
    return [point for point in points if point["id"] not in scored], len(points)


def score_points(run: RunFolder, points: Sequence[Mapping[str, str]], watch: Watch) -> None:
    """Compute every metric of the points from their stored measurements.

    Many points are scored by several processes, one per core.

    Raises:
        ConfigError: If the retrained model was measured on other questions.
        StoreError: If a measurements file is damaged.
    """
    workers = min(os.cpu_count() or 1, len(points) // _POINTS_PER_WORKER)
    if workers < 2:
        score = _Scorer(run)
        for point in points:
            watch([score(point)], [])
        return
    # Not forked: the process that scores may have threads, and has talked to Ray.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for label in pool.map(_score_there, repeat(run.url), points):
            watch([label], [])


class _Scorer:
    """Scores points of a run; each retrained model's measurements are read once."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.retrained_ids = {
            point["forget_size"]: point["id"]
            for point in run.plan["points"]
            if point["role"] == "retrained" and run.has_part("measurements", point["id"])
        }
        self.retrained: dict[str, Measured] = {}

    def __call__(self, point: Mapping[str, str]) -> str:
        """Write the scores of a point; return its label."""
        key = point["id"]
        rows = self.run.read_part("measurements", key)
        others = {
            table: self.run.read_part(table, key)
            for table in ("representations", "judgements")
            if self.run.has_part(table, key)
        }
        scores = score_point(key, rows, self._retrained(point["forget_size"]), others)
        self.run.write_part("scores", key, scores)
        return point["label"]

    def _retrained(self, forget_size: str) -> Measured | None:
        if forget_size in self.retrained_ids and forget_size not in self.retrained:
            rows = self.run.read_part("measurements", self.retrained_ids[forget_size])
            self.retrained[forget_size] = Measured(rows)
        return self.retrained.get(forget_size)


@lru_cache(maxsize=1)
def _scorer(url: str) -> _Scorer:
    run = RunFolder(url)
    for module in run.plan["search_space"]["extensions"]:
        importlib.import_module(module)  # metrics of the user's own
    return _Scorer(run)


def _score_there(url: str, point: Mapping[str, str]) -> str:
    """Score a point in a process that does nothing else."""
    return _scorer(url)(point)


def called_for(run: RunFolder, plan: Plan, space: SearchSpace) -> More:
    """Say what findings call for beyond the file, earlier calls included."""
    del run, plan, space
    return More()


def analyze_run(run: RunFolder, space: SearchSpace) -> None:
    """Judge every curve from the points and scores tables."""
    tolerance = space.analysis.tolerance
    findings, ranges = analyze(run.read_table("points"), run.read_table("scores"), tolerance)
    run.write_part("findings", "all", findings)
    run.write_part("metric_findings", "all", ranges)
