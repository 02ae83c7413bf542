"""Has the measuring actors work out the geometry of a study's weights, layer by layer, and once."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from raymcu.cluster.leaving import Deaths
from raymcu.errors import StoreError
from raymcu.measurement.driver import Crew
from raymcu.measurement.geometry import Weights, layer_of
from raymcu.planning.geometry import WHOLE, Directions, directions
from raymcu.planning.ledger import Ledger
from raymcu.progress import Running, Stages
from raymcu.store.ids import content_id
from raymcu.store.run_folder import failure_row

_NO_PART = ""
"""In place of a part where an actor is only asked whether it is there."""
_LOOK_S = 2.0
_TOLD_EVERY_S = 15.0


def measure_geometry(ledger: Ledger, crew: Crew, progress: Stages) -> None:
    """Read the layers of which there is no part of table ``geometry`` yet, if any is asked for.

    A part is of the checkpoints that are in the store. Where there are more of them than before,
    all are read once more.

    Raises:
        StoreError: If a checkpoint is damaged.
    """
    run = ledger.run
    asked = directions(ledger.plan, crew.space, set(run.checkpoints.done()))
    if asked is None:
        return
    names = Weights(run.checkpoints.local_dir(asked.original)).names
    layers = {content_id([*asked.key, layer]): layer for layer in map(layer_of, names)}
    there = set(run.parts("geometry"))
    for stale in there - layers.keys() - {WHOLE}:
        run.remove_part("geometry", stale)
    missing = {part: layer for part, layer in layers.items() if part not in there | ledger.failed()}
    done = len(layers) - len(missing)
    with progress.stage("geometry", done, len(layers)), run.at_work(missing):
        if missing:
            crew.need([1], progress.say)
            _read(crew, asked, missing, len(layers), progress)


@dataclass
class _Reading:
    """Layers that actors read; one that fails becomes a row of table failures."""

    crew: Crew
    missing: Mapping[str, str]
    """Layers by the ids of their parts."""
    progress: Stages
    deaths: Deaths
    todo: deque[str]
    doubts: deque[tuple[str, BaseException]] = field(default_factory=deque)
    free: deque[Any] = field(default_factory=deque)
    running: dict[Any, tuple[Any, str]] = field(default_factory=dict)
    nodes: dict[Any, str | None] = field(default_factory=dict)
    """Where each actor is."""

    @property
    def is_done(self) -> bool:
        return not self.todo and not self.doubts and not any(p for _, p in self.running.values())

    def look(self, actor: Any) -> None:
        """Have an actor say that it is there: Ray's own retries wait for it, and it may move."""
        self.running[actor.where.options(max_task_retries=-1).remote()] = actor, _NO_PART

    def end(self, call: Any) -> None:
        """Take note of how a call ended."""
        actor, part = self.running.pop(call)
        fault = _fault(call)
        if part == _NO_PART and fault is None:
            _, self.nodes[id(actor)] = ray.get(call)
            self.free.append(actor)
        elif part == _NO_PART:
            self.look(actor)
        elif isinstance(fault, RayActorError):
            self.look(actor)
            self.deaths.add(part, self.nodes[id(actor)], fault)
            self.doubts.append((part, fault))
        else:
            self.free.append(actor)
            self.through(part, fault)

    def through(self, part: str, fault: BaseException | None) -> None:
        """Be through with a part, read or not."""
        if fault is not None:
            label, told = f"geometry of {self.missing[part]}", f"{type(fault).__name__}: {fault}"
            self.crew.run.record_failure(failure_row(part, "measure", label, "error", told))
        self.progress([self.missing[part]], [])

    def judge(self) -> None:
        """Try parts again whose process has died, but those for which too many have."""
        for _ in range(len(self.doubts)):
            part, fault = self.doubts.popleft()
            verdict = self.deaths.verdict(part)
            if verdict == "again":
                self.todo.append(part)
            elif verdict == "wait":
                self.doubts.append((part, fault))
            else:
                self.through(part, fault)


def _read(
    crew: Crew, asked: Directions, missing: Mapping[str, str], num_layers: int, progress: Stages
) -> None:
    deaths = Deaths(crew.space.execution.max_attempts)
    reading = _Reading(crew, missing, progress, deaths, deque(missing))
    for actor in crew.actors(len(missing)):
        reading.look(actor)
    while not reading.is_done:
        while reading.free and reading.todo:
            actor, part = reading.free.popleft(), reading.todo.popleft()
            call = actor.read_layer.remote(asked, missing[part], part, num_layers)
            reading.running[call] = actor, part
        progress([], [Running(missing[part]) for _, part in reading.running.values() if part])
        patience = _LOOK_S if reading.doubts else _TOLD_EVERY_S
        ended, _ = ray.wait(list(reading.running), num_returns=1, timeout=patience)
        for call in ended:
            reading.end(call)
        reading.judge()


def _fault(call: Any) -> BaseException | None:
    """Return what went wrong in a call.

    Raises:
        StoreError: If a checkpoint is damaged.
    """
    try:
        ray.get(call)
    except RayError as error:
        cause: BaseException = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, StoreError):
            raise StoreError(str(cause)) from error
        return cause
    return None
