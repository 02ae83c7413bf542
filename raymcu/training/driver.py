"""Trains the recipes of one level under Ray Tune; sharded ones under Ray Train.

A recipe for one device trains inside a Tune trial's own process, which stays warm for the next
trial. Recipes for several workers go through one Train run each gang, one after the other, since
starting a gang costs more than a small training. Our store is asked first: what is done is not
trained again, however a run ended.
"""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from raymcu.cluster.gauges import Exported
from raymcu.cluster.leaving import MOST_LEFT, Deaths
from raymcu.errors import StoreError, WorkError
from raymcu.models.devices import Devices, device_name, is_device_error
from raymcu.planning.recipes import Recipe
from raymcu.progress import Running, Watch
from raymcu.session import Cluster, held
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import SearchSpace
from raymcu.training.gang_driver import (
    common_of,
    drive_gang,
    is_open,
    of_gang,
    record,
    root_of,
)
from raymcu.training.stopping import Interrupt, Stop, StoppedError
from raymcu.training.workshop import Workshop

_REPORT_EVERY_S = 1.0
_AT_REST = {"running": "", "fraction": 1.0, "loss": None, "ended": ""}
"""What a trial reports, when nothing is under way."""
_LOOK_S = 5.0
"""How often it is asked how many trials there may be."""
_MORE_GANGS = 4
"""Into how many times as many parts recipes are dealt out where more gangs may find room."""
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
    watch = Exported(watch, run, space.name, stage, len(recipes))
    common = common_of(stage, run, space)
    common["may_leave"] = cluster.may_grow
    if single := [recipe for recipe in recipes if _workers(recipe) == 1]:
        slots = cluster.workers(space.execution)
        jobs = _shared(single, slots) if stage == "connect" else [[recipe] for recipe in single]
        _train_apart(jobs, common, space, cluster, run, watch)
    sharded = [recipe for recipe in recipes if _workers(recipe) > 1]
    for workers in sorted({_workers(recipe) for recipe in sharded}):
        gang = [recipe for recipe in sharded if _workers(recipe) == workers]
        # Where nodes may come, more gangs than there is room for now share the recipes.
        parts = _gangs(cluster, space, workers) * (_MORE_GANGS if cluster.may_grow else 1)
        jobs = [gang[i::parts] for i in range(parts) if gang[i::parts]]
        more = {**common, **of_gang(workers, space, cluster)}
        # A trial that only drives a gang must not hold a CPU that the gang waits for.
        trainable = tune.with_resources(_train_in_gang, {"memory": 1})
        room = partial(_gangs, cluster, space, workers)
        _fit(trainable, jobs, more, space, room, run, watch)
    with run.at_rest():
        for recipe in recipes:
            if is_open(recipe, run):
                told = "its trial ended without it and without a word. Run the same command again."
                run.record_failure(failure_row(recipe.id, stage, recipe.label, "undone", told))


def _train_apart(
    jobs: list[list[Recipe]],
    common: dict[str, Any],
    space: SearchSpace,
    cluster: Cluster,
    run: RunFolder,
    watch: Watch,
) -> None:
    """Train recipes of one worker each; what a process left undone is tried again by itself.

    A device that takes no more work passes over what it is given, in no time. What that leaves, and
    what failed for its device's sake, is tried elsewhere: devices that have failed are held idle.
    """
    bundle = cluster.bundle(space.execution)
    resources = {"cpu": bundle["CPU"], "gpu": bundle.get("GPU", 0.0)}
    trainable = tune.with_resources(_train_here, resources)
    devices = Devices(run)
    for tries_left in reversed(range(2 + cluster.gpus)):
        is_first = tries_left == 1 + cluster.gpus
        idle = devices.broken() if is_first else devices.suspected()
        idle = idle if len(idle) < cluster.gpus else devices.broken()
        if not jobs or (cluster.gpus and len(idle) >= cluster.gpus):
            break
        with held(idle):

            def slots(idle: int = len(idle)) -> int:
                return max(1, cluster.by_now().wanted(space.execution) - idle)

            left = _fit(trainable, jobs, common, space, slots, run, watch, tries_left)
        jobs = [[recipe] for recipe in left]


def _shared(bends: Sequence[Recipe], slots: int) -> list[list[Recipe]]:
    """Give each trial several bends, which cost less than starting one; enough to share evenly."""
    size = max(1, min(_MOST_BENDS, len(bends) // (4 * slots)))
    return [list(bends[i : i + size]) for i in range(0, len(bends), size)]


def _gangs(cluster: Cluster, space: SearchSpace, workers: int) -> int:
    """Return how many gangs there is room for now; one that waits gives up in the end."""
    return max(1, cluster.by_now().workers(space.execution) // workers)


def _workers(recipe: Recipe) -> int:
    return recipe.training.world if recipe.training else 1


def _fit(  # noqa: PLR0913, PLR0917 - what, where to, with what, who watches
    trainable: Any,
    jobs: Sequence[Sequence[Recipe]],
    common: dict[str, Any],
    space: SearchSpace,
    slots: Callable[[], int],
    run: RunFolder,
    watch: Watch,
    tries_left: int = 0,
    deaths: Deaths | None = None,
) -> list[Recipe]:
    """Run a Tune experiment, a trial for each job, and record what made its process die.

    What only the leaving of nodes has ended is tried in another one.

    Returns:
        What is to be tried again by itself, if there are tries left: recipes of a job of several
        whose process died, and those that came to a device which failed.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    labels = {recipe.id: recipe.label for job in jobs for recipe in job}
    name = f"{common['stage']}-{content_id(sorted(labels))}-{time.time_ns()}"
    interrupt = Interrupt(run)
    deaths = deaths or Deaths(space.execution.max_attempts)
    watcher = _Watcher(watch, labels, interrupt, deaths)
    results = interrupt.fit(
        tune.Tuner(
            trainable,
            param_space=common,
            tune_config=tune.TuneConfig(
                search_alg=_InTurn(jobs, slots),
                num_samples=len(jobs),
                reuse_actors=True,
                max_concurrent_trials=len(jobs),  # at once: as _InTurn says
                trial_name_creator=_trial_name,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=run.tune_path,
                verbose=0,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=space.execution.max_attempts - 1),
            ),
        )
    )
    damaged = [e for e in results.errors if isinstance(root_of(e), StoreError)]
    if damaged:
        raise StoreError(str(root_of(damaged[0])))
    again, left = [], []
    with run.at_rest():
        still_open = [(job, recipe) for job in jobs for recipe in job if is_open(recipe, run)]
    for job, recipe in still_open:
        if job[0].id in watcher.given_up and deaths.settled(job[0].id) == "again":
            left.append([recipe])
            continue
        if tries_left and (len(job) > 1 or recipe.id in watcher.passed_over):
            again.append(recipe)
            continue
        message = "; ".join(str(root_of(e)).strip().split("\n")[-1] for e in results.errors)
        told = f"its process died {space.execution.max_attempts} times. {message}".strip()
        if deaths.settled(job[0].id) == "left":
            told = f"{MOST_LEFT} nodes left the cluster while training it."
        row = failure_row(recipe.id, common["stage"], recipe.label, "worker_died", told)
        run.record_failure(row)
    if left:
        again += _fit(trainable, left, common, space, slots, run, watch, tries_left, deaths)
    return again


def _trial_name(trial: Any) -> str:
    """Name a trial, and so its actor in Ray's dashboard, after its recipe."""
    recipes = [Recipe.model_validate_json(text) for text in trial.config["recipes"]]
    more = f" and {len(recipes) - 1} more" if len(recipes) > 1 else ""
    return f"raymcu {recipes[0].label}{more}".replace("/", " ")


class _InTurn(Searcher):  # type: ignore[misc] # Ray is untyped
    """Gives each trial its job. Of a grid, Tune copies the whole for every trial.

    Args:
        jobs: One for each trial.
        slots: Returns how many trials may be there at once; asked now and then, as it may change.
    """

    def __init__(self, jobs: Sequence[Sequence[Recipe]], slots: Callable[[], int]) -> None:
        super().__init__()
        self.jobs = iter(jobs)
        self.slots = slots
        self.live: set[str] = set()
        self.most, self.looks_at = 0, 0.0

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tell Tune that it is minded here how many there are at once."""
        return True

    def suggest(self, trial_id: str) -> dict[str, list[str]] | str | None:
        """Return the next job; None: not now; FINISHED: there is none."""
        if time.monotonic() >= self.looks_at:
            self.most, self.looks_at = self.slots(), time.monotonic() + _LOOK_S
        if len(self.live) >= self.most:
            return None
        job = next(self.jobs, None)
        if job is None:
            return str(Searcher.FINISHED)
        self.live.add(trial_id)
        return {"recipes": [recipe.model_dump_json() for recipe in job]}

    def on_trial_complete(self, trial_id: str, **_: Any) -> None:
        """Make room for another one."""
        self.live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is to be kept: the store says what is done."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""


class _Watcher(tune.Callback):  # type: ignore[misc] # Ray is untyped
    """Passes on what trials report."""

    def __init__(
        self, watch: Watch, labels: dict[str, str], interrupt: Interrupt, deaths: Deaths
    ) -> None:
        self.watch = watch
        self.deaths = deaths
        self.nodes: dict[str, str] = {}
        """Where each trial was begun last."""
        self.died: dict[str, Any] = {}
        """Trials whose process has died, by their first recipe."""
        self.given_up: set[str] = set()
        """First recipes of trials that died for good."""
        self.interrupt = interrupt
        self.labels = labels
        self.running: dict[str, Running] = {}
        self.passed_over: set[str] = set()
        """Recipes that came to a device which failed."""

    def __getstate__(self) -> dict[str, Any]:
        """Stay out of Tune's snapshots: the display holds a terminal, and we never restore one."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Show how far a trial is; count the recipes it has ended."""
        self.passed_over.update(result.get("passed_over", ()))
        if result.get("node"):
            self.nodes[trial.trial_id] = result["node"]
        ended = [self.labels[result["ended"]]] if result.get("ended") else []
        if result.get("running"):
            now = Running(result["running"], result["fraction"], result["loss"])
            self.running[trial.trial_id] = now
        else:
            self.running.pop(trial.trial_id, None)
        self.watch(ended, list(self.running.values()))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """End the experiment once trainings have saved for the sake of an interrupt.

        Of deaths Tune is told again and again how many count, as nodes are known to be gone late.
        """
        for key, trial in self.died.items():
            trial.run_metadata.num_failures = self.deaths.counted(key)
        if self.interrupt.is_over(len(self.running)):
            raise KeyboardInterrupt

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note where a trial died that is tried again."""
        key = self._key(trial)
        self.died[key] = trial
        self.deaths.add(key, self.nodes.get(trial.trial_id))
        self.running.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Drop a trial that died for good."""
        self.on_trial_recover(iteration, trials, trial)
        self.given_up.add(self._key(trial))
        self.watch([], list(self.running.values()))

    @staticmethod
    def _key(trial: Any) -> str:
        return Recipe.model_validate_json(trial.config["recipes"][0]).id


def _train_here(config: dict[str, Any]) -> None:
    """Train recipes in this trial's process."""
    torch.set_num_threads(config["threads"])
    recipes = [Recipe.model_validate_json(text) for text in config["recipes"]]
    run = RunFolder(config["run"])
    devices, stop = Devices(run), Stop(run)
    if stop.is_asked():
        tune.report(_AT_REST)  # Tune prints a line of its own for a trial that told nothing
        return
    if devices.is_broken(device_name()):
        tune.report({**_AT_REST, "passed_over": [recipe.id for recipe in recipes]})
        return
    if config["may_leave"]:
        tune.report({**_AT_REST, "node": ray.get_runtime_context().get_node_id()})
    if config["store"] not in _workshops:
        load_extensions(config)
        store = CheckpointStore(config["store"])
        _workshops[config["store"]] = Workshop(
            store, config["save_every_s"], stop=stop, deterministic=config["deterministic"]
        )
    for recipe in recipes:
        try:
            _make(_workshops[config["store"]], recipe, config, devices)
        except StoppedError:
            return
        tune.report({**_AT_REST, "ended": recipe.id})


def _make(workshop: Workshop, recipe: Recipe, config: dict[str, Any], devices: Devices) -> None:
    """Make one checkpoint; a failure becomes a row, a damaged store or device ends the process."""
    last = 0.0

    def report(step: int, steps: int, loss: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_EVERY_S:
            last = time.monotonic()
            now = {"running": recipe.label, "fraction": step / steps, "loss": loss}
            tune.report({**_AT_REST, **now})

    try:
        workshop.make(recipe, report)
    except (StoreError, StoppedError):
        raise
    except WorkError as error:
        record(config, recipe, error.reason, str(error), None)
    except Exception as error:
        if is_device_error(error):
            tune.report({**_AT_REST, "passed_over": [recipe.id]})
            raise devices.failed(recipe.id, error) from error
        record(config, recipe, "error", f"{type(error).__name__}: {error}", traceback.format_exc())
    else:
        devices.worked()


def _train_in_gang(config: dict[str, Any]) -> None:
    """Drive a gang in this trial."""
    recipes = [Recipe.model_validate_json(text) for text in config["recipes"]]
    if config["may_leave"]:
        tune.report({**_AT_REST, "node": ray.get_runtime_context().get_node_id()})
    drive_gang(recipes, config)
    run = RunFolder(config["run"])
    for recipe in recipes:
        if not is_open(recipe, run):
            tune.report({**_AT_REST, "ended": recipe.id})
