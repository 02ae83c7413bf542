"""Trains the recipes of one level under Ray Tune; sharded ones under Ray Train.

A recipe for one device trains inside a Tune trial's own process, which stays warm for the next
trial. Recipes for several workers go through one Train run each gang, one after the other, since
starting a gang costs more than a small training. Our store is asked first: what is done is not
trained again, however a run ended.
"""

import importlib
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ray import train, tune
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from raymcu.errors import StoreError, WorkError
from raymcu.plan import Recipe
from raymcu.search_space import SearchSpace
from raymcu.session import Cluster
from raymcu.store import CheckpointStore, RunFolder, content_id, failure_row
from raymcu.training.sharding import Distributed, shard
from raymcu.training.workshop import Workshop
from raymcu.watch import Running, Watch

_REPORT_EVERY_S = 1.0
_MOST_BENDS = 8
"""Bends that one trial finds, one after the other."""
_workshops: dict[str, Workshop] = {}
"""Of this worker process, by store: kept from trial to trial."""


def train_level(
    recipes: Sequence[Recipe],
    stage: str,
    run: RunFolder,
    space: SearchSpace,
    cluster: Cluster,
    watch: Watch,
) -> None:
    """Train recipes that do not depend on each other; failures become rows of the failures table.

    Args:
        recipes: Those that are missing.
        stage: ``train`` or ``connect``, for the failures table.
        run: Where failures and Tune's own state go.
        space: Execution settings, extensions.
        cluster: What may be used at once.
        watch: Told of progress.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
    """
    sharded = [recipe for recipe in recipes if _workers(recipe) > 1]
    single = [recipe for recipe in recipes if _workers(recipe) == 1]
    common = _common(stage, run, space)
    if single:
        gpus = cluster.gpus_per_worker(space.execution)
        resources: dict[str, float] = {"cpu": space.execution.cpus_per_worker, "gpu": gpus}
        slots = cluster.workers(space.execution)
        jobs = _shared(single, slots) if stage == "connect" else [[recipe] for recipe in single]
        trainable = tune.with_resources(_train_here, resources)
        alone = [[r] for r in _fit(trainable, jobs, common, space, slots, run, watch)]
        if alone:  # one of several died with its process: each tries again by itself
            _fit(trainable, alone, common, space, slots, run, watch)
    for workers in sorted({_workers(recipe) for recipe in sharded}):
        gang = [recipe for recipe in sharded if _workers(recipe) == workers]
        gangs = max(1, cluster.workers(space.execution) // workers)
        jobs = [gang[i::gangs] for i in range(gangs) if gang[i::gangs]]
        more = {**common, **_of_gang(workers, space, cluster)}
        # A trial that only drives a gang must not hold a CPU that the gang waits for.
        trainable = tune.with_resources(_train_in_gang, {"memory": 1})
        _fit(trainable, jobs, more, space, gangs, run, watch)


def train_in_gang(
    recipes: Sequence[Recipe],
    workers: int,
    stage: str,
    run: RunFolder,
    space: SearchSpace,
    cluster: Cluster,
) -> None:
    """Train recipes that do not depend on each other by one gang, which this process drives.

    Failures become rows of the failures table, see `train_level`.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
        WorkError: If its workers die time and again, or find no room.
    """
    encoded = [recipe.model_dump_json() for recipe in recipes]
    config = {**_common(stage, run, space), **_of_gang(workers, space, cluster)}
    _drive_gang({**config, "recipes": encoded})


def _common(stage: str, run: RunFolder, space: SearchSpace) -> dict[str, Any]:
    return {
        "run": run.url,
        "store": run.checkpoints.folder.url,
        "stage": stage,
        "save_every_s": space.execution.save_every_s,
        "extensions": list(space.extensions),
        "threads": space.execution.cpus_per_worker,
    }


def _of_gang(workers: int, space: SearchSpace, cluster: Cluster) -> dict[str, Any]:
    attempts = space.execution.max_attempts
    return {"workers": workers, "uses_gpu": bool(cluster.gpus), "attempts": attempts}


def _shared(bends: Sequence[Recipe], slots: int) -> list[list[Recipe]]:
    """Give each trial several bends, which cost less than starting one; enough to share evenly."""
    size = max(1, min(_MOST_BENDS, len(bends) // (4 * slots)))
    return [list(bends[i : i + size]) for i in range(0, len(bends), size)]


def _workers(recipe: Recipe) -> int:
    return recipe.training.workers if recipe.training else 1


def _fit(  # noqa: PLR0913, PLR0917 - what, where to, with what, who watches
    trainable: Any,
    jobs: Sequence[Sequence[Recipe]],
    common: dict[str, Any],
    space: SearchSpace,
    concurrent: int,
    run: RunFolder,
    watch: Watch,
) -> list[Recipe]:
    """Run one Tune experiment, a trial for each job, and record trials whose process died.

    Returns:
        What a job of several recipes left undone without a word: its process died.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    encoded = [[recipe.model_dump_json() for recipe in job] for job in jobs]
    labels = {recipe.id: recipe.label for job in jobs for recipe in job}
    name = f"{common['stage']}-{content_id(sorted(labels))}-{int(time.time())}"
    results = tune.Tuner(
        trainable,
        param_space={**common, "recipes": tune.grid_search(encoded)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=f"{run.url}/tune",
            verbose=0,
            callbacks=[_Watcher(watch, labels)],
            failure_config=tune.FailureConfig(max_failures=space.execution.max_attempts - 1),
        ),
    ).fit()
    damaged = [e for e in results.errors if isinstance(_root(e), StoreError)]
    if damaged:
        raise StoreError(str(_root(damaged[0])))
    left = [
        (recipe, len(job))
        for job in jobs
        for recipe in job
        if not run.checkpoints.is_done(recipe.id) and not run.has_part("failures", recipe.id)
    ]
    for recipe, size in left:
        if size == 1:
            message = "; ".join(str(_root(e)).strip().split("\n")[-1] for e in results.errors)
            told = f"its process died {space.execution.max_attempts} times. {message}".strip()
            row = failure_row(recipe.id, common["stage"], recipe.label, "worker_died", told)
            run.record_failure(row)
    return [recipe for recipe, size in left if size > 1]


def _root(error: BaseException) -> BaseException:
    """Return what lies under Ray's wrappings."""
    while True:
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _trial_name(trial: Any) -> str:
    """Name a trial, and so its actor in Ray's dashboard, after its recipe."""
    recipes = [Recipe.model_validate_json(text) for text in trial.config["recipes"]]
    more = f" and {len(recipes) - 1} more" if len(recipes) > 1 else ""
    return f"raymcu {recipes[0].label}{more}".replace("/", " ")


class _Watcher(tune.Callback):  # type: ignore[misc] # Ray is untyped
    """Passes on what trials report."""

    def __init__(self, watch: Watch, labels: dict[str, str]) -> None:
        self.watch = watch
        self.labels = labels
        self.running: dict[str, Running] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Stay out of Tune's snapshots: the display holds a terminal, and we never restore one."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Show how far a trial is; count the recipes it has ended."""
        ended = [self.labels[result["ended"]]] if result.get("ended") else []
        if result.get("running"):
            now = Running(result["running"], result["fraction"], result["loss"])
            self.running[trial.trial_id] = now
        else:
            self.running.pop(trial.trial_id, None)
        self.watch(ended, list(self.running.values()))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Drop a trial that died for good."""
        self.running.pop(trial.trial_id, None)
        self.watch([], list(self.running.values()))


def _train_here(config: dict[str, Any]) -> None:
    """Train one recipe in this trial's process."""
    torch.set_num_threads(config["threads"])
    if config["store"] not in _workshops:
        _load_extensions(config["extensions"])
        store = CheckpointStore(config["store"])
        _workshops[config["store"]] = Workshop(store, config["save_every_s"])
    workshop = _workshops[config["store"]]
    for text in config["recipes"]:
        recipe = Recipe.model_validate_json(text)
        _make(workshop, recipe, config, tune.report)


def _train_in_gang(config: dict[str, Any]) -> None:
    """Drive a gang in this trial."""
    _drive_gang(config)
    for text in config["recipes"]:
        ended = Recipe.model_validate_json(text).id
        tune.report({"ended": ended, "running": "", "fraction": 1.0, "loss": None})


def _drive_gang(config: dict[str, Any]) -> None:
    """Do one Train run whose workers train the recipes one after the other.

    Raises:
        StoreError: If a worker met one.
        WorkError: If the gang failed otherwise.
    """
    kind = "gpu" if config["uses_gpu"] else "cpu"
    trainer = TorchTrainer(
        _gang_loop,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if kind == "gpu" else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=config["workers"], use_gpu=config["uses_gpu"]
        ),
        run_config=train.RunConfig(
            name=f"gang-{content_id(config['recipes'])}-{int(time.time())}",
            storage_path=f"{config['run']}/tune",
            # Without a limit a controller that finds no room starts anew for ever.
            failure_config=train.FailureConfig(
                max_failures=config["attempts"] - 1, controller_failure_limit=3
            ),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        causes = [_root(one) for one in getattr(error, "worker_failures", {}).values()]
        for cause in causes:
            if isinstance(cause, StoreError):
                raise StoreError(str(cause)) from None
        told = str(causes[0] if causes else _root(error)).strip().split("\n")[-1]
        raise WorkError("worker_died", told) from None


def _gang_loop(config: dict[str, Any]) -> None:
    """Be one worker of a gang."""
    torch.set_num_threads(config["threads"])
    _load_extensions(config["extensions"])
    store = CheckpointStore(config["store"])
    workshop = Workshop(store, config["save_every_s"], Distributed(), shard)
    for text in config["recipes"]:
        recipe = Recipe.model_validate_json(text)
        if not RunFolder(config["run"]).has_part("failures", recipe.id):
            _make(workshop, recipe, config, lambda _: None)


def _make(
    workshop: Workshop, recipe: Recipe, config: dict[str, Any], send: Callable[[Any], None]
) -> None:
    """Make one checkpoint; a failure becomes a row, a damaged store ends the trial."""
    last = 0.0

    def report(step: int, steps: int, loss: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_EVERY_S:
            last = time.monotonic()
            send({"running": recipe.label, "fraction": step / steps, "loss": loss, "ended": ""})

    try:
        workshop.make(recipe, report)
    except StoreError:
        raise
    except WorkError as error:
        _record(config, recipe, error.reason, str(error), None)
    except Exception as error:  # noqa: BLE001 - the process edge: one recipe, not the sweep
        _record(config, recipe, "error", f"{type(error).__name__}: {error}", traceback.format_exc())
    send({"ended": recipe.id, "running": "", "fraction": 1.0, "loss": None})


def _record(
    config: dict[str, Any], recipe: Recipe, reason: str, message: str, trace: str | None
) -> None:
    row = failure_row(recipe.id, config["stage"], recipe.label, reason, message, trace)
    RunFolder(config["run"]).record_failure(row)


def _load_extensions(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
