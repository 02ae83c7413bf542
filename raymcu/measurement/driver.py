"""Warm Ray actors that measure and score points, from the first need to the end of a run."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from typing import Any, Self

import ray

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.cluster.checks import passed_on
from raymcu.cluster.gauges import Exported, speed_gauge
from raymcu.cluster.head import watched
from raymcu.cluster.leaving import Deaths
from raymcu.cluster.nodes import refuse_blind_nodes
from raymcu.errors import ConfigError
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.pool import AT_ONCE, Pool, drain, measured, turn
from raymcu.measurement.queue import Queue
from raymcu.models.devices import Devices
from raymcu.planning.costs import probe_characters
from raymcu.planning.graph import Graph
from raymcu.planning.plan import Point
from raymcu.progress import Running, Watch
from raymcu.session import Cluster, connect, wait_for_room
from raymcu.store import node_cache
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

_LOOKS_LESS = 10
"""How many times as long as a look at findings takes no other one follows."""


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
        node_cache.limit(space.execution.cache_gib)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.dismiss()
        self._connection.close()

    @property
    def cluster(self) -> Cluster:
        """What the cluster offers by now; connects to it at the first call."""
        return self._joined.by_now()

    @cached_property
    def _joined(self) -> Cluster:
        passed = passed_on(self.space)
        found = self._connection.enter_context(
            connect(self.space.name, dashboard=self.ray_dashboard, variables=passed)
        )
        if found.may_grow:
            has_begun = self.run.exists("run.json")
            told = self.run.read_json("run.json") if has_begun else {}
            command = told.get("command") or "the same command"
            head = ray.get_runtime_context().gcs_address
            self._connection.enter_context(watched(head, command))
            refuse_blind_nodes(self.run)
        return found

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

    @property
    def is_staffed(self) -> bool:
        """Whether there are measuring actors."""
        return bool(self._actors)

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
        graph = Graph(lambda recipe: 0.0)
        graph.add((), points, lambda checkpoint: True)
        with self.measuring(graph, watch) as measuring:
            measuring.finish()

    @contextmanager
    def measuring(
        self, graph: Graph, watch: Watch, look: Callable[[], None] = lambda: None
    ) -> Iterator["Measuring"]:
        """Measure the points of a graph as they become ready, with actors that come and go.

        Args:
            graph: What there is to do.
            watch: Told of progress.
            look: Adds to the graph what findings so far call for; asked when workers would idle.
        """
        total = graph.size["measure"]
        watch = Exported(watch, self.run, self.space.name, "measure", total)
        found = Measuring(self, graph, watch, look)
        try:
            yield found
        finally:
            if found.pool is not None:
                self._disband(found.pool)

    def do(self, queue: Queue, send: Callable[[Any, Any], Any], watch: Watch) -> None:
        """Have the actors do something else than measure, see `Pool`; it fails as points do.

        Raises:
            StoreError: If a checkpoint is damaged.
        """
        pool = self.pool(lambda: self.cluster.wanted(self.space.execution), queue, send)
        try:
            drain(pool, self.run, watch)
        finally:
            self._disband(pool)

    def _disband(self, pool: Pool) -> None:
        self._retired += pool.retired
        self._keep([worker.actor for worker in pool.workers if worker.is_up])

    def pool(
        self,
        room: Callable[[], int],
        queue: Queue | None = None,
        send: Callable[[Any, Any], Any] = measured,
    ) -> Pool:
        """Return the actors as a pool that takes in more while there are fewer than ``room``."""
        start, execution = self._starter(), self.space.execution

        def more(held: int, work: int) -> list[Any]:
            most = min(held + work, room(), execution.measure_actors or held + work)
            return [start() for _ in range(held + len(self._retired), most)]

        queue = Queue((), self._sizes) if queue is None else queue
        deaths = Deaths(execution.max_attempts)
        return Pool(self._actors, queue, Devices(self.run), more, deaths, send)

    def _starter(self) -> Callable[[], Any]:
        """Return what starts one more actor."""
        setup, remote = cache(lambda: setup_of(self.run, self.space)), self._remote()

        def start() -> Any:
            name = f"raymcu-measure-{len(self._actors) + len(self._retired)}-{time.time_ns()}"
            self._actors.append(remote.options(name=name).remote(setup()))
            return self._actors[-1]

        return start

    @cached_property
    def _sizes(self) -> dict[str, float]:
        """About how much a point of each forget set has to read; takes a look at all data."""
        return _sizes(self.space)

    def _remote(self) -> Any:
        execution = self.space.execution
        return ray.remote(
            num_cpus=execution.cpus_per_worker,
            num_gpus=self.cluster.gpus_per_worker(execution),
            max_concurrency=AT_ONCE,
            max_restarts=-1,
            max_task_retries=0,  # attempts are counted here: a poison point must not loop
            scheduling_strategy="DEFAULT",  # not within what a trial that measures was given
        )(MeasuringActor)


class Measuring:
    """Points of a graph that are measured as they become ready.

    Args:
        crew: Whose actors measure.
        graph: What there is to do.
        watch: Told of progress.
        look: Adds to the graph what findings so far call for.
    """

    def __init__(self, crew: Crew, graph: Graph, watch: Watch, look: Callable[[], None]) -> None:
        self.crew, self.graph, self.watch, self.look = crew, graph, watch, look
        self.pool: Pool | None = None
        self._room: int | None = None
        """Workers that trainings leave room for; None: there are no trainings."""
        self._looks_at = 0.0
        self._has_news = False
        """Whether points have ended since findings were looked at."""

    def turn(self, room: int) -> bool:
        """Go on beside trainings, which leave room for so many workers; wait for nothing.

        Returns:
            Whether points wait for a process that has not started.

        Raises:
            StoreError: If a checkpoint is damaged.
        """
        self._room = room
        if (pool := self._filled()) is None:
            return False
        pool.leave(room)
        turn(pool, self.crew.run, self._told, is_patient=False)
        return pool.is_short

    def finish(self) -> None:
        """Measure all that is left, till there is something to be trained again.

        Raises:
            StoreError: If a checkpoint is damaged.
        """
        self._room = None
        if (pool := self._filled()) is not None:
            pool.leave(len(pool.workers))
            pool.grow()
            drain(pool, self.crew.run, self._told, self._goes_on)

    def _goes_on(self) -> bool:
        self._filled()
        return not self.graph.has_ready

    def _filled(self) -> Pool | None:
        """Return the pool with what has become ready; None if nothing has, and nobody is there."""
        points = self.graph.take_points()
        if not points and self._has_news and self._is_idle:
            started, self._has_news = time.monotonic(), False
            self.look()
            now = time.monotonic()
            self._looks_at = now + _LOOKS_LESS * (now - started)
            points = self.graph.take_points()
        if self.pool is None and (points or self.crew.is_staffed):
            self.pool = self.crew.pool(self._room_now)
        if self.pool is not None:
            self.pool.queue.add(points)
        return self.pool

    @property
    def _is_idle(self) -> bool:
        """Whether workers have nothing to do, or will have soon, and findings may be looked at."""
        is_short = self.graph.has_ready or (self.pool is not None and bool(self.pool.queue))
        return not is_short and time.monotonic() >= self._looks_at

    def _told(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        self._has_news = self._has_news or bool(ended)
        self.watch(ended, running)

    def _room_now(self) -> int:
        if self._room is not None:
            return self._room
        return self.crew.cluster.wanted(self.crew.space.execution)


class MeasuringActor(PointActor):
    """Exports how fast it reads, and knows its node."""

    def where(self) -> tuple[str | None, str | None]:
        """Name this process's device and node."""
        device, _ = super().where()
        return device, str(ray.get_runtime_context().get_node_id())

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
