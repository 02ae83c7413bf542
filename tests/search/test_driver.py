"""The whole search under Ray Tune, with a bench that knows its answers: tables, files, resume."""

import json
import math
import os
import signal
import sys
import threading
import time

import optuna
import pytest
from ray import cloudpickle

from raymcu.errors import StoreError, WorkError
from raymcu.progress import Running
from raymcu.search.database import DATABASE, database
from raymcu.search.driver import record_missing, run_search
from raymcu.search.spec import TrialSpec, Work
from raymcu.store.folders import Folder
from raymcu.store.run_folder import RunFolder
from raymcu.training.stopping import Stop, StoppedError


class ToyBench:
    """Scores mixing by its distance from 0.7, with three looks; some values end otherwise.

    It notes which process ran which trial, and what a pruned trial did not live to see.
    """

    def __init__(self, setup):
        self.folder = Folder(setup["notes"])
        self.setup = setup

    def run(self, spec, look, progress):
        mixing = spec.values["mixing"]
        self._note(f"begun-{mixing}", os.getpid())
        if mixing in self.setup.get("raises", {}):
            kind = self.setup["raises"][mixing]
            if kind == "StoreError":
                raise StoreError("model.safetensors: has 3 bytes")
            if kind == "dies" and not self.folder.exists(f"died-{mixing}"):
                self._note(f"died-{mixing}", os.getpid())
                os._exit(1)
            if kind == "waits" and not self.folder.exists(f"stopped-{mixing}"):
                stop = Stop(RunFolder(self.setup["run"]))
                while not stop.is_asked():
                    progress("training toy", 0.5, 1.0)
                    time.sleep(0.1)
                self._note(f"stopped-{mixing}", os.getpid())
                stop.answer("toy")
                raise StoppedError("toy: stopped at step 5.")
            if kind == "undefined":
                raise WorkError("undefined", "retain_loss: the model has diverged")
            if kind == "nan":
                return {"retain_loss": math.nan, "retain_es >= 0.5": 0.0}
        loss = abs(mixing - 0.7)
        for step in (1, 2, 3):
            progress("training toy", step / 4, loss)
            look(step, {"retain_loss": loss + 1 / step})
        self._note(f"whole-{mixing}", os.getpid())
        return {"retain_loss": loss, "retain_es >= 0.5": 0.5 - mixing}

    def _note(self, name, value):
        self.folder.write_json(name, value)


class Notes:
    """Collects what a watch is told."""

    def __init__(self):
        self.ended = []
        self.labels = set()

    def __call__(self, ended, running):
        assert all(isinstance(one, Running) for one in running)
        self.ended += ended
        self.labels |= {one.label for one in running}


@pytest.fixture(scope="module")
def _by_value():
    """A worker gets what is defined here as it is: it cannot import it."""
    cloudpickle.register_pickle_by_value(sys.modules[ToyBench.__module__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[ToyBench.__module__])


@pytest.fixture
def search(cluster, _by_value, toy_space, tmp_path):
    """Runs a search into one folder; returns the folder and what the watch was told."""

    def run(choices, raises=None, **asked):
        space = toy_space({
            "space": {"method": {"choice": ["npo"]}, "mixing": {"choice": choices}},
            "sampler": "grid",
            "trials": None,
            "constraints": ["retain_es >= 0.5"],
            **asked,
        })  # fmt: skip
        folder, notes = RunFolder(str(tmp_path / "run")), Notes()
        setup = {"notes": str(tmp_path / "notes"), "raises": raises or {}, "run": folder.url}
        work = Work(lambda values: TrialSpec(values=values), lambda spec: (), ToyBench, setup)
        try:
            run_search(space, folder, lambda: cluster, work, notes)
        finally:
            run.notes = notes
        return folder

    return run


def rows_of(folder):
    rows = folder.read_table("trials").to_pylist()
    return {row["number"]: row for row in rows}


@pytest.mark.ray
def test_search_fills_the_tables_and_goes_on_where_it_was(search, tmp_path):
    """Ended by a damaged file; started again, with two trials at once, it repeats nothing."""
    choices = [0.5, 0.25, 0.75, 1.0]
    with pytest.raises(StoreError, match="has 3 bytes"):
        search(choices, raises={0.75: "StoreError"})
    folder = RunFolder(str(tmp_path / "run"))
    states = {number: row["state"] for number, row in rows_of(folder).items()}
    assert states == {0: "complete", 1: "complete", 2: "running"}
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "notes").iterdir()}

    search(choices, concurrent=2)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "notes").iterdir()}
    assert before.items() - after.items() == {("begun-0.75", before["begun-0.75"])}
    rows = rows_of(folder)
    assert [rows[n]["state"] for n in range(4)] == ["complete"] * 4
    assert [json.loads(rows[n]["params"])["mixing"] for n in range(4)] == choices
    assert [rows[n]["is_feasible"] for n in range(4)] == [True, False, True, True]
    assert [rows[n]["trial_id"] for n in range(4)] == [f"toy/{n}" for n in range(4)]
    values = folder.read_table("trial_values").to_pylist()
    found = {(v["trial_id"], v["kind"], v["name"]): v["value"] for v in values if not v["look"]}
    for number, mixing in enumerate(choices):
        assert found[f"toy/{number}", "objective", "retain_loss"] == abs(mixing - 0.7)
        assert found[f"toy/{number}", "constraint", "retain_es >= 0.5"] == 0.5 - mixing
    assert folder.parts("failures") == []
    assert sorted(search.notes.ended) == ["toy/2", "toy/3"]
    assert "toy/2: training toy" in search.notes.labels
    assert list((tmp_path / "run" / "tune").rglob("events.out.tfevents*"))
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'run' / DATABASE}")
    study = optuna.load_study(study_name="toy", storage=storage)
    assert study.best_trial.params["mixing"] == 0.75
    assert study.metric_names == ["retain_loss"]
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.ray
def test_hopeless_failed_and_killed_trials_do_not_stop_the_rest(search, tmp_path):
    """Five good trials, a hopeless one, three that go wrong, and one that is good again."""
    good = [0.7, 0.65, 0.6, 0.55, 0.5]
    raises = {0.1: "undefined", 0.2: "nan", 0.3: "dies"}
    choices = [*good, 0.0, *raises, 0.68]
    folder = search(choices, raises, pruner="median", constraints=["retain_es >= 0.5"])
    rows = rows_of(folder)
    states = [rows[n]["state"] for n in range(len(choices))]
    assert states[:5] == ["complete"] * 5
    assert states[5:] == ["pruned", "failed", "failed", "pruned", "complete"]
    assert rows[5]["message"] == "pruned at look 1 of 3"
    assert not (tmp_path / "notes" / "whole-0.0").exists()
    assert rows[6]["message"] == "retain_loss: the model has diverged"
    assert "not finite" in rows[7]["message"]
    assert (tmp_path / "notes" / "died-0.3").exists(), "its process died once, and it ran again"
    failures = {row["item_id"]: row for row in folder.read_table("failures").to_pylist()}
    assert {label: row["stage"] for label, row in failures.items()} == {
        "toy/6": "search",
        "toy/7": "search",
    }
    processes = [
        json.loads((tmp_path / "notes" / f"begun-{m}").read_text()) for m in (0.7, 0.0, 0.1, 0.2)
    ]
    assert len(set(processes)) == 1, "neither pruning nor failing costs the warm process"
    assert json.loads((tmp_path / "notes" / "begun-0.68").read_text()) != processes[0]


def test_rows_of_trials_whose_driver_was_killed_are_written_at_the_next_start(
    toy, memory, tmp_path
):
    run = RunFolder(str(tmp_path))
    found = toy({"trials": 3}, storage=memory()).run(2)
    found.suggest()
    record_missing(run, found.studies)
    assert {n: row["state"] for n, row in rows_of(run).items()} == {0: "complete", 1: "complete"}


def test_database_of_a_folder_behind_a_url_is_copied_there():
    run = RunFolder("memory://search-test/run")
    with database(run) as (storage, keep):
        study = optuna.create_study(storage=storage, study_name="one")
        study.tell(study.ask(), 1.0)
        keep()
        assert run.exists(DATABASE)
        study.tell(study.ask(), 2.0)
    with database(run) as (storage, _):
        study = optuna.load_study(storage=storage, study_name="one")
        assert [trial.value for trial in study.trials] == [1.0, 2.0]


@pytest.mark.ray
def test_an_interrupt_lets_trials_save_and_the_next_start_goes_on_with_them(search, tmp_path):
    """The trial in training answers, no other is begun, and nothing is a failure."""
    choices, begun = [0.5, 0.75, 1.0], tmp_path / "notes" / "begun-0.75"

    def interrupt():
        while not begun.exists():
            time.sleep(0.05)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        search(choices, raises={0.75: "waits"}, concurrent=1)
    thread.join()
    folder = RunFolder(str(tmp_path / "run"))
    assert (tmp_path / "notes" / "stopped-0.75").exists(), "it was ended before it had saved"
    assert not (tmp_path / "notes" / "begun-1.0").exists()
    states = {number: row["state"] for number, row in rows_of(folder).items()}
    assert states == {0: "complete", 1: "running"}
    assert folder.parts("failures") == []
    search(choices, raises={0.75: "waits"}, concurrent=1)
    assert [rows_of(folder)[n]["state"] for n in range(3)] == ["complete"] * 3
    assert folder.parts("failures") == []
