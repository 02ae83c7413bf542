"""A pool of Ray actors that measure and score points: bounded queue, retries, streamed tables."""

import importlib
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Self

import pyarrow as pa
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.costs import probe_characters
from raymcu.errors import StoreError, WorkError
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._base import Measured
from raymcu.metrics._scoring import score_point
from raymcu.plan import Blend, Point
from raymcu.search_space import BenchmarkUse, Measurement, ModelSource, SearchSpace
from raymcu.session import Cluster, connect
from raymcu.store import RunFolder, failure_row
from raymcu.watch import Running, Watch

_AT_ONCE = 2
"""Points an actor works on: one is measured, the other scored and written."""
_STARTS = 60
"""Times that a process which does not answer is asked for, some seconds each."""
_NEAR = 64
"""How far ahead of the queue an actor may look for a point of the checkpoints it holds."""


class PointActor:
    """One warm process: a resident model and tokenised probes; a plain class until Ray wraps it.

    It takes two points at once: while the model measures one, the other is scored and written.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        torch.set_num_threads(setup["threads"])
        for module in setup["extensions"]:
            importlib.import_module(module)
        self.run = RunFolder(setup["run"], setup["store"])
        self.alone: dict[tuple[str, str], tuple[str, Blend]] = {
            (row["forget_size"], row["role"]): (
                row["point_id"],
                Blend.model_validate_json(row["blend"]),
            )
            for row in setup["alone"]
        }
        self.references: dict[str, Measured] = {}
        self.lock = threading.Lock()
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
        what = Blend.model_validate_json(blend)
        with self.lock:  # the model holds one blend
            started = time.perf_counter()
            rows = self.measurer.measure(point_id, what, forget_size)
            others = self._compare(point_id, what, forget_size)
            took = time.perf_counter() - started
        gold, _ = self.alone.get((forget_size, "retrained"), (None, None))
        if point_id == gold:  # scores given so far lacked what they are compared with
            for point in self.run.plan["points"]:
                if point["forget_size"] == forget_size:
                    self.run.remove_part("scores", point["id"])
        for name, table in others.items():
            self.run.write_part(name, point_id, table)
        self.run.write_part("measurements", point_id, rows)
        if gold is None or self.run.has_part("measurements", gold):
            reference = None if gold is None else self._reference(gold)
            self.run.write_part("scores", point_id, score_point(point_id, rows, reference, others))
        return took

    def _compare(self, point_id: str, blend: Blend, forget_size: str) -> dict[str, pa.Table]:
        """Return the point's table ``representations``, if it is asked for."""
        if not self.measurer.asked.representations:
            return {}
        against = {
            role: other
            for (size, role), (_, other) in self.alone.items()
            if size == forget_size and self.run.checkpoints.is_done(other.checkpoints[0])
        }
        return {"representations": self.measurer.compare(point_id, blend, forget_size, against)}

    def _reference(self, gold: str) -> Measured:
        if gold not in self.references:
            self.references[gold] = Measured(self.run.read_part("measurements", gold))
        return self.references[gold]


class Crew:
    """A connection to Ray and warm measuring actors, each from its first need to the crew's end.

    Args:
        run: Where points and their tables are.
        space: What to ask, and where the work runs.
        ray_dashboard: Whether a local cluster serves Ray's own dashboard.
    """

    def __init__(self, run: RunFolder, space: SearchSpace, *, ray_dashboard: bool = False) -> None:
        self.run = run
        self.space = space
        self.ray_dashboard = ray_dashboard
        self._actors: list[Any] = []
        self._connection = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.dismiss()
        self._connection.close()

    @cached_property
    def cluster(self) -> Cluster:
        """What the cluster offers; connects to it at the first call."""
        return self._connection.enter_context(
            connect(self.space.name, dashboard=self.ray_dashboard)
        )

    def dismiss(self) -> None:
        """End the actors, whose processors a training may wait for."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def measure(self, points: Sequence[Point], watch: Watch) -> None:
        """Measure every point; a point that fails, or kills its actor too often, becomes a row.

        Raises:
            StoreError: If a checkpoint is damaged.
        """
        room = self.space.execution.measure_actors or self.cluster.workers(self.space.execution)
        more = range(len(self._actors), min(room, len(points)))
        setup = setup_of(self.run, self.space) if more else None
        for number in more:
            name = f"raymcu-measure-{number}-{time.time_ns()}"
            self._actors.append(self._remote.options(name=name).remote(setup))
        pool = _Pool(self._actors, Queue(points, self._sizes))
        _drain(pool, self.run, self.space.execution.max_attempts, watch)
        self._actors = [worker.actor for worker in pool.workers]

    @cached_property
    def _sizes(self) -> dict[str, float]:
        """About how much a point of each forget set has to read; takes a look at all data."""
        return _sizes(self.space)

    @cached_property
    def _remote(self) -> Any:
        execution = self.space.execution
        return ray.remote(
            num_cpus=execution.cpus_per_worker,
            num_gpus=self.cluster.gpus_per_worker(execution),
            max_concurrency=_AT_ONCE,
            max_restarts=-1,
            max_task_retries=0,  # attempts are counted here: a poison point must not loop
            scheduling_strategy="DEFAULT",  # not within what a trial that measures was given
        )(PointActor)


def setup_of(run: RunFolder, space: SearchSpace) -> dict[str, Any]:
    """Return what a `PointActor` is made from."""
    return {
        "run": run.url,
        "store": run.checkpoints.folder.url,
        "benchmark": space.benchmark.model_dump(mode="json"),
        "model": space.model.model_dump(mode="json"),
        "measurement": space.measurement.model_dump(mode="json"),
        "extensions": list(space.extensions),
        "threads": space.execution.cpus_per_worker,
        "alone": _alone(run),
    }


def _alone(run: RunFolder) -> list[dict[str, str]]:
    """Return the points of the original and retrained models."""
    rows = run.read_table("points").select(["point_id", "forget_size", "role", "blend"])
    return [row for row in rows.to_pylist() if row["role"] in ("original", "retrained")]


def _sizes(space: SearchSpace) -> dict[str, float]:
    """Return about how much a point of each forget set has to read."""
    use = space.benchmark
    sets = BENCHMARKS[use.name](**use.options).facts().sets
    return {size: probe_characters(space.measurement, size, sets) for size in use.forget_sizes}


class Queue:
    """Points in the order that keeps actors busy to the end, and near what they hold.

    Retrained models come first, as the scores of others need them; then the largest forget set. An
    actor gets the next point that needs no other checkpoints than its last one, if there is any.

    Args:
        points: In the order of their curves.
        sizes: How much work a point of each forget set is.
    """

    def __init__(self, points: Sequence[Point], sizes: Mapping[str, float]) -> None:
        def rank(point: Point) -> tuple[bool, float]:
            return point.role != "retrained", -sizes[point.forget_size]

        self.points = deque(sorted(points, key=rank))
        self.suspects: deque[Point] = deque()
        """Points that were under way when a process died: each is tried again with no other."""

    def __bool__(self) -> bool:
        return bool(self.points or self.suspects)

    def take(self, last: Point | None) -> Point:
        """Return the next point for an actor that measured ``last`` before."""
        number = 0
        if last is not None:
            held = set(last.blend.checkpoints)
            near = (
                number
                for number, point in enumerate(islice(self.points, _NEAR))
                if held.issuperset(point.blend.checkpoints)
                and point.forget_size == last.forget_size
            )
            number = next(near, 0)
        point = self.points[number]
        del self.points[number]
        return point


@dataclass
class _Worker:
    """An actor, and what it does."""

    actor: Any
    last: Point | None = None
    under_way: int = 0
    is_shut: bool = False
    """Whether it takes no more: it tries a suspect, which must be alone, or its process starts."""
    failed_starts: int = 0


class _Pool:
    """Actors that each have one point to measure, and one that they score and write."""

    def __init__(self, actors: Sequence[Any], queue: Queue) -> None:
        self.workers = [_Worker(actor) for actor in actors]
        self.queue = queue
        self.running: dict[Any, tuple[_Worker, Point | None]] = {}
        """Calls under way; without a point, one that asks whether a process has started."""
        self.trouble: str | None = None
        """Why a process did not start, the last time."""

    def fill(self) -> None:
        """Hand out points: all actors get a first one before any gets a second."""
        for depth in range(_AT_ONCE):
            for worker in self.workers:
                if worker.is_shut or worker.under_way > depth:
                    continue
                if self.queue.suspects and not worker.under_way:
                    worker.is_shut = True
                    self._send(worker, self.queue.suspects.popleft())
                elif self.queue.points:
                    self._send(worker, self.queue.take(worker.last))

    def _send(self, worker: _Worker, point: Point) -> None:
        blend = point.blend.model_dump_json()
        call = worker.actor.measure.remote(point.id, blend, point.forget_size)
        worker.last, worker.under_way = point, worker.under_way + 1
        self.running[call] = (worker, point)

    def revive(self, worker: _Worker) -> None:
        """Send a worker nothing until its new process has started: Ray would fail the calls."""
        worker.is_shut = True
        worker.last = None
        if all(waiting is not worker or point for waiting, point in self.running.values()):
            worker.under_way += 1
            self.running[worker.actor.__ray_ready__.remote()] = (worker, None)

    def lost(self, worker: _Worker, error: Exception) -> None:
        """Try again to reach a process that does not start; give the worker up in the end."""
        self.trouble = str(error)
        worker.failed_starts += 1
        if worker.failed_starts < _STARTS:
            self.revive(worker)
        else:
            self.workers.remove(worker)

    def wait(self) -> tuple[Any, _Worker, Point | None]:
        """Return a call that has ended, its worker, and its point if it had one."""
        (call,), _ = ray.wait(list(self.running), num_returns=1)
        worker, point = self.running.pop(call)
        worker.under_way -= 1
        waits = any(other is worker for other, _ in self.running.values())
        worker.is_shut = worker.is_shut and waits
        return call, worker, point

    @property
    def shown(self) -> list[Running]:
        """What is under way, for who watches."""
        return [Running(point.label) for _, point in self.running.values() if point]


def _drain(pool: _Pool, run: RunFolder, max_attempts: int, watch: Watch) -> None:
    """Keep every actor busy until the queue is empty."""
    attempts: Counter[str] = Counter()
    while pool.workers and (pool.queue or pool.running):
        pool.fill()
        watch([], pool.shown)
        call, worker, point = pool.wait()
        try:
            ray.get(call)
        except RayActorError as error:
            if point is None:
                pool.lost(worker, error)
                continue
            pool.revive(worker)
            attempts[point.id] += 1
            if attempts[point.id] < max_attempts:
                pool.queue.suspects.append(point)
                continue
            reason = f"its process died {max_attempts} times while measuring it."
            _record(run, point, "worker_died", reason, None)
        except RayTaskError as error:
            if point is not None:
                _record_error(run, point, error)
        if point is not None:
            watch([point.label], pool.shown)
        else:
            worker.failed_starts = 0
    for point in (*pool.queue.suspects, *pool.queue.points):
        reason = f"no measuring process could be started, in {_STARTS} attempts."
        _record(run, point, "worker_died", reason, pool.trouble)


def _record_error(run: RunFolder, point: Point, error: RayTaskError) -> None:
    cause = error.cause
    if isinstance(cause, StoreError):
        raise StoreError(str(cause)) from error
    if isinstance(cause, WorkError):
        _record(run, point, cause.reason, str(cause), None)
    elif isinstance(cause, torch.OutOfMemoryError):
        advice = "Lower measurement.memory_gib or batch_tokens."
        _record(run, point, "out_of_memory", f"{cause} {advice}", str(error))
    else:
        _record(run, point, "error", f"{type(cause).__name__}: {cause}", str(error))


def _record(run: RunFolder, point: Point, reason: str, message: str, trace: str | None) -> None:
    run.record_failure(failure_row(point.id, "measure", point.label, reason, message, trace))
