"""Passes finished trainings and points on to TensorBoard, MLflow or Weights & Biases.

All of it is read from the run folder by the driver, so workers know nothing of it. Each thing is
passed on once: a file in ``logged/`` of the run folder says so, and a run of which a killed driver
has passed on a part is begun anew. Where it goes the packages read from their environment:
``MLFLOW_TRACKING_URI``, ``WANDB_MODE=offline`` and so on.
"""

import importlib
import math
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import ConfigError
from raymcu.planning.recipes import Recipe
from raymcu.report.console import headline_metrics
from raymcu.report.data import Curve, Study, Walk, load_study
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

Rows = Sequence[tuple[int, Mapping[str, float]]]
"""Step and numbers by name."""

_MLFLOW_BATCH = 900
"""Numbers of one request; MLflow takes 1000."""
_LOOK_S = 5.0
"""How often it is looked for trainings that have ended; in a bucket less often."""
_LOOK_FAR_S = 30.0
_AGAIN_S = 60.0
"""After how long a logger that failed is tried again."""
_PATIENCE_S = 120.0
"""How long one thing may take until nobody waits for it: W&B gives up by itself after 90 s."""
_LEAVES_S = 5.0
"""How long a study that ends waits for what is being passed on."""


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

    def mark(self, run: RunFolder) -> str:
        """Return what tells it from all else that any study passes on."""
        return content_id([run.url, self.key])


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
        self._run = run

    def log(self, one: Logged) -> None:
        """Make one run of the experiment."""
        client, metric, mark = self._client, self._metric, one.mark(self._run)
        found = client.get_experiment_by_name(self._study)
        place = found.experiment_id if found else client.create_experiment(self._study)
        for left in client.search_runs([place], f"tags.raymcu = '{mark}'"):
            client.delete_run(left.info.run_id)
        tags = {**one.tags, "raymcu": mark}
        run = client.create_run(place, run_name=one.name, tags=tags).info.run_id
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
        self._run, self._folder = run, run.root if run.is_local else None

    def log(self, one: Logged) -> None:
        """Make one run of the project."""
        run = self._wandb.init(
            project=self._study,
            name=one.name,
            group=one.kind,
            config=dict(one.tags),
            tags=[text[:64] for text in one.tags.values()],
            dir=self._folder,
            id=one.mark(self._run),
            resume="allow",
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


class Loggers:
    """Passes trainings on soon after they end, while its block runs; all else when it is asked to.

    Each logger has a thread of its own: one that is slow, fails or hangs keeps neither the work
    nor another one waiting. What fails is said, and tried again.

    Args:
        run: Whose trainings and points.
        space: Says which loggers.
        find: Returns a recipe of the study by its id, or None; called in a thread.
        say: Told what fails.
    """

    def __init__(
        self,
        run: RunFolder,
        space: SearchSpace,
        find: Callable[[str], Recipe | None],
        say: Callable[[str], None],
    ) -> None:
        self._lines = [_Line(run, name, space.name, find, say) for name in space.execution.loggers]

    def __enter__(self) -> Self:
        for line in self._lines:
            line.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for line in self._lines:
            line.is_over = True
            line.asked.set()
        until = time.monotonic() + _LEAVES_S
        for line in self._lines:
            line.thread.join(max(0.0, until - time.monotonic()))

    def pass_on(self) -> None:
        """Have all passed on that is finished, and wait for it, but not for a logger that hangs."""
        for line in self._lines:
            line.through.clear()
            line.asked.set()
        for line in self._lines:
            line.wait()


class _Line:
    """One logger and its thread, with a look of its own at the run folder."""

    def __init__(
        self,
        run: RunFolder,
        name: str,
        study: str,
        find: Callable[[str], Recipe | None],
        say: Callable[[str], None],
    ) -> None:
        self.run, self.name = RunFolder(run.url, run.checkpoints.folder.url), name
        self.study, self.find, self.say = study, find, say
        self.thread = Thread(target=self._go_on, name=name, daemon=True)
        self.asked, self.through = Event(), Event()
        """All that is finished is to be passed on, and was, as far as the logger takes it."""
        self.is_over = False
        self.began: float | None = None
        """When what is being passed on was begun."""
        self.told = ""
        """Why the logger failed, the last time; empty if it did not."""
        self._logger: Logger | None = None
        self._known: set[str] | None = None

    def wait(self) -> None:
        """Wait till all that is finished was passed on, or one thing takes too long."""
        while not self.through.wait(0.1):
            began = self.began
            if began is not None and time.monotonic() - began > _PATIENCE_S:
                told = f"{self.name} does not answer, and is waited for no longer."
                self.say(f"execution.loggers: {told} The same command tries again.")
                return

    def _go_on(self) -> None:
        every_s = _LOOK_S if self.run.is_local else _LOOK_FAR_S
        while True:
            if is_asked := self.asked.wait(_AGAIN_S if self.told else every_s):
                self.asked.clear()
            if self.is_over:
                return
            self._pass_on(is_whole=is_asked)
            if is_asked:
                self.through.set()

    def _pass_on(self, *, is_whole: bool) -> None:
        has_failed, self.told = bool(self.told), ""
        try:
            if self._known is None:
                self._known = set(self.run.names(f"logged/{self.name}"))
            for key, read in self._finished(self._known, is_whole=is_whole):
                if self.is_over:
                    return
                self.began = time.monotonic()
                self._logger = self._logger or _LOGGERS[self.name][1](self.run, self.study)
                self._logger.log(read())
                self.run.write_bytes(f"logged/{self.name}/{key}", b"")
                self._known.add(key)
                self.began = None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a client may raise
            self.began = self._logger = None
            self.told = f"{self.name} takes no more ({_told(error)})"
            if (is_whole or not has_failed) and not self.is_over:
                again = "It is tried again while the study goes on, and by the same command."
                self.say(f"execution.loggers: {self.told}. {again}")

    def _finished(
        self, known: Collection[str], *, is_whole: bool
    ) -> Iterator[tuple[str, Callable[[], Logged]]]:
        """Yield what is finished and not known by its id, and what reads it."""
        for key in self.run.checkpoints.folder.names(""):
            if key not in known and (recipe := self.find(key)) is not None:
                file = f"{key}/training.parquet"
                if self.run.checkpoints.folder.has_file(file):
                    yield key, partial(_training, self.run, recipe)
        for key, read in _scored(self.run) if is_whole else ():
            if key not in known:
                yield key, read


def _told(error: BaseException) -> str:
    """Return an error in a line: servers tell pages."""
    return f"{type(error).__name__}: {str(error).strip()}".split("\n")[0][:300].rstrip(".")


def _scored(run: RunFolder) -> Iterator[tuple[str, Callable[[], Logged]]]:
    """Yield models, curves and walks that have scores by their id, and what reads them."""
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


def _training(run: RunFolder, recipe: Recipe) -> Logged:
    content = run.checkpoints.folder.read_bytes(f"{recipe.id}/training.parquet")
    rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    tags = {"recipe_id": recipe.id, "role": recipe.role}
    tags |= {"forget_size": recipe.forget_size} if recipe.forget_size else {}
    steps = [(row.pop("step"), _numbers(row)) for row in rows]
    return Logged(recipe.id, recipe.label, "training", tags, steps)


def _point(study: Study, key: str, label: str, role: str, forget_size: str) -> Logged:
    tags = {"point_id": key, "role": role, "forget_size": forget_size}
    return Logged(key, label, "point", tags, _scores(study, [(0.0, key)]))


def _curve(study: Study, kind: str, key: str, curve: Curve | Walk) -> Logged:
    ends = f"{curve.first}, {curve.second}" if isinstance(curve, Curve) else curve.second
    tags = {f"{kind}_id": key, "forget_size": curve.forget_size, "family": curve.family}
    rows = _scores(study, curve.points, has_place=True)
    return Logged(key, f"{curve.family}({ends})", kind, tags, rows)


def _scores(
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
