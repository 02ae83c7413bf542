"""A pool of Ray actors that measure and score points: bounded queue, retries, streamed tables."""

import importlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from raymcu.errors import StoreError, WorkError
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._scoring import score_point
from raymcu.plan import Blend, Point
from raymcu.search_space import BenchmarkUse, Measurement, ModelSource, SearchSpace
from raymcu.session import Cluster
from raymcu.store import RunFolder, failure_row
from raymcu.watch import Running, Watch


class PointActor:
    """One warm process: a resident model and tokenised probes; a plain class until Ray wraps it."""

    def __init__(self, setup: dict[str, Any]) -> None:
        torch.set_num_threads(setup["threads"])
        for module in setup["extensions"]:
            importlib.import_module(module)
        self.run = RunFolder(setup["run"], setup["store"])
        self.retrained: dict[str, str] = setup["retrained"]
        self.references: dict[str, pa.Table] = {}
        self.measurer = Measurer(
            self.run.checkpoints,
            BenchmarkUse.model_validate(setup["benchmark"]),
            ModelSource.model_validate(setup["model"]),
            Measurement.model_validate(setup["measurement"]),
        )

    def measure(self, point_id: str, blend: str, forget_size: str) -> float:
        """Measure one point into the run folder, and score it; return the seconds it took.

        Writing a point twice changes nothing, so a call may be repeated after a crash. A point
        measured before the retrained model it is compared with is left to the score stage.
        """
        started = time.perf_counter()
        rows = self.measurer.measure(point_id, Blend.model_validate_json(blend), forget_size)
        gold = self.retrained.get(forget_size)
        if point_id == gold:  # scores given so far lacked what they are compared with
            for point in self.run.plan["points"]:
                if point["forget_size"] == forget_size:
                    self.run.remove_part("scores", point["id"])
        self.run.write_part("measurements", point_id, rows)
        if gold is None or self.run.has_part("measurements", gold):
            reference = None if gold is None else self._reference(gold)
            self.run.write_part("scores", point_id, score_point(point_id, rows, reference))
        return time.perf_counter() - started

    def _reference(self, gold: str) -> pa.Table:
        if gold not in self.references:
            self.references[gold] = self.run.read_part("measurements", gold)
        return self.references[gold]


def measure_points(
    points: Sequence[Point], run: RunFolder, space: SearchSpace, cluster: Cluster, watch: Watch
) -> None:
    """Measure every point; a point that fails, or kills its actor too often, becomes a row.

    Raises:
        StoreError: If a checkpoint is damaged.
    """
    execution = space.execution
    setup = {
        "run": run.url,
        "store": run.checkpoints.folder.url,
        "benchmark": space.benchmark.model_dump(mode="json"),
        "model": space.model.model_dump(mode="json"),
        "measurement": space.measurement.model_dump(mode="json"),
        "extensions": list(space.extensions),
        "threads": execution.cpus_per_worker,
        "retrained": {
            point["forget_size"]: point["id"]
            for point in run.plan["points"]
            if point["role"] == "retrained"
        },
    }
    remote: Any = ray.remote(
        num_cpus=execution.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker(execution),
        max_restarts=-1,
        max_task_retries=0,  # attempts are counted here: a poison point must not loop
    )(PointActor)
    room = execution.measure_actors or cluster.workers(execution)
    actors = [
        remote.options(name=f"raymcu-measure-{n}-{time.time_ns()}").remote(setup)
        for n in range(min(room, len(points)))
    ]
    try:
        _drain(deque(points), actors, run, execution.max_attempts, watch)
    finally:
        for actor in actors:
            ray.kill(actor)


def _drain(
    queue: deque[Point], actors: Sequence[Any], run: RunFolder, max_attempts: int, watch: Watch
) -> None:
    """Keep every actor busy with one point until the queue is empty."""
    idle = deque(actors)
    running: dict[Any, tuple[Any, Point]] = {}
    attempts: dict[str, int] = {}
    while queue or running:
        while queue and idle:
            actor, point = idle.popleft(), queue.popleft()
            call = actor.measure.remote(point.id, point.blend.model_dump_json(), point.forget_size)
            running[call] = (actor, point)
        watch([], [Running(point.label) for _, point in running.values()])
        (call,), _ = ray.wait(list(running), num_returns=1)
        actor, point = running.pop(call)
        idle.append(actor)
        try:
            ray.get(call)
        except RayActorError:
            attempts[point.id] = attempts.get(point.id, 0) + 1
            if attempts[point.id] < max_attempts:
                queue.append(point)
                continue
            reason = f"its process died {max_attempts} times while measuring it."
            _record(run, point, "worker_died", reason, None)
        except RayTaskError as error:
            _record_error(run, point, error)
        watch([point.label], [Running(p.label) for _, p in running.values()])


def _record_error(run: RunFolder, point: Point, error: RayTaskError) -> None:
    cause = error.cause
    if isinstance(cause, StoreError):
        raise StoreError(str(cause)) from error
    if isinstance(cause, WorkError):
        _record(run, point, cause.reason, str(cause), None)
    elif isinstance(cause, torch.OutOfMemoryError):
        advice = "Lower measurement.batch_tokens."
        _record(run, point, "out_of_memory", f"{cause} {advice}", str(error))
    else:
        _record(run, point, "error", f"{type(cause).__name__}: {cause}", str(error))


def _record(run: RunFolder, point: Point, reason: str, message: str, trace: str | None) -> None:
    run.record_failure(failure_row(point.id, "measure", point.label, reason, message, trace))
