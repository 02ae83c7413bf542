"""Trains what of a graph of work is ready under Ray Tune; sharded recipes under Ray Train.

One experiment has a trial for each job. A recipe for one device trains inside the trial's own
process, which stays warm for the next trial. Recipes for several workers go through a Train run
that their trial drives, one after the other, since starting a gang costs more than a small
training. Our store is asked first: what is done is not trained again, however a run ended.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from raymcu.cluster.gauges import Exported
from raymcu.cluster.leaving import MOST_LEFT, Deaths
from raymcu.cluster.room import Room
from raymcu.cluster.trials import InTurn
from raymcu.errors import StoreError
from raymcu.models.devices import Devices
from raymcu.planning.graph import Graph, Kind, stage_of
from raymcu.planning.recipes import Recipe
from raymcu.progress import Running, Watch
from raymcu.session import Cluster, held
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.search_space import SearchSpace
from raymcu.training.gang_driver import common_of, is_open, of_gang, root_of
from raymcu.training.stopping import Interrupt
from raymcu.training.trial import train_job

_REPORTS_PER_S = 100
"""What all trials together may tell of how far they are."""
_BESIDE_S = 0.1
"""How often the work beside is looked after; Tune takes a step for each report."""
_MORE_GANGS = 4
"""Into how many times as many parts recipes are dealt out where more gangs may find room."""
_MOST_BENDS = 8
"""Bends that one trial finds, one after the other."""


def train_ready(
    graph: Graph,
    run: RunFolder,
    space: SearchSpace,
    cluster: Cluster,
    watches: Mapping[str, Watch],
    beside: Callable[[int], bool] = lambda room: False,
) -> None:
    """Train every recipe of a graph whose parents come to be; failures become rows.

    What a process left undone is tried again by itself. A device that takes no more work passes
    over what it is given, in no time; what that leaves, and what failed for its device's sake, is
    tried elsewhere: devices that have failed are held idle.

    Args:
        graph: What is to be trained; it is told how each recipe ended.
        run: Where failures and Tune's own state go.
        space: Execution settings, extensions.
        cluster: What may be used at once.
        watches: Told of progress, by stage.
        beside: Called ten times a second with the number of workers that no training needs, and
            does not wait; says whether it waits for one of them.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
    """
    watches = {
        name: Exported(watch, run, space.name, name, graph.size[name])
        for name, watch in watches.items()
        if name != "measure"
    }
    devices, deaths = Devices(run), Deaths(space.execution.max_attempts)
    tries_left = 1 + cluster.gpus
    while graph.has_ready:
        is_first = tries_left == 1 + cluster.gpus
        idle = devices.broken() if is_first else devices.suspected()
        idle = idle if len(idle) < cluster.gpus else devices.broken()
        if cluster.gpus and len(idle) >= cluster.gpus:
            break
        with held(idle):
            jobs = _Jobs(graph, Room(cluster, space.execution, len(idle)))
            watcher = _Watcher(jobs, watches, Interrupt(run), deaths, beside)
            told = _fit(watcher, run, space)
            again, left = _settle(watcher, run, told, can_try_again=tries_left > 0)
        graph.put_back(again + left)
        tries_left -= bool(again)
        for recipe in again:
            deaths.forget(recipe.id)
    with run.at_rest():
        for recipe in graph.unended:
            if is_open(recipe, run):
                told = "its trial ended without it and without a word. Run the same command again."
                row = failure_row(recipe.id, stage_of(recipe), recipe.label, "undone", told)
                run.record_failure(row)
            graph.ended(recipe.id, is_made=run.checkpoints.is_done(recipe.id))
    graph.drop_ready()


class _Jobs(Searcher):  # type: ignore[misc] # Ray is untyped
    """Gives each trial its job, once its recipes are ready and there is room.

    Args:
        graph: What is to be trained.
        room: How much there is.
    """

    def __init__(self, graph: Graph, room: Room) -> None:
        super().__init__()
        self.graph, self.room = graph, room
        self.cluster, self.execution = room.cluster, room.execution
        self.of: dict[str, list[Recipe]] = {}
        """The job of each trial that was given one."""
        self.live: dict[str, int] = {}
        """Workers of each trial that has not ended."""
        self.is_waited_for = False
        """Whether somebody waits for a worker that no training needs."""

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tell Tune that it is minded here how many there are at once."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job; None: not now; FINISHED: there is none and will be none."""
        job = self.graph.take(self._size)
        if not job:
            is_over = not self.live and not self.graph.has_ready
            return str(Searcher.FINISHED) if is_over else None
        self.of[trial_id] = job
        self.live[trial_id] = self._slots(job[0].workers)
        told = {"recipes": [recipe.model_dump_json() for recipe in job], "stage": stage_of(job[0])}
        return {**told, **of_gang(job[0].workers, self.execution, self.cluster)}

    def on_trial_complete(self, trial_id: str, **_: Any) -> None:
        """Make room for another one."""
        self.live.pop(trial_id, None)

    def spare(self) -> int:
        """Return how many workers are neither at work nor waited for by what is ready."""
        ready = self.graph.ready().items()
        wanted = sum(count * self._slots(kind.workers) for kind, count in ready)
        return max(0, self.room.workers - sum(self.live.values()) - wanted)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is to be kept: the store says what is done."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""

    def _slots(self, workers: int) -> int:
        """Return how many single workers could be where so many of a gang are."""
        share = self.cluster.gpus_per_worker(self.execution)
        return workers * max(1, int(1 / share)) if workers > 1 and share else workers

    def _size(self, kind: Kind, ready: int) -> int:
        """Say how many of so many ready recipes make a job; 0: there is no room for one.

        A gang is given a job when there is room for it, or nothing else is at work: one that waits
        gives up in the end. Where nodes may come, more gangs than there is room for now share the
        recipes, and more single ones than there is room for wait, which an autoscaler sees.
        """
        live, slots = sum(self.live.values()), self._slots(kind.workers)
        if kind.workers > 1:
            gangs = max(1, self.room.workers // slots)
            if self.live and live + slots > self.room.workers:
                return 0
            parts = gangs * (_MORE_GANGS if self.cluster.may_grow else 1)
            return 1 if kind.is_again else -(-ready // parts)
        if live >= self.room.wanted:
            return 0
        if kind.stage == "connect" and not kind.is_again:
            return max(1, min(_MOST_BENDS, ready // (4 * self.room.wanted)))
        return 1


def _fit(watcher: "_Watcher", run: RunFolder, space: SearchSpace) -> str:
    """Run a Tune experiment that has a trial for each job; return what processes died of.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    jobs, recipes = watcher.jobs, watcher.jobs.graph.recipes
    every_s = max(1.0, jobs.cluster.workers(space.execution) / _REPORTS_PER_S)
    told = {"may_leave": jobs.cluster.may_grow, "report_every_s": every_s}
    try:
        results = watcher.interrupt.fit(
            tune.Tuner(
                tune.with_resources(train_job, _resources),
                param_space={**told, **common_of(run, space)},
                tune_config=tune.TuneConfig(
                    search_alg=jobs,
                    scheduler=_LettingGo(jobs),
                    num_samples=-1,
                    reuse_actors=True,
                    max_concurrent_trials=len(recipes),  # _Jobs minds it
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name=f"train-{content_id(sorted(recipes))}-{time.time_ns()}",
                    storage_path=run.tune_path,
                    verbose=0,
                    callbacks=[watcher],
                    failure_config=tune.FailureConfig(
                        max_failures=space.execution.max_attempts - 1
                    ),
                ),
            )
        )
    except KeyboardInterrupt:
        if watcher.trouble is not None:
            raise watcher.trouble from None
        raise
    damaged = [e for e in results.errors if isinstance(root_of(e), StoreError)]
    if damaged:
        raise StoreError(str(root_of(damaged[0])))
    return "; ".join(str(root_of(e)).strip().split("\n")[-1] for e in results.errors)


def _settle(
    watcher: "_Watcher", run: RunFolder, died_of: str, *, can_try_again: bool
) -> tuple[list[Recipe], list[Recipe]]:
    """Tell the graph of what no trial has told, and record what made its process die.

    Args:
        watcher: What trials have told.
        run: Where failures go.
        died_of: What is told of processes that died.
        can_try_again: Whether there are tries left.

    Returns:
        What is to be tried again by itself: recipes of a job of several whose process died, and
        those that came to a device which failed; and those of jobs that only the leaving of nodes
        has ended.
    """
    again, left, still_open = [], [], []
    graph, deaths = watcher.jobs.graph, watcher.deaths
    given = ((job, recipe) for job in watcher.jobs.of.values() for recipe in job)
    with run.at_rest():
        for job, recipe in given:
            if recipe.id in watcher.ended:
                continue
            if is_open(recipe, run):
                still_open.append((job, recipe))
            else:
                graph.ended(recipe.id, is_made=run.checkpoints.is_done(recipe.id))
    for job, recipe in still_open:
        if job[0].id in watcher.given_up and deaths.settled(job[0].id) == "again":
            left.append(recipe)
        elif can_try_again and (len(job) > 1 or recipe.id in watcher.passed_over):
            again.append(recipe)
        else:
            told = f"its process died {deaths.most} times. {died_of}".strip()
            if deaths.settled(job[0].id) == "left":
                told = f"{MOST_LEFT} nodes left the cluster while training it."
            row = failure_row(recipe.id, stage_of(recipe), recipe.label, "worker_died", told)
            run.record_failure(row)
            graph.ended(recipe.id, is_made=False)
    return again, left


def _resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Return what a trial holds; one that only drives a gang no CPU, which the gang waits for."""
    bundle = {"memory": 1} if config["workers"] > 1 else config["bundle"]
    return tune.PlacementGroupFactory([bundle])


def _trial_name(trial: Any) -> str:
    """Name a trial, and so its actor in Ray's dashboard, after its recipe."""
    recipes = [Recipe.model_validate_json(text) for text in trial.config["recipes"]]
    more = f" and {len(recipes) - 1} more" if len(recipes) > 1 else ""
    return f"raymcu {recipes[0].label}{more}".replace("/", " ")


class _LettingGo(InTurn):
    """Ends processes that no training needs now once somebody waits for their room.

    Tune keeps one for each trial that is at work, in case there is more to do.
    """

    def __init__(self, jobs: _Jobs) -> None:
        super().__init__()
        self.jobs = jobs

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none."""
        if self.jobs.is_waited_for and not self.jobs.graph.has_ready:
            let_go = getattr(tune_controller, "_cleanup_cached_actors", None)  # not of Tune's API
            if let_go is not None:
                let_go(force_all=True)


class _Watcher(tune.Callback):  # type: ignore[misc] # Ray is untyped
    """Passes on what trials report."""

    def __init__(
        self,
        jobs: _Jobs,
        watches: Mapping[str, Watch],
        interrupt: Interrupt,
        deaths: Deaths,
        beside: Callable[[int], bool],
    ) -> None:
        self.jobs, self.watches, self.interrupt = jobs, watches, interrupt
        self.deaths, self.beside, self._looks_at = deaths, beside, 0.0
        self.nodes: dict[str, str] = {}
        """Where each trial was begun last."""
        self.died: dict[str, Any] = {}
        """Trials whose process has died, by their first recipe."""
        self.given_up: set[str] = set()
        """First recipes of trials that died for good."""
        self.running: dict[str, dict[str, Running]] = {"train": {}, "connect": {}}
        """What runs, by stage and trial."""
        self.ended: set[str] = set()
        self.passed_over: set[str] = set()
        """Recipes that came to a device which failed."""
        self.trouble: Exception | None = None
        """What ended the work beside."""

    def __getstate__(self) -> dict[str, Any]:
        """Stay out of Tune's snapshots: the display holds a terminal, and we never restore one."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Show how far a trial is; tell the graph of the recipes it has ended."""
        self.passed_over.update(result.get("passed_over", ()))
        if result.get("node"):
            self.nodes[trial.trial_id] = result["node"]
        ended, stage = [], trial.config["stage"]
        if (key := result.get("ended")) and key not in self.ended:  # Tune tells the last one twice
            self.ended.add(key)
            self.jobs.graph.ended(key, is_made=result["is_made"])
            ended = [self.jobs.graph.recipes[key].label]
        if result.get("running"):
            now = Running(result["running"], result["fraction"], result["loss"])
            self.running[stage][trial.trial_id] = now
        else:
            self.running[stage].pop(trial.trial_id, None)
        self._show(stage, ended)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Have a look at the work beside; end all once trainings have saved for an interrupt.

        Of deaths Tune is told again and again how many count, as nodes are known to be gone late.
        """
        for key, trial in self.died.items():
            trial.run_metadata.num_failures = self.deaths.counted(key)
        if self.interrupt.is_over(sum(map(len, self.running.values()))):
            raise KeyboardInterrupt
        if self.interrupt.came is None and time.monotonic() >= self._looks_at:
            self._looks_at = time.monotonic() + _BESIDE_S
            try:
                self.jobs.is_waited_for = self.beside(self.jobs.spare())
            except Exception as error:  # Tune would tell of it in words of its own
                self.trouble = error
                raise KeyboardInterrupt from error

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note where a trial died that is tried again."""
        key = self.jobs.of[trial.trial_id][0].id
        self.died[key] = trial
        self.deaths.add(key, self.nodes.get(trial.trial_id))
        self.running[trial.config["stage"]].pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Drop a trial that died for good."""
        self.on_trial_recover(iteration, trials, trial)
        self.given_up.add(self.jobs.of[trial.trial_id][0].id)
        self._show(trial.config["stage"])

    def _show(self, stage: str, ended: Sequence[str] = ()) -> None:
        self.watches[stage](ended, list(self.running[stage].values()))
