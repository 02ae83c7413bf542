"""Trainings and points reach the loggers once, with their numbers; a logger stops no study."""

import io
import sys
import threading
import time
import types

import pyarrow.parquet as pq
import pytest

from raymcu.errors import ConfigError
from raymcu.report import loggers
from raymcu.report.loggers import Loggers, check_loggers
from raymcu.store import tables
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

from .conftest import make_run

HISTORY = [
    {"step": 1, "epoch": 0.5, "loss": 2.0, "forget_loss": 1.0, "retain_loss": None,
     "learning_rate": 1e-3, "gradient_norm": 0.5},
    {"step": 2, "epoch": 1.0, "loss": float("nan"), "forget_loss": 1.5, "retain_loss": None,
     "learning_rate": 5e-4, "gradient_norm": 0.25},
]  # fmt: skip


def make_space(*loggers):
    return strictly(
        SearchSpace,
        {
            "name": "toy",
            "benchmark": {"name": "authors", "forget_sizes": ["forget01"]},
            "model": {"scratch": {}},
            "methods": [{"name": "npo"}],
            "execution": {"loggers": list(loggers)},
        },
    )


@pytest.fixture
def run(tmp_path):
    """A finished run of which one unlearner was trained and has its history."""
    run = make_run(tmp_path / "run")
    trained = next(r["id"] for r in run.plan["recipes"] if r["role"] == "unlearner")
    train(run, trained)
    return run


def train(run, key):
    """Let there be a checkpoint with its history."""
    sink = io.BytesIO()
    pq.write_table(tables.from_rows("training", HISTORY), sink)
    run.checkpoints.folder.write_bytes(f"{key}/training.parquet", sink.getvalue())


def begun(run, space, say):
    """Return the loggers of a study whose plan is in the folder."""
    planned = {recipe["id"]: types.SimpleNamespace(**recipe) for recipe in run.plan["recipes"]}
    return Loggers(run, space, planned.get, say)


def pass_on(run, space, say):
    with begun(run, space, say) as loggers:
        loggers.pass_on()


def await_(is_true):
    until = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def wandb(monkeypatch):
    """Stands for the package; keeps what it is told."""
    made = []

    class Run:
        def __init__(self, **told):
            self.told, self.rows, self.is_finished = told, [], False
            made.append(self)

        def log(self, row, step):
            self.rows.append((step, row))

        def finish(self):
            self.is_finished = True

    module = types.ModuleType("wandb")
    module.init, module.made = Run, made
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    """Stands for the package; keeps what its client is told."""
    module = types.ModuleType("mlflow")
    module.entities = types.SimpleNamespace(Metric=lambda *told: told)
    module.runs, module.experiments = {}, {}

    class Client:
        def get_experiment_by_name(self, name):
            there = name in module.experiments
            return types.SimpleNamespace(experiment_id=name) if there else None

        def create_experiment(self, name):
            return module.experiments.setdefault(name, name)

        def search_runs(self, experiments, asked):
            (tag, value), (experiment,) = asked.replace("'", "").split(" = "), experiments
            return [
                types.SimpleNamespace(info=types.SimpleNamespace(run_id=key))
                for key, one in module.runs.items()
                if one["in"] == experiment and one["tags"][tag.removeprefix("tags.")] == value
            ]

        def delete_run(self, run):
            module.runs[run]["in"] = "deleted"

        def create_run(self, experiment, run_name, tags):
            key = str(len(module.runs))
            module.runs[key] = {"name": run_name, "tags": tags, "in": experiment, "metrics": []}
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=key))

        def log_batch(self, run, metrics):
            assert len(metrics) <= 1000
            module.runs[run]["metrics"] += metrics

        def set_terminated(self, run):
            module.runs[run]["is_ended"] = True

    module.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def never(text):
    raise AssertionError(text)


def test_each_training_curve_and_model_is_a_run_with_its_numbers(run, wandb):
    pass_on(run, make_space("wandb"), never)
    (training,) = [one for one in wandb.made if one.told["group"] == "training"]
    recipe = next(r for r in run.plan["recipes"] if r["role"] == "unlearner")
    assert training.told["name"] == recipe["label"]
    assert training.told["project"] == "toy"
    assert training.told["config"]["recipe_id"] == recipe["id"]
    assert recipe["id"] in training.told["tags"]
    common = {"epoch", "learning_rate", "gradient_norm", "forget_loss"}
    assert [(step, row.keys()) for step, row in training.rows] == [
        (1, common | {"loss"}),
        (2, common),  # NaN is no number
    ]
    assert training.rows[0][1]["loss"] == 2.0
    plan = run.plan
    curves = [one for one in wandb.made if one.told["group"] == "curve"]
    assert len(curves) == len(plan["curves"])
    first = curves[0]
    assert [row["t"] for _, row in first.rows] == sorted(
        p["t"] for p in plan["curve_points"] if p["curve_id"] == first.told["config"]["curve_id"]
    )
    points = [one for one in wandb.made if one.told["group"] == "point"]
    original = next(p["id"] for p in plan["points"] if p["role"] == "original")
    (one,) = [p for p in points if p.told["config"]["point_id"] == original]
    scores = {row["metric"]: row["value"] for row in run.read_part("scores", original).to_pylist()}
    ((_, row),) = one.rows
    assert row == {name: scores[name] for name in row}
    assert {"model_utility", "forget_quality_log10", "retain_loss"} <= row.keys()
    assert all(one.is_finished for one in wandb.made)


def test_what_was_passed_on_is_not_passed_on_again(run, wandb, mlflow):
    pass_on(run, make_space("wandb"), never)
    known = len(wandb.made)
    pass_on(run, make_space("wandb", "mlflow"), never)
    assert len(wandb.made) == known
    assert len(mlflow.runs) == known, "each logger has a count of its own"


def test_mlflow_gets_runs_of_an_experiment_of_the_studys_name(run, mlflow, monkeypatch):
    pass_on(run, make_space("mlflow"), never)
    assert list(mlflow.experiments) == ["toy"]
    (training,) = [one for one in mlflow.runs.values() if "recipe_id" in one["tags"]]
    numbers = {(key, step): value for key, value, _, step in training["metrics"]}
    assert numbers["loss", 1] == 2.0
    assert ("loss", 2) not in numbers
    assert numbers["gradient_norm", 2] == 0.25
    assert all(one["is_ended"] for one in mlflow.runs.values())


def test_a_logger_that_fails_is_said_and_tried_again(run, wandb, mlflow, monkeypatch):
    def broken(**told):
        raise ConnectionError("no route to host.")

    whole = wandb.init
    monkeypatch.setattr(wandb, "init", broken)
    said = []
    pass_on(run, make_space("wandb", "mlflow"), said.append)
    assert said == [
        "execution.loggers: wandb takes no more (ConnectionError: no route to host). "
        "It is tried again while the study goes on, and by the same command."
    ]
    assert mlflow.runs, "the other one is not to suffer"
    monkeypatch.setattr(wandb, "init", whole)
    pass_on(run, make_space("wandb", "mlflow"), never)
    assert len(wandb.made) == len(mlflow.runs)


def test_trainings_are_passed_on_as_they_end_while_others_are_at_work(run, wandb, monkeypatch):
    monkeypatch.setattr(loggers, "_LOOK_S", 0.01)
    at_work = next(r for r in run.plan["recipes"] if r["role"] == "retrained")
    with begun(run, make_space("wandb"), never):
        await_(lambda: len(wandb.made) == 1)
        train(run, "of-another-study")
        train(run, at_work["id"])
        await_(lambda: len(run.names("logged/wandb")) == 2)
    assert [one.told["group"] for one in wandb.made] == ["training"] * 2, "scores are yet to come"
    assert wandb.made[1].told["name"] == "retrained"
    pass_on(run, make_space("wandb"), never)
    names = [one.told["id"] for one in wandb.made]
    assert len(names) == len(set(names)) > 2, "each once, also after a new start"


def test_nobody_waits_for_a_logger_that_hangs(run, wandb, mlflow, monkeypatch):
    monkeypatch.setattr(loggers, "_LOOK_S", 0.01)
    monkeypatch.setattr(loggers, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(loggers, "_LEAVES_S", 0.1)
    answers, said = threading.Event(), []
    whole = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **told: answers.wait() and whole(**told))
    began = time.monotonic()
    with begun(run, make_space("wandb", "mlflow"), said.append) as passing:
        await_(lambda: mlflow.runs)
        passing.pass_on()
    assert time.monotonic() - began < 15
    assert said == [
        "execution.loggers: wandb does not answer, and is waited for no longer. "
        "The same command tries again."
    ]
    assert len(mlflow.runs) == len(run.names("logged/mlflow")) > 1
    assert not wandb.made
    answers.set()
    await_(lambda: run.names("logged/wandb"))
    assert len(run.names("logged/wandb")) == 1, "the study is over: no more is begun"


def test_what_fails_while_others_are_at_work_is_said_once(run, wandb, monkeypatch):
    monkeypatch.setattr(loggers, "_LOOK_S", 0.01)
    monkeypatch.setattr(loggers, "_AGAIN_S", 0.01)
    tries, said, whole = [], [], wandb.init

    def broken(**told):
        tries.append(told)
        raise ConnectionError(f"no route to host, try {len(tries)}")

    monkeypatch.setattr(wandb, "init", broken)
    with begun(run, make_space("wandb"), said.append):
        await_(lambda: len(tries) >= 3)
        monkeypatch.setattr(wandb, "init", whole)
        await_(lambda: run.names("logged/wandb"))
    assert len(said) == 1
    assert "try 1)" in said[0]
    assert len(wandb.made) == 1


def test_what_a_killed_driver_passed_on_in_part_is_begun_anew(run, wandb, mlflow):
    space = make_space("mlflow", "wandb")
    pass_on(run, space, never)
    assert [one.told["id"] for one in wandb.made] == [
        one["tags"]["raymcu"] for one in mlflow.runs.values()
    ]
    known = len(mlflow.runs)
    for name in space.execution.loggers:
        for key in run.names(f"logged/{name}")[:1]:
            run.remove(f"logged/{name}/{key}")
    pass_on(run, space, never)
    marks = [one["tags"]["raymcu"] for one in mlflow.runs.values() if one["in"] == "toy"]
    assert len(mlflow.runs) == known + 1
    assert len(marks) == len(set(marks)) == known
    again = wandb.made[-1].told
    assert again["resume"] == "allow"
    assert again["id"] in {one.told["id"] for one in wandb.made[:-1]}, "W&B goes on with its half"


def test_tensorboard_has_a_file_for_each(run, tmp_path):
    pytest.importorskip("tensorboardX")
    pass_on(run, make_space("tensorboard"), never)
    files = list((tmp_path / "run" / "tensorboard").glob("*/*/events.out.tfevents.*"))
    assert len(files) == len(list((tmp_path / "run" / "logged" / "tensorboard").iterdir()))
    (training,) = [file for file in files if file.parts[-3] == "training"]
    content = training.read_bytes()
    assert b"gradient_norm" in content
    assert b"retain_loss" not in content, "it was null"


def test_nothing_is_written_where_none_is_asked_for(run):
    pass_on(run, make_space(), never)
    assert not run.names("logged")


def test_packages_that_are_missing_are_told_with_the_command(run, monkeypatch):
    for name in ("wandb", "mlflow", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        check_loggers(run, make_space("wandb", "mlflow", "tensorboard"))
    assert [f.partition(" (")[0] for f in caught.value.faults] == [
        "execution.loggers: 'wandb' needs the package wandb",
        "execution.loggers: 'mlflow' needs the package mlflow",
        "execution.loggers: 'tensorboard' needs the package tensorboardX",
    ]
    assert all(f"pip install 'raymcu[{n}]'" in f
               for n, f in zip(("wandb", "mlflow"), caught.value.faults, strict=False))  # fmt: skip


def test_a_client_that_does_not_open_is_told(run, mlflow, monkeypatch):
    def broken():
        raise RuntimeError("no such store.\nA page of advice")

    monkeypatch.setattr(mlflow, "MlflowClient", broken)
    with pytest.raises(ConfigError, match=r"'mlflow' cannot be opened \(RuntimeError: no such sto"):
        check_loggers(run, make_space("mlflow"))


def test_tensorboard_needs_a_local_folder(run, monkeypatch):
    monkeypatch.setattr(run, "is_local", False)
    with pytest.raises(ConfigError, match="tensorboard writes local files"):
        check_loggers(run, make_space("tensorboard"))


def test_loggers_are_no_part_of_an_id():
    from raymcu.planning.surroundings import plan_study

    assert plan_study(make_space("wandb")).id == plan_study(make_space()).id
