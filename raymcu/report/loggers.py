"""Passes finished trainings and points on to TensorBoard, MLflow or Weights & Biases.

All of it is read from the run folder by the driver, so workers know nothing of it. Each thing is
passed on once: a file in ``logged/`` of the run folder says so. Where it goes the packages read
from their environment: ``MLFLOW_TRACKING_URI``, ``WANDB_MODE=offline`` and so on.
"""

import importlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import ConfigError
from raymcu.report.console import headline_metrics
from raymcu.report.data import Curve, Study, Walk, load_study
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

Rows = Sequence[tuple[int, Mapping[str, float]]]
"""Step and numbers by name."""

_MLFLOW_BATCH = 900
"""Numbers of one request; MLflow takes 1000."""


@dataclass(frozen=True)
class Logged:
    """One training, curve, walk or model: a run of the logger."""

    key: str
    """Id of recipe, curve, walk or point."""
    name: str
    """Its label."""
    kind: str
    """``training``, ``curve``, ``walk`` or ``point``."""
    tags: Mapping[str, str]
    rows: Rows


class Logger(Protocol):
    """Where finished things go."""

    def log(self, one: Logged) -> None:
        """Pass on one of them as a run of its own."""
        ...


class TensorBoard:
    """Files below ``tensorboard/`` of the run folder: `tensorboard --logdir RUN/tensorboard`."""

    def __init__(self, run: RunFolder, study: str) -> None:
        if not run.is_local:
            raise ConfigError(
                f"execution.loggers: tensorboard writes local files, and the run folder is "
                f"{run.url}. Leave it out, or give a local folder with --out."
            )
        self._make = importlib.import_module("tensorboardX").SummaryWriter
        self._run = run

    def log(self, one: Logged) -> None:
        """Write one event file."""
        words = re.sub(r"[^A-Za-z0-9=.+-]+", "_", one.name)[:80].strip("_")
        folder = f"tensorboard/{one.kind}/{words}-{one.key[:6]}"
        self._run.remove(folder)  # of a driver that was killed while it wrote
        with self._make(logdir=self._run.path(folder)) as writer:
            for tag, text in one.tags.items():
                writer.add_text(tag, text)
            for step, numbers in one.rows:
                for name, value in numbers.items():
                    writer.add_scalar(name, value, step)


class MLflow:
    """An experiment of the study's name, or ``MLFLOW_EXPERIMENT_NAME``."""

    def __init__(self, run: RunFolder, study: str) -> None:
        mlflow = importlib.import_module("mlflow")
        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        self._study = os.environ.get("MLFLOW_EXPERIMENT_NAME", study)

    def log(self, one: Logged) -> None:
        """Make one run of the experiment."""
        client, metric = self._client, self._metric
        found = client.get_experiment_by_name(self._study)
        place = found.experiment_id if found else client.create_experiment(self._study)
        run = client.create_run(place, run_name=one.name, tags=dict(one.tags)).info.run_id
        now = int(time.time() * 1000)
        numbers = [metric(k, v, now, step) for step, row in one.rows for k, v in row.items()]
        for start in range(0, len(numbers), _MLFLOW_BATCH):
            client.log_batch(run, metrics=numbers[start : start + _MLFLOW_BATCH])
        client.set_terminated(run)


class WandB:
    """A project of the study's name, or ``WANDB_PROJECT``."""

    def __init__(self, run: RunFolder, study: str) -> None:
        self._wandb = importlib.import_module("wandb")
        self._study = os.environ.get("WANDB_PROJECT", study)
        self._folder = run.root if run.is_local else None

    def log(self, one: Logged) -> None:
        """Make one run of the project."""
        run = self._wandb.init(
            project=self._study,
            name=one.name,
            group=one.kind,
            config=dict(one.tags),
            tags=[text[:64] for text in one.tags.values()],
            dir=self._folder,
            reinit="create_new",
            settings={"silent": True, "console": "off"},
        )
        for step, row in one.rows:
            run.log(dict(row), step=step)
        run.finish()


_LOGGERS: Mapping[str, tuple[str, Callable[[RunFolder, str], Logger]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WandB),
}
"""By name: the package it needs, and what makes it."""


def check_loggers(run: RunFolder, space: SearchSpace) -> None:
    """Open every logger that is asked for.

    Raises:
        ConfigError: If its package is not installed, or it cannot write where the run is.
    """
    faults = []
    for name in space.execution.loggers:
        try:
            _LOGGERS[name][1](run, space.name)
        except ImportError as error:
            faults.append(
                f"execution.loggers: '{name}' needs the package {_LOGGERS[name][0]} ({error}). "
                f"Run `pip install 'raymcu[{name}]'`, or leave it out."
            )
        except ConfigError as error:
            faults += error.faults
        except Exception as error:  # noqa: BLE001 - whatever its client raises
            faults.append(
                f"execution.loggers: '{name}' cannot be opened ({_told(error)}). Correct its "
                "environment, or leave it out."
            )
    if faults:
        raise ConfigError(faults)


def log_finished(run: RunFolder, space: SearchSpace, say: Callable[[str], None]) -> None:
    """Pass on what is finished and was not passed on yet.

    A logger that fails, as its server may, stops no study: it is said, and the next call tries
    again.
    """
    if not space.execution.loggers:
        return
    there = {name: set(run.names(f"logged/{name}")) for name in space.execution.loggers}
    for name, known in there.items():
        try:
            logger = _LOGGERS[name][1](run, space.name)
            for key, read in _finished(run):
                if key not in known:
                    logger.log(read())
                    run.write_bytes(f"logged/{name}/{key}", b"")
        except Exception as error:  # noqa: BLE001 - whatever a server and its client may raise
            told = f"{name} takes no more ({_told(error)}). The same command tries again."
            say(f"execution.loggers: {told}")


def _told(error: Exception) -> str:
    """Return an error in a line: servers tell pages."""
    return f"{type(error).__name__}: {str(error).strip()}".split("\n")[0][:300].rstrip(".")


def _finished(run: RunFolder) -> Iterator[tuple[str, Callable[[], Logged]]]:
    """Yield what is finished by its id, and what reads it."""
    for recipe in run.plan["recipes"]:
        if run.checkpoints.folder.exists(f"{recipe['id']}/training.parquet"):
            yield recipe["id"], partial(_training, run, recipe)
    study = load_study(run)
    single = {end.point_id: (end.label, end.role, end.forget_size) for end in study.endpoints}
    for point in study.plan["points"]:
        if point["role"] == "trial":
            single[point["id"]] = (point["label"], "trial", point["forget_size"])
    for key, told in single.items():
        if study.scores.get(key):
            yield key, partial(_point, study, key, *told)
    walked: list[tuple[str, Sequence[Curve | Walk]]] = [
        ("curve", study.curves),
        ("walk", study.walks),
    ]
    for kind, curves in walked:
        for curve in curves:
            if all(point in study.scores for _, point in curve.points):
                key = curve.curve_id if isinstance(curve, Curve) else curve.walk_id
                yield key, partial(_curve, study, kind, key, curve)


def _training(run: RunFolder, recipe: Mapping[str, Any]) -> Logged:
    content = run.checkpoints.folder.read_bytes(f"{recipe['id']}/training.parquet")
    rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    tags = {"recipe_id": recipe["id"], "role": recipe["role"]}
    tags |= {"forget_size": recipe["forget_size"]} if recipe["forget_size"] else {}
    steps = [(row.pop("step"), _numbers(row)) for row in rows]
    return Logged(recipe["id"], recipe["label"], "training", tags, steps)


def _point(study: Study, key: str, label: str, role: str, forget_size: str) -> Logged:
    tags = {"point_id": key, "role": role, "forget_size": forget_size}
    return Logged(key, label, "point", tags, _scored(study, [(0.0, key)]))


def _curve(study: Study, kind: str, key: str, curve: Curve | Walk) -> Logged:
    ends = f"{curve.first}, {curve.second}" if isinstance(curve, Curve) else curve.second
    tags = {f"{kind}_id": key, "forget_size": curve.forget_size, "family": curve.family}
    rows = _scored(study, curve.points, has_place=True)
    return Logged(key, f"{curve.family}({ends})", kind, tags, rows)


def _scored(
    study: Study, points: Sequence[tuple[float, str]], *, has_place: bool = False
) -> list[tuple[int, Mapping[str, float]]]:
    names = headline_metrics(study.endpoints)
    rows: list[tuple[int, Mapping[str, float]]] = []
    for step, (t, point) in enumerate(points):
        scores = _numbers({name: study.scores[point].get(name) for name in names})
        rows.append((step, {"t": t, **scores} if has_place else scores))
    return rows


def _numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    """Return the numbers among the values: a logger would draw NaN as one."""
    return {k: float(v) for k, v in row.items() if v is not None and math.isfinite(v)}
