"""Drives gangs: workers that share each training, under Ray Train, in the process that asks.

A gang trains one recipe after the other, since starting one costs more than a small training. Where
it dies, what was under way is tried again by a new one, and the rest goes on after it.
"""

import os
import time
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from ray import train
from ray.exceptions import RayActorError
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from raymcu.cluster.leaving import MOST_LEFT, Deaths
from raymcu.errors import StoreError, WorkError
from raymcu.models.devices import Devices, is_device_error
from raymcu.planning.recipes import Recipe
from raymcu.session import Cluster, held
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import Execution, SearchSpace
from raymcu.training.group import decides
from raymcu.training.sharding import Distributed, is_of_peer, shard
from raymcu.training.stopping import Stop, StoppedError
from raymcu.training.workshop import Workshop

# Ray Train's own minute is too short for the nodes of a cloud, and for a machine that is busy. Set
# in the environment, another time holds.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")

_UNDER_WAY = "under_way"
"""File that says which recipe a gang has begun last."""


def train_in_gang(
    recipes: Sequence[Recipe],
    workers: int,
    stage: str,
    run: RunFolder,
    space: SearchSpace,
    cluster: Cluster,
) -> None:
    """Train recipes that do not depend on each other by one gang, which this process drives.

    Failures become rows of the failures table, see `raymcu.training.driver.train_ready`.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
    """
    told = {"stage": stage, **common_of(run, space), **of_gang(workers, space.execution, cluster)}
    drive_gang(recipes, told)


def common_of(run: RunFolder, space: SearchSpace) -> dict[str, Any]:
    """Return what every process that trains is told, as JSON values."""
    return {
        "run": run.url,
        "store": run.checkpoints.folder.url,
        "save_every_s": space.execution.save_every_s,
        "deterministic": space.execution.deterministic,
        "extensions": list(space.extensions),
        "extensions_folder": space.extensions_folder,
        "threads": space.execution.cpus_per_worker,
    }


def of_gang(workers: int, execution: Execution, cluster: Cluster) -> dict[str, Any]:
    """Return what is told besides of a gang, which may be of one worker."""
    bundle = cluster.bundle(execution, workers)
    return {"workers": workers, "bundle": bundle, "attempts": execution.max_attempts}


def is_open(recipe: Recipe, run: RunFolder) -> bool:
    """Say whether a recipe is neither done nor known to have failed."""
    return not run.checkpoints.is_done(recipe.id) and not run.has_part("failures", recipe.id)


def drive_gang(recipes: Sequence[Recipe], config: dict[str, Any]) -> None:
    """Have gangs train recipes one after the other, a new one wherever one has died.

    The recipe that was under way when gangs died, time and again, gets a row; so do all that are
    left when gangs die before any was.

    Raises:
        StoreError: If a worker met one.
    """
    run = RunFolder(config["run"])
    devices = Devices(run)
    deaths = Deaths(config["attempts"])
    while left := {recipe.id: recipe for recipe in recipes if is_open(recipe, run)}:
        there = set(deaths.alive())
        with held(devices.broken()):
            name = f"gang-{content_id(sorted(left))}-{time.time_ns()}"
            trouble = _run_gang(list(left.values()), name, config)
        if trouble is None or Stop(run).is_asked():
            return
        mark = f"tune/{name}/{_UNDER_WAY}"
        guilty = run.read_bytes(mark).decode() if run.exists(mark) else ""
        if guilty in left and not is_open(left[guilty], run):
            continue  # it has a row, or was just done
        gone = deaths.await_leaving(there)
        deaths.add(guilty, gone)
        verdict = deaths.settled(guilty)
        if verdict == "again":
            continue
        times = f"its gang of {config['workers']} workers died {config['attempts']} times"
        if verdict == "left":
            times = f"{MOST_LEFT} nodes left the cluster under its gang"
        when = "" if guilty in left else ", before any training began"
        for recipe in [left[guilty]] if guilty in left else left.values():
            record(config, recipe, "worker_died", f"{times}{when}. {trouble}", None)


def _run_gang(recipes: Sequence[Recipe], name: str, config: dict[str, Any]) -> str | None:
    """Do one Train run whose workers train recipes; return what ended it before its time."""
    uses_gpu = "GPU" in config["bundle"]
    encoded = [recipe.model_dump_json() for recipe in recipes]
    trainer = TorchTrainer(
        _gang_loop,
        train_loop_config={**config, "recipes": encoded, "mark": f"tune/{name}/{_UNDER_WAY}"},
        torch_config=TorchConfig(backend="nccl" if uses_gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=config["workers"],
            use_gpu=uses_gpu,
            resources_per_worker=config["bundle"],
            # On as few nodes as there is room for; neighbours in rank are of one node.
            placement_strategy="PACK",
        ),
        run_config=train.RunConfig(
            name=name,
            storage_path=RunFolder(config["run"]).tune_path,
            # Attempts are counted here. Without a limit a controller that finds no room starts
            # anew for ever.
            failure_config=train.FailureConfig(max_failures=0, controller_failure_limit=3),
        ),
    )
    try:
        trainer.fit()
    except (TrainingFailedError, RayActorError) as error:
        causes = [root_of(one) for one in getattr(error, "worker_failures", {}).values()]
        for cause in causes:
            if isinstance(cause, StoreError):
                raise StoreError(str(cause)) from None
        # Workers that only lost one of theirs say nothing of why.
        own = [cause for cause in causes if not is_of_peer(cause)] or causes
        return str(own[0] if own else root_of(error)).strip().split("\n")[-1]
    return None


def _gang_loop(config: dict[str, Any]) -> None:
    """Be one worker of a gang."""
    torch.set_num_threads(config["threads"])
    load_extensions(config)
    store, run, group = CheckpointStore(config["store"]), RunFolder(config["run"]), Distributed()
    every_s, deterministic = config["save_every_s"], config["deterministic"]
    workshop = Workshop(store, every_s, group, shard, Stop(run), deterministic=deterministic)
    for text in config["recipes"]:
        recipe = Recipe.model_validate_json(text)
        if decides(group, lambda key=recipe.id: run.has_part("failures", key)):  # type: ignore[misc]
            continue
        if group.rank == 0:
            run.write_bytes(config["mark"], recipe.id.encode())
        _make_together(workshop, recipe, config, group)


def _make_together(
    workshop: Workshop, recipe: Recipe, config: dict[str, Any], group: Distributed
) -> None:
    """Make one checkpoint as one of several workers; one's own error ends it for all at once.

    An error that all came to is a row, and they go on together. One that the others know nothing
    of, who wait in the middle of a pass, is a row and ends this process, and so the gang.
    """
    devices = Devices(RunFolder(config["run"]))
    try:
        workshop.make(recipe, lambda step, steps, loss: None)
    except (StoreError, StoppedError):
        raise
    except WorkError as error:
        record(config, recipe, error.reason, str(error), None)
        if not group.all_failed():
            raise
    except Exception as error:
        if is_device_error(error):
            raise devices.failed(recipe.id, error) from error
        if not is_of_peer(error):  # which has told its own
            told = f"worker {group.rank} of {group.size}: {type(error).__name__}: {error}"
            record(config, recipe, "error", told, traceback.format_exc())
        raise
    else:
        devices.worked()


def root_of(error: BaseException) -> BaseException:
    """Return what lies under Ray's wrappings."""
    while True:
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def record(
    config: dict[str, Any], recipe: Recipe, reason: str, message: str, trace: str | None
) -> None:
    """Write a recipe's row of the failures table."""
    row = failure_row(recipe.id, config["stage"], recipe.label, reason, message, trace)
    RunFolder(config["run"]).record_failure(row)
