"""A pool of Ray actors that measure and score points: bounded queue, retries, streamed tables."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Self

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.cluster.gauges import Exported, speed_gauge
from raymcu.errors import ConfigError, StoreError, WorkError
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.queue import Queue
from raymcu.models.devices import DeviceError, Devices
from raymcu.planning.costs import probe_characters
from raymcu.planning.plan import Point
from raymcu.progress import Running, Watch
from raymcu.session import Cluster, connect, wait_for_room
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.search_space import SearchSpace

_AT_ONCE = 2
"""Points an actor works on: one is measured, the other scored and written."""
_STARTS = 60
"""Times that a process which does not answer is asked for."""
_AGAIN_S = 2.0
"""How long after one time the next one comes: Ray may answer for it at once, and in vain."""
_TOLD_EVERY_S = 15.0
"""How long nothing may end till whoever watches is told what is under way, once more."""


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
        self._retired: list[Any] = []
        """Actors that hold devices which take no more work."""
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

    def need(self, workers: Iterable[int], tell: Callable[[str], None]) -> Cluster:
        """Return the cluster once it has room for the largest of what there is to do.

        Args:
            workers: Workers of each training; 1 for a point to measure.
            tell: Told once a minute what is waited for.

        Raises:
            ConfigError: If the cluster is ours, so that nothing is to be waited for.
        """
        execution, asked = self.space.execution, sorted(set(workers))
        faults = [fault for n in asked if (fault := self.cluster.fault(execution, n))]
        if faults and not self.cluster.may_grow:
            raise ConfigError(faults)
        if faults:
            for fault in faults:
                tell(f"{fault} Waiting for the cluster to grow.")
            wait_for_room(self.cluster.bundle(execution, asked[-1]), asked[-1], tell)
        return self.cluster

    def dismiss(self) -> None:
        """End the actors, whose processors a training may wait for."""
        self._keep([])
        for actor in self._retired:
            ray.kill(actor)
        self._retired = []

    def _keep(self, actors: list[Any]) -> None:
        """End all measuring actors but these; one that never answered holds a place in a queue."""
        kept = {id(actor) for actor in (*actors, *self._retired)}
        for actor in self._actors:
            if id(actor) not in kept:
                ray.kill(actor)
        self._actors = actors

    def measure(self, points: Sequence[Point], watch: Watch) -> None:
        """Measure every point; a point that fails, or kills its actor too often, becomes a row.

        Raises:
            StoreError: If a checkpoint is damaged.
        """
        start = self._starter()
        watch = Exported(watch, self.run, self.space.name, "measure", len(points))

        def replace() -> Any | None:
            held = len(pool.retired) + len(self._retired) + len(pool.workers)
            return start() if held < self.cluster.workers(self.space.execution) else None

        pool = _Pool(
            self.actors(len(points)), Queue(points, self._sizes), Devices(self.run), replace
        )
        try:
            _drain(pool, self.run, self.space.execution.max_attempts, watch)
        finally:
            self._retired += pool.retired
            self._keep([worker.actor for worker in pool.workers if worker.is_up])

    def actors(self, count: int) -> list[Any]:
        """Return the measuring actors, started until there are so many, or no room for more."""
        room = self.space.execution.measure_actors or self.cluster.workers(self.space.execution)
        start = self._starter()
        while len(self._actors) < min(room, count):
            start()
        return self._actors

    def _starter(self) -> Callable[[], Any]:
        """Return what starts one more actor."""
        setup = cache(lambda: setup_of(self.run, self.space))

        def start() -> Any:
            name = f"raymcu-measure-{len(self._actors) + len(self._retired)}-{time.time_ns()}"
            self._actors.append(self._remote.options(name=name).remote(setup()))
            return self._actors[-1]

        return start

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
        )(MeasuringActor)


class MeasuringActor(PointActor):
    """Exports how fast it reads."""

    def measure(self, *point: Any, **how: Any) -> float:
        """Measure a point, see `PointActor.measure`."""
        took = super().measure(*point, **how)
        speed_gauge().set(self.num_tokens / took)
        return took


def _sizes(space: SearchSpace) -> dict[str, float]:
    """Return about how much a point of each forget set has to read."""
    use = space.benchmark
    sets = BENCHMARKS[use.name](**use.options).facts().sets
    return {size: probe_characters(space.measurement, size, sets) for size in use.forget_sizes}


@dataclass(eq=False)
class _Worker:
    """An actor, and what it does."""

    actor: Any
    last: Point | None = None
    under_way: int = 0
    """Points that it works on."""
    is_up: bool = False
    """Whether its process has answered; it is sent no point before."""
    is_alone: bool = False
    """Whether it takes no more: it tries a suspect."""
    device: str | None = None
    """Where its process is; None without a GPU."""
    failed_starts: int = 0


class _Pool:
    """Actors that each have one point to measure, and one that they score and write.

    Args:
        actors: Those there are; they may still be starting.
        queue: What to measure.
        devices: Which devices take no more work.
        replace: Starts an actor in place of one whose device takes no more; None where there is
            no room for one.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        queue: Queue,
        devices: Devices,
        replace: Callable[[], Any | None] = lambda: None,
    ) -> None:
        self.workers = [_Worker(actor) for actor in actors]
        self.queue = queue
        self.devices = devices
        self.replace = replace
        self.retired: list[Any] = []
        """Actors of devices that take no more work: they hold them, so that nobody else does."""
        self.running: dict[Any, tuple[_Worker, Point | None]] = {}
        """Calls under way; without a point, one that asks whether a process has started."""
        self.failed_on: set[tuple[str | None, str]] = set()
        """Devices, each with the id of a point that failed on it."""
        self.absent: deque[tuple[float, _Worker]] = deque()
        """Workers that did not answer, and when each is asked again."""
        self.trouble: str | None = None
        """Why a process did not start, the last time."""
        for worker in self.workers:
            self.revive(worker)

    @property
    def is_done(self) -> bool:
        """Whether no point is left, or nobody to measure it."""
        is_busy = any(worker.under_way for worker in self.workers)
        return not self.workers or not (self.queue or is_busy)

    def fill(self) -> None:
        """Hand out points: all actors get a first one before any gets a second."""
        for depth in range(_AT_ONCE):
            for worker in self.workers:
                if not worker.is_up or worker.is_alone or worker.under_way > depth:
                    continue
                if not worker.under_way and (suspect := self._suspect_for(worker)):
                    worker.is_alone = True
                    self._send(worker, suspect)
                elif self.queue.points:
                    self._send(worker, self.queue.take(worker.last))

    def _suspect_for(self, worker: _Worker) -> Point | None:
        """Take a suspect; one that failed on the worker's device only if nothing else is left.

        So it is found out by other points, and other devices, whose fault it is.
        """
        suspects = self.queue.suspects
        fresh = (point for point in suspects if (worker.device, point.id) not in self.failed_on)
        point = next(fresh, None)
        has_others = any(other.is_up and other.device != worker.device for other in self.workers)
        if point is None and suspects and not has_others and not self.queue.points:
            point = suspects[0]
        if point is not None:
            suspects.remove(point)
        return point

    def _send(self, worker: _Worker, point: Point) -> None:
        blend = point.blend.model_dump_json()
        how = {"is_inside": True} if point.is_inside else {}
        attack = point.attack.call if point.attack else None
        call = worker.actor.measure.remote(point.id, blend, point.forget_size, attack, **how)
        worker.last, worker.under_way = point, worker.under_way + 1
        self.running[call] = (worker, point)

    def revive(self, worker: _Worker) -> None:
        """Send a worker nothing until its process has answered: Ray would fail the calls."""
        worker.is_up = False
        worker.last = None
        if all(waiting is not worker or point for waiting, point in self.running.values()):
            self.running[worker.actor.where.remote()] = (worker, None)

    def answered(self, worker: _Worker, device: str | None) -> None:
        """Let a worker begin, unless its device takes no more."""
        worker.is_up, worker.device, worker.failed_starts = True, device, 0
        if self.devices.is_broken(device):
            self.workers.remove(worker)
            self.retired.append(worker.actor)
            self.trouble = f"{device} takes no more work"
            if (actor := self.replace()) is not None:
                self.workers.append(_Worker(actor))
                self.revive(self.workers[-1])

    def lost(self, worker: _Worker, error: Exception) -> None:
        """Try again to reach a process that does not start; give the worker up in the end."""
        self.trouble = str(error)
        worker.failed_starts += 1
        if worker.failed_starts < _STARTS:
            self.absent.append((time.monotonic() + _AGAIN_S, worker))
        else:
            self.workers.remove(worker)

    def wait(self) -> tuple[Any, _Worker, Point | None] | None:
        """Return a call that has ended, its worker, and its point if it had one.

        None if nothing ends for a while.
        """
        while self.absent and (self.absent[0][0] < time.monotonic() or not self.running):
            due, worker = self.absent.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            self.revive(worker)
        patience = _AGAIN_S if self.absent else _TOLD_EVERY_S
        ended, _ = ray.wait(list(self.running), num_returns=1, timeout=patience)
        if not ended:
            return None
        worker, point = self.running.pop(ended[0])
        if point is not None:
            worker.under_way -= 1
            worker.is_alone = worker.is_alone and worker.under_way > 0
        return ended[0], worker, point

    @property
    def shown(self) -> list[Running]:
        """What is under way, for who watches."""
        if not any(worker.is_up for worker in self.workers):
            return [Running("waiting for a measuring process to start")]
        return [Running(point.label) for _, point in self.running.values() if point]


def _drain(pool: _Pool, run: RunFolder, max_attempts: int, watch: Watch) -> None:
    """Keep every actor busy until the queue is empty."""
    attempts: Counter[str] = Counter()
    while not pool.is_done:
        pool.fill()
        watch([], pool.shown)
        if (ended := pool.wait()) is None:
            continue
        call, worker, point = ended
        try:
            answer = ray.get(call)
        except (RayActorError, RayTaskError) as error:
            if point is None:
                pool.lost(worker, error)
                continue
            if (why := _fate(pool, worker, error)) is not None:
                pool.failed_on.add((worker.device, point.id))
                attempts[point.id] += 1
                if attempts[point.id] < max_attempts:
                    pool.queue.suspects.append(point)
                    continue
                reason = f"{why} {max_attempts} times while measuring it."
                _record(run, point, "worker_died", reason, str(error))
            else:
                _record_error(run, point, error)
        else:
            if point is None:
                pool.answered(worker, answer)
                continue
        watch([point.label], pool.shown)
    for point in (*pool.queue.suspects, *pool.queue.points):
        reason = f"no measuring process could be started, in {_STARTS} attempts each."
        _record(run, point, "worker_died", reason, pool.trouble)


def _fate(pool: _Pool, worker: _Worker, error: RayActorError | RayTaskError) -> str | None:
    """Say what befell a worker's process, which starts anew; None if only its point failed."""
    if isinstance(error, RayActorError):
        pool.revive(worker)
        return "its process died"
    if isinstance(error.cause, DeviceError):
        ray.kill(worker.actor, no_restart=False)  # its device fails everything it is asked for
        pool.revive(worker)
        return "its device failed"
    return None


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
