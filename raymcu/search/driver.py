"""Runs a search as one Ray Tune experiment: warm worker processes, rows as trials end, resume.

All that a search knows is in Optuna's database in the run folder, so Tune's own restore is not
used: the same command goes on where the last one was.
"""

import math
import re
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import TrialScheduler

from raymcu.cluster.leaving import Deaths
from raymcu.cluster.room import Room
from raymcu.cluster.trials import InTurn
from raymcu.errors import StoreError, WorkError
from raymcu.models.devices import DeviceError, Devices, device_name, is_device_error
from raymcu.planning.trials import search_of
from raymcu.progress import Running, Watch
from raymcu.search.database import database, open_studies
from raymcu.search.searcher import BROKEN, DAMAGED, CellSearcher, Failure, Proposal, Told
from raymcu.search.spec import Bench, TrialSpec, Work
from raymcu.search.study import StudySearch
from raymcu.session import Cluster, held
from raymcu.store import tables
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import SearchSpace
from raymcu.training.stopping import Interrupt, StoppedError

_REPORT_EVERY_S = 1.0
_MOST = 10_000
"""Trials at once, as Tune has it; how many there are the searcher says."""
_benches: dict[str, Bench] = {}
"""Of this worker process, by what they are set up with: kept from trial to trial."""


def run_search(
    space: SearchSpace,
    run: RunFolder,
    cluster_of: Callable[[], Cluster],
    work: Work,
    watch: Watch,
) -> None:
    """Run the trials of a search that are left, until its budgets are spent.

    Args:
        space: With a ``search``, checked by `raymcu.planning.search_checks.search_faults`.
        run: Where database, tables and files for TensorBoard go.
        cluster_of: Connects to what may be used at once; called if there is a trial left.
        work: How values become trials, and who runs them.
        watch: Told of progress.

    Raises:
        ConfigError: If the folder's database is of another search.
        StoreError: If a file is damaged.
        DeviceError: If no device is left that works.
    """
    with database(run) as (storage, keep):
        studies = open_studies(space, storage)
        record_missing(run, studies)
        devices, book = Devices(run), _Book(run, keep)
        while any(study.has_more() for study in studies):
            cluster = cluster_of()
            room = Room(cluster, space.execution)
            for study in studies:
                study.is_alone = _concurrent(space, room, work.workers) == 1
            searcher = CellSearcher(studies, work, Told(book.begun, book.ended, book.failure))
            searcher.room = partial(_concurrent, space, room, work.workers)
            broken = devices.broken()
            with held(broken):
                _fit(space, run, cluster, searcher, watch)
            if isinstance(searcher.broken, DeviceError) and len(devices.broken()) < cluster.gpus:
                studies = open_studies(space, storage)  # with the trials that it left open
                continue
            if searcher.broken is not None:
                raise searcher.broken
            if searcher.running:  # Tune's own handler, where it is on, swallows the first Ctrl-C
                raise KeyboardInterrupt
            return


def _concurrent(space: SearchSpace, room: Room, workers: int) -> int:
    """Return how many trials run at once; those that gangs train, no more than there is room for.

    A gang that waits for another one gives up in the end.
    """
    asked = search_of(space).concurrent
    there = room.workers
    return asked or there if workers == 1 else max(1, min(there // workers, asked or there))


def record_missing(run: RunFolder, studies: list[StudySearch]) -> None:
    """Write the rows of trials that ended just when a driver was killed."""
    known = {row["trial_id"]: row["state"] for row in run.read_table("trials").to_pylist()}
    for study in studies:
        for trial in study.trials():
            head, _ = study.rows(trial)
            if trial.state.is_finished() and known.get(head["trial_id"]) != head["state"]:
                _write_rows(run, study, trial)


def _write_rows(run: RunFolder, study: StudySearch, trial: Any) -> None:
    head, values = study.rows(trial)
    part = content_id(head["trial_id"])
    run.write_part("trial_values", part, tables.from_rows("trial_values", values))
    run.write_part("trials", part, tables.from_rows("trials", [head]))


@dataclass
class _Book:
    """Keeps the run folder up with the trials."""

    run: RunFolder
    keep: Any

    def begun(self, proposal: Proposal) -> None:
        self.run.remove_part("failures", proposal.part)  # of before a restart
        self._write(proposal)

    def ended(self, proposal: Proposal) -> None:
        self._write(proposal)
        self.keep()

    def failure(self, proposal: Proposal) -> Failure | None:
        if not self.run.has_part("failures", proposal.part):
            return None
        (row,) = self.run.read_part("failures", proposal.part).to_pylist()
        return row["reason"], row["message"]

    def _write(self, proposal: Proposal) -> None:
        _write_rows(self.run, proposal.study, proposal.study.frozen(proposal.key))


def _fit(
    space: SearchSpace, run: RunFolder, cluster: Cluster, searcher: CellSearcher, watch: Watch
) -> None:
    work, execution = searcher.work, space.execution
    common = {
        "run": run.url,
        "extensions": list(space.extensions),
        "extensions_folder": space.extensions_folder,
        "threads": execution.cpus_per_worker,
        "setup": work.setup,
    }
    resources = {"cpu": execution.cpus_per_worker, "gpu": cluster.gpus_per_worker(execution)}
    if work.workers > 1:  # a trial that only drives must not hold what its gang waits for
        resources = {"memory": 1}
    trainable = tune.with_parameters(_run_trial, make_bench=work.make_bench, common=common)
    interrupt = Interrupt(run)
    searcher.is_interrupted = lambda: interrupt.came is not None
    callbacks: list[Any] = [_Watcher(watch, interrupt, Deaths(execution.max_attempts))]
    with suppress(ImportError):  # without tensorboardX there are no files for TensorBoard
        callbacks.append(_Board())
    interrupt.fit(
        tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_Pruning(searcher),
                num_samples=-1,
                max_concurrent_trials=_MOST,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"raymcu {trial.config['trial']}".replace(
                    "/", " "
                ),
                trial_dirname_creator=lambda trial: _folder(trial.config),
            ),
            run_config=tune.RunConfig(
                name=f"search-{int(time.time())}",
                storage_path=run.tune_path,
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=execution.max_attempts - 1),
            ),
        )
    )


class _Pruning(InTurn):
    """Ends trials that their study's pruner calls hopeless.

    Tune's own rules begin with nothing after a restart, and weigh the trials of different cells
    against each other; a study keeps its looks.
    """

    def __init__(self, searcher: CellSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide at each look."""
        is_look = bool(result.get("look")) and not result.get("done")
        is_hopeless = is_look and self.searcher.look(trial.trial_id, result)
        return str(TrialScheduler.STOP if is_hopeless else TrialScheduler.CONTINUE)


class _Watcher(tune.Callback):  # type: ignore[misc] # Ray is untyped
    """Passes on what trials report."""

    def __init__(self, watch: Watch, interrupt: Interrupt, deaths: Deaths) -> None:
        self.watch = watch
        self.deaths = deaths
        self.nodes: dict[str, str] = {}
        """Where each trial was begun last."""
        self.died: dict[str, Any] = {}
        """Trials whose process has died."""
        self.interrupt = interrupt
        self.running: dict[str, Running] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Stay out of Tune's snapshots: the display holds a terminal, and we never restore one."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Show a trial that begins."""
        self.running[trial.trial_id] = Running(trial.config["trial"])
        self.watch([], list(self.running.values()))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Show how far a trial is."""
        if result.get("node"):
            self.nodes[trial.trial_id] = result["node"]
        if result.get("running"):
            label = f"{trial.config['trial']}: {result['running']}"
            self.running[trial.trial_id] = Running(label, result["fraction"], result["loss"])
            self.watch([], list(self.running.values()))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """End the search once trainings have saved for the sake of an interrupt.

        Tune is told that deaths with their nodes, of which is known late, are none.
        """
        for key, trial in self.died.items():
            trial.run_metadata.num_failures = self.deaths.counted(key)
        if self.interrupt.is_over(len(self.running)):
            raise KeyboardInterrupt

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note where a trial died that is tried again."""
        self.died[trial.trial_id] = trial
        self.deaths.add(trial.trial_id, self.nodes.get(trial.trial_id))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Count a trial that has ended."""
        self.running.pop(trial.trial_id, None)
        self.watch([trial.config["trial"]], list(self.running.values()))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Count a trial that died for good."""
        self.on_trial_complete(iteration, trials, trial)


class _Board(TBXLoggerCallback):  # type: ignore[misc] # Ray is untyped
    """Files for TensorBoard: looks, objectives, and the trial's values as its hyperparameters."""

    def log_trial_start(self, trial: Any) -> None:
        """Name the trial's values, not all that its process is sent, as its parameters."""
        trial.evaluated_params = dict(trial.config["values"])
        super().log_trial_start(trial)


def _run_trial(config: dict[str, Any], make_bench: Any, common: Mapping[str, Any]) -> None:
    """Run one trial in this process; a failure becomes a row, which the driver reads."""
    spec = TrialSpec.model_validate_json(config["spec"])
    last = -math.inf

    def look(number: int, numbers: Mapping[str, float]) -> None:
        tune.report({**_checked(numbers, numbers), "look": number})

    def progress(label: str, fraction: float, loss: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_EVERY_S:
            last = time.monotonic()
            tune.report({"running": label, "fraction": fraction, "loss": loss})

    # Tune prints a line of its own for a trial that told nothing.
    node = ray.get_runtime_context().get_node_id()
    tune.report({"running": "beginning", "fraction": 0.0, "loss": None, "node": node})
    devices, here = Devices(RunFolder(common["run"])), device_name()
    try:
        if devices.is_broken(here):
            raise WorkError(BROKEN, f"{here} takes no more work.")  # noqa: TRY301
        numbers = _checked(
            _bench(make_bench, common).run(spec, look, progress), dict.fromkeys(config["names"])
        )
    except StoppedError:  # the trial stays open, and the next start goes on with it
        return
    except DeviceError:
        raise
    except Exception as error:
        if is_device_error(error):
            raise devices.failed(config["trial"], error) from error
        _record(config, common, error)
    else:
        devices.worked()
        tune.report({**numbers, "is_final": True})


def _folder(config: Mapping[str, Any]) -> str:
    """Name a trial's folder, its run in TensorBoard: what people read, and what is unique."""
    return f"{re.sub(r'[^A-Za-z0-9=.-]+', '_', config['trial'])[:80]}-{config['part'][:6]}"


def _bench(make_bench: Any, common: Mapping[str, Any]) -> Bench:
    key = content_id(common)
    if key not in _benches:
        torch.set_num_threads(common["threads"])
        load_extensions(common)
        _benches[key] = make_bench(common["setup"])
    return _benches[key]


def _checked(numbers: Mapping[str, float], names: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of those names; Optuna would keep a trial that is told NaN for ever.

    Raises:
        WorkError: If one is not finite.
    """
    found = {name: float(numbers[name]) for name in names}
    if wrong := {name: value for name, value in found.items() if not math.isfinite(value)}:
        raise WorkError("undefined", f"not finite: {wrong}")
    return found


def _record(config: Mapping[str, Any], common: Mapping[str, Any], error: Exception) -> None:
    reason, message, trace = getattr(error, "reason", DAMAGED), str(error), None
    if not isinstance(error, StoreError | WorkError):
        reason, message = "error", f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
    row = failure_row(config["trial"], "search", config["trial"], reason, message, trace)
    table = tables.from_rows("failures", [row])
    RunFolder(common["run"]).write_part("failures", config["part"], table)
