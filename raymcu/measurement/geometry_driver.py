"""Has the measuring actors work out the geometry of a study's weights, layer by layer, and once."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raymcu.errors import StoreError
from raymcu.measurement.driver import Crew
from raymcu.measurement.geometry import Weights, layer_of
from raymcu.planning.geometry import WHOLE, Directions, directions
from raymcu.planning.ledger import Ledger
from raymcu.progress import Running, Stages
from raymcu.store.ids import content_id
from raymcu.store.run_folder import failure_row

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


def _read(
    crew: Crew, asked: Directions, missing: Mapping[str, str], num_layers: int, progress: Stages
) -> None:
    """Have the measuring actors read layers; one that fails becomes a row of table failures."""
    attempts = crew.space.execution.max_attempts
    free, todo = deque(crew.actors(len(missing))), deque(missing)
    running: dict[Any, tuple[Any, str]] = {}
    while todo or running:
        while free and todo:
            actor, part = free.popleft(), todo.popleft()
            # Ray's own retries wait for a process that starts anew.
            method = actor.read_layer.options(max_task_retries=attempts - 1)
            call = method.remote(asked, missing[part], part, num_layers)
            running[call] = actor, part
        progress([], [Running(missing[part]) for _, part in running.values()])
        ended, _ = ray.wait(list(running), num_returns=1, timeout=_TOLD_EVERY_S)
        for call in ended:
            actor, part = running.pop(call)
            free.append(actor)
            if (fault := _fault(call)) is not None:
                label, told = f"geometry of {missing[part]}", f"{type(fault).__name__}: {fault}"
                crew.run.record_failure(failure_row(part, "measure", label, "error", told))
            progress([missing[part]], [])


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
