"""Has the geometry of a study's weights computed by Ray, a layer a task, and once."""

from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from raymcu.errors import StoreError
from raymcu.measurement.driver import Crew
from raymcu.measurement.geometry import Weights, layer_of, measure_layer
from raymcu.models.causal_lm import best_device
from raymcu.planning.geometry import NUM_LAYERS, WHOLE, Directions, directions
from raymcu.planning.ledger import Ledger
from raymcu.progress import Running, Stages
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row

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
    with progress.stage("geometry", len(layers) - len(missing), len(layers)):
        if missing:
            crew.dismiss()  # measuring actors hold the processors
            crew.need([1], progress.say)
            _read(crew, asked, missing, len(layers), progress)


def _read(
    crew: Crew, asked: Directions, missing: Mapping[str, str], num_layers: int, progress: Stages
) -> None:
    """Read layers as tasks of processes of their own; one that fails becomes a row."""
    execution, run = crew.space.execution, crew.run
    task: Any = ray.remote(
        num_cpus=execution.cpus_per_worker,
        num_gpus=crew.cluster.gpus_per_worker(execution),
        max_retries=execution.max_attempts - 1,
    )(_measure_there)
    where = run.url, run.checkpoints.folder.url, execution.cpus_per_worker, num_layers
    running = {task.remote(*where, asked, layer, part): part for part, layer in missing.items()}
    while running:
        shown = [Running(missing[part]) for part in running.values()]
        progress([], shown[: crew.cluster.workers(execution)])
        ended, _ = ray.wait(list(running), num_returns=1, timeout=_TOLD_EVERY_S)
        for call in ended:
            part = running.pop(call)
            try:
                ray.get(call)
            except RayError as error:
                cause = error.cause if isinstance(error, RayTaskError) else error
                if isinstance(cause, StoreError):
                    raise StoreError(str(cause)) from error
                label = f"geometry of {missing[part]}"
                told = f"{type(cause).__name__}: {cause}"
                run.record_failure(failure_row(part, "measure", label, "error", told, str(error)))
            else:
                progress([missing[part]], [])


def _measure_there(  # noqa: PLR0913, PLR0917 - all that a process is told
    url: str,
    store: str,
    threads: int,
    num_layers: int,
    asked: Directions,
    layer: str,
    part: str,
) -> None:
    """Write one part of table ``geometry``; writing it twice changes nothing."""
    torch.set_num_threads(threads)
    run = RunFolder(url, store)
    rows = measure_layer(
        run.checkpoints.local_dir, asked.original, asked.labels, layer, best_device()
    )
    note = {NUM_LAYERS: str(num_layers)}
    run.write_part("geometry", part, rows.replace_schema_metadata({**rows.schema.metadata, **note}))
