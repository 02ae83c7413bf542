"""The pool of measuring actors: bounded queue, retries, whose fault a failure is."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from raymcu.cluster.leaving import MOST_LEFT, Deaths
from raymcu.errors import StoreError, WorkError
from raymcu.measurement.queue import Item, Queue
from raymcu.models.devices import DeviceError, Devices
from raymcu.planning.plan import Point
from raymcu.progress import Running, Watch
from raymcu.store.run_folder import RunFolder, failure_row

AT_ONCE = 2
"""Points an actor works on: one is measured, the other scored and written."""
_STARTS = 60
"""Times that a process which does not answer is asked for."""
_AGAIN_S = 2.0
"""How long after one time the next one comes: Ray may answer for it at once, and in vain."""
_TOLD_EVERY_S = 15.0
"""How long nothing may end till whoever watches is told what is under way, once more."""
_GROWS_EVERY_S = 10.0
"""How often it is asked for more actors."""


@dataclass(eq=False)
class Worker:
    """An actor, and what it does."""

    actor: Any
    under_way: int = 0
    """Points that it works on."""
    is_up: bool = False
    """Whether its process has answered; it is sent no point before."""
    is_alone: bool = False
    """Whether it takes no more: it tries a suspect."""
    device: str | None = None
    """Where its process is; None without a GPU."""
    node: str | None = None
    """Where it answered last."""
    failed_starts: int = 0
    is_leaving: bool = False
    """Whether it takes no more: somebody else needs its room."""

    @property
    def has_room(self) -> bool:
        """Whether it takes one more point."""
        is_free = self.is_up and not self.is_alone and not self.is_leaving
        return is_free and self.under_way < AT_ONCE


def measured(actor: Any, point: Point) -> Any:
    """Have an actor measure a point; return its call."""
    blend = point.blend.model_dump_json()
    how = {"is_inside": True} if point.is_inside else {}
    attack = point.attack.call if point.attack else None
    return actor.measure.remote(point.id, blend, point.forget_size, attack, **how)


class Pool:
    """Actors that each have one point to measure, and one that they score and write.

    Args:
        actors: Those there are; they may still be starting.
        queue: What to measure.
        devices: Which devices take no more work.
        more: Starts actors that there is room for, or that a cluster may yet have room for, given
            how many there are, and how many more there are points for.
        deaths: Counts how often each point's process died.
        send: Has an actor do what is in the queue; returns its call.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        queue: Queue,
        devices: Devices,
        more: Callable[[int, int], Sequence[Any]] = lambda held, work: (),
        deaths: Deaths | None = None,
        send: Callable[[Any, Any], Any] = measured,
    ) -> None:
        self.workers: list[Worker] = []
        self.queue = queue
        self.devices = devices
        self.more = more
        self.deaths, self.send = deaths or Deaths(most=3), send
        self.given_up = 0
        """Actors whose process never started."""
        self.doubts: deque[tuple[Item, str, Exception]] = deque()
        """Points whose processes have died, maybe with their nodes, and what is told of it."""
        self.grows_at = 0.0
        self.retired: list[Any] = []
        """Actors of devices that take no more work: they hold them, so that nobody else does."""
        self.running: dict[Any, tuple[Worker, Item | None]] = {}
        """Calls under way; without a point, one that asks whether a process has started."""
        self.failed_on: set[tuple[str | None, str]] = set()
        """Devices, each with the id of a point that failed on it."""
        self.absent: deque[tuple[float, Worker]] = deque()
        """Workers that did not answer, and when each is asked again."""
        self.trouble: str | None = None
        """Why a process did not start, the last time."""
        self.hungry: dict[Worker, None] = {}
        """Workers that may have room: all that has changed since they were last looked at."""
        self.under_way = 0
        """Points under way."""
        self._are_leaving = False
        self._add(actors)

    @property
    def is_done(self) -> bool:
        """Whether no point is left, or nobody to measure it."""
        return not self.doubts and not (self.workers and (self.queue or self.under_way))

    @property
    def is_short(self) -> bool:
        """Whether points wait for a process that has not started."""
        return bool(self.queue) and any(not worker.is_up for worker in self.workers)

    def grow(self) -> None:
        """Take in actors for which a cluster that changes has room by now."""
        self.grows_at = time.monotonic() + _GROWS_EVERY_S
        held = len(self.workers) + len(self.retired) + self.given_up
        idle = sum(not worker.under_way for worker in self.workers)
        work = self.queue.num_points + len(self.queue.suspects) - idle
        self._add(self.more(held, max(0, work)))

    def leave(self, room: int) -> None:
        """Have no more workers than there is room for; one ends once its points are through."""
        surplus = max(0, len(self.workers) - room)
        if not surplus and not self._are_leaving:
            return
        idlest = sorted(self.workers, key=lambda worker: worker.under_way if worker.is_up else -1)
        self._are_leaving = surplus > 0
        for number, worker in enumerate(idlest):
            worker.is_leaving = number < surplus
            if not worker.is_leaving:
                self.hungry[worker] = None
            elif not worker.under_way:
                self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.queue.forget(worker)
        self.hungry.pop(worker, None)
        self.absent = deque(entry for entry in self.absent if entry[1] is not worker)
        self.running = {call: told for call, told in self.running.items() if told[0] is not worker}
        ray.kill(worker.actor)

    def _add(self, actors: Sequence[Any]) -> None:
        for actor in actors:
            self.workers.append(Worker(actor))
            self.revive(self.workers[-1])

    def fill(self) -> None:
        """Hand out points: all actors get a first one before any gets a second."""
        for depth in range(AT_ONCE if self.queue else 0):
            for worker in self.hungry:
                if not worker.has_room or worker.under_way > depth:
                    continue
                if not worker.under_way and (suspect := self._suspect_for(worker)):
                    worker.is_alone = True
                    self._send(worker, suspect)
                elif self.queue.num_points:
                    self._send(worker, self.queue.take(worker))
        self.hungry = {worker: None for worker in self.hungry if worker.has_room}

    def _suspect_for(self, worker: Worker) -> Item | None:
        """Take a suspect; one that failed on the worker's device only if nothing else is left.

        So it is found out by other points, and other devices, whose fault it is.
        """
        if not (suspects := self.queue.suspects):
            return None
        fresh = (point for point in suspects if (worker.device, point.id) not in self.failed_on)
        point = next(fresh, None)
        has_others = any(other.is_up and other.device != worker.device for other in self.workers)
        if point is None and suspects and not has_others and not self.queue.num_points:
            point = suspects[0]
        if point is not None:
            suspects.remove(point)
        return point

    def _send(self, worker: Worker, point: Item) -> None:
        call = self.send(worker.actor, point)
        worker.under_way += 1
        self.under_way += 1
        self.running[call] = (worker, point)

    def revive(self, worker: Worker) -> None:
        """Send a worker nothing until its process has answered: Ray would fail the calls."""
        if worker not in self.workers:  # what it had under way ends after it was given up
            return
        worker.is_up = False
        self.queue.forget(worker)
        if all(waiting is not worker or point for waiting, point in self.running.values()):
            self.running[worker.actor.where.remote()] = (worker, None)

    def answered(self, worker: Worker, device: str | None, node: str | None) -> None:
        """Let a worker begin, unless its device takes no more."""
        worker.is_up, worker.device, worker.node, worker.failed_starts = True, device, node, 0
        self.hungry[worker] = None
        if self.devices.is_broken(device):
            worker.is_up = False
            self.workers.remove(worker)
            self.retired.append(worker.actor)
            self.trouble = f"{device} takes no more work"
            self.grow()

    def lost(self, worker: Worker, error: Exception) -> None:
        """Try again to reach a process that does not start; give the worker up in the end.

        One whose node has left is given up at once: another actor waits for room in its place.
        """
        self.trouble = str(error)
        worker.failed_starts += 1
        has_left = self.deaths.is_gone(worker.node)
        if worker.failed_starts < _STARTS and not has_left:
            self.absent.append((time.monotonic() + _AGAIN_S, worker))
            return
        self.workers.remove(worker)
        ray.kill(worker.actor)  # else it holds what it finds later
        if has_left:
            self.grow()
        else:
            self.given_up += 1

    def judge(self) -> list[tuple[Item, str, Exception]]:
        """Try points again whose process has died; return those that are given up, and why."""
        given_up = []
        for _ in range(len(self.doubts)):
            point, why, error = self.doubts.popleft()
            verdict = self.deaths.verdict(point.id)
            if verdict == "again":
                self.queue.suspects.append(point)
            elif verdict == "wait":
                self.doubts.append((point, why, error))
            elif verdict == "died":
                reason = f"{why} {self.deaths.most} times while measuring it."
                given_up.append((point, reason, error))
            else:
                reason = f"{MOST_LEFT} nodes left the cluster while measuring it."
                given_up.append((point, reason, error))
        if self.queue and not self.workers:
            self.grow()
        return given_up

    def wait(self, *, is_patient: bool) -> list[tuple[Any, Worker, Item | None]]:
        """Return calls that have ended, each with its worker, and its point if it had one.

        None of them if nothing ends for a while, or has ended by now.
        """
        is_idle = is_patient and not self.running
        while self.absent and (self.absent[0][0] < time.monotonic() or is_idle):
            due, worker = self.absent.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            self.revive(worker)
            is_idle = False
        patience = _AGAIN_S if self.absent or self.doubts else _TOLD_EVERY_S
        patience *= is_patient
        if not self.running:  # the last points, of which is not known yet why they ended
            time.sleep(patience)
            return []
        ended, others = ray.wait(list(self.running), num_returns=1, timeout=patience)
        if ended and others:  # all that have, as a look at many calls costs the same for each
            ended += ray.wait(others, num_returns=len(others), timeout=0)[0]
        found = []
        for call in ended:
            worker, point = self.running.pop(call)
            if point is not None:
                worker.under_way -= 1
                self.under_way -= 1
                worker.is_alone = worker.is_alone and worker.under_way > 0
                self.hungry[worker] = None
            found.append((call, worker, point))
        return found

    @property
    def shown(self) -> list[Running]:
        """What is under way, for who watches."""
        if not any(worker.is_up for worker in self.workers):
            return [Running("waiting for a measuring process to start")]
        return [Running(point.label) for _, point in self.running.values() if point]


def drain(
    pool: Pool, run: RunFolder, watch: Watch, goes_on: Callable[[], bool] = lambda: True
) -> None:
    """Keep every actor busy until the queue is empty; record what nobody is there to measure.

    Args:
        pool: Who measures, and what.
        run: Where failures go.
        watch: Told of progress.
        goes_on: Asked before every turn; may add to the queue. What is left then stays there.
    """
    while goes_on():
        if pool.is_done:
            _give_up(pool, run)
            return
        watch([], pool.shown)
        turn(pool, run, watch)


def _give_up(pool: Pool, run: RunFolder) -> None:
    tries = f", in {_STARTS} attempts each" if pool.given_up else ""
    for point in (*pool.queue.suspects, *pool.queue.points):
        reason = f"no measuring process could be started{tries}."
        _record(run, point, "worker_died", reason, pool.trouble)


def turn(pool: Pool, run: RunFolder, watch: Watch, *, is_patient: bool = True) -> None:
    """Hand out points and see to what has ended.

    Args:
        pool: Who measures, and what.
        run: Where failures go.
        watch: Told of points that are through.
        is_patient: Whether to wait till anything ends.
    """
    if pool.queue and time.monotonic() > pool.grows_at:
        pool.grow()
    pool.fill()
    calls = pool.wait(is_patient=is_patient)
    labels = [_end(pool, run, *call) for call in calls]
    ended = [label for label in labels if label is not None]
    for point, reason, error in pool.judge():
        _record(run, point, "worker_died", reason, str(error))
        ended.append(point.label)
    if ended or not is_patient:
        watch(ended, pool.shown if is_patient or pool.under_way else [])


def _end(pool: Pool, run: RunFolder, call: Any, worker: Worker, point: Item | None) -> str | None:
    """Take note of how a call ended; return the label of a point that is through with."""
    try:
        answer = ray.get(call)
    except (RayActorError, RayTaskError) as error:
        if point is None:
            pool.lost(worker, error)
            return None
        if (why := _fate(pool, worker, error)) is None:
            _record_error(run, point, error)
            return point.label
        pool.failed_on.add((worker.device, point.id))
        pool.deaths.add(point.id, worker.node, error)
        pool.doubts.append((point, why, error))
        return None
    if point is None:
        pool.answered(worker, *answer)
        return None
    return point.label


def _fate(pool: Pool, worker: Worker, error: RayActorError | RayTaskError) -> str | None:
    """Say what befell a worker's process, which starts anew; None if only its point failed."""
    if isinstance(error, RayActorError):
        pool.revive(worker)
        return "its process died"
    if isinstance(error.cause, DeviceError):
        if worker in pool.workers:  # else it is retired, and started anew it might leave its device
            ray.kill(worker.actor, no_restart=False)  # which fails everything it is asked for
            pool.revive(worker)
        return "its device failed"
    return None


def _record_error(run: RunFolder, point: Item, error: RayTaskError) -> None:
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


def _record(run: RunFolder, point: Item, reason: str, message: str, trace: str | None) -> None:
    run.record_failure(failure_row(point.id, "measure", point.label, reason, message, trace))
