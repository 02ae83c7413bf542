"""Measures and scores points in one warm process; a plain class until Ray wraps it."""

import threading
import time
from typing import Any

import pyarrow as pa
import torch

from raymcu.blend import Blend
from raymcu.measurement.geometry import measure_layer
from raymcu.measurement.kinds import measurer_of
from raymcu.metrics._base import REFERENCES, Measured, Reference
from raymcu.metrics._scoring import score_point
from raymcu.models.devices import Devices, device_name, is_device_error
from raymcu.planning.geometry import NUM_LAYERS, Directions
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource, SearchSpace


class PointActor:
    """One warm process: a resident model and tokenised probes.

    It takes two points at once: while the model measures one, the other is scored and written.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        torch.set_num_threads(setup["threads"])
        load_extensions(setup)
        self.run = RunFolder(setup["run"], setup["store"])
        self.alone: dict[tuple[str, Reference], tuple[str, Blend]] = {
            (row["forget_size"], row["role"]): (
                row["point_id"],
                Blend.model_validate_json(row["blend"]),
            )
            for row in setup["alone"]
        }
        self.references: dict[str, Measured] = {}
        self.told: set[str] = set()
        """Forget sets whose questions are written."""
        self.devices = Devices(self.run)
        self.is_device_sound = False
        self.lock = threading.Lock()
        self.measurer = measurer_of(
            self.run.checkpoints,
            BenchmarkUse.model_validate(setup["benchmark"]),
            ModelSource.model_validate(setup["model"]),
            Measurement.model_validate(setup["measurement"]),
        )

    def where(self) -> str | None:
        """Name this process's device, which says that the process has started."""
        return device_name()

    def measure(
        self, point_id: str, blend: str, forget_size: str, *, is_inside: bool = False
    ) -> float:
        """Measure one point into the run folder, and score it; return the seconds it took.

        Writing a point twice changes nothing, so a call may be repeated after a crash. A point
        measured before the reference models it is compared with is left to the score stage.

        Raises:
            DeviceError: If the device failed: this process is of no more use.
        """
        what = Blend.model_validate_json(blend)
        with self.lock:  # the model holds one blend
            started = time.perf_counter()
            try:
                rows = self.measurer.measure(point_id, what, forget_size, is_inside=is_inside)
                self._keep_questions(forget_size)
                others = {} if is_inside else self._compare(point_id, what, forget_size)
            except Exception as error:
                if is_device_error(error):
                    raise self.devices.failed(point_id, error) from error
                raise
            took = time.perf_counter() - started
        if not self.is_device_sound:
            self.devices.worked()
            self.is_device_sound = True
        references = {
            role: key for (size, role), (key, _) in self.alone.items() if size == forget_size
        }
        if (
            point_id in references.values()
        ):  # scores given so far lacked what they are compared with
            for point in self.run.plan["points"]:
                if point["forget_size"] == forget_size:
                    self.run.remove_part("scores", point["id"])
        for name, table in others.items():
            self.run.write_part(name, point_id, table)
        self.run.write_part("measurements", point_id, rows)
        if all(self.run.has_part("measurements", key) for key in references.values()):
            against = {role: self._reference(key) for role, key in references.items()}
            self.run.write_part("scores", point_id, score_point(point_id, rows, against, others))
        return took

    def read_layer(self, asked: Directions, layer: str, part: str, num_layers: int) -> None:
        """Read one layer of all checkpoints into a part of table ``geometry``.

        Writing it twice changes nothing, so a call may be repeated after a crash.

        Raises:
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        rows = measure_layer(
            self.run.checkpoints.local_dir, asked.original, asked.labels, layer,
            self.measurer.device,
        )  # fmt: skip
        told = {**rows.schema.metadata, NUM_LAYERS: str(num_layers)}
        self.run.write_part("geometry", part, rows.replace_schema_metadata(told))

    def _keep_questions(self, forget_size: str) -> None:
        """Write what is asked once, so that answers can be read without the benchmark."""
        if forget_size not in self.told:
            rows = self.measurer.questions(forget_size)
            self.run.write_part("questions", content_id(forget_size), rows)
            self.told.add(forget_size)

    def _compare(self, point_id: str, what: Blend, forget_size: str) -> dict[str, pa.Table]:
        """Return the point's tables ``representations`` and ``sharpness``, as asked for."""
        found = {}
        if self.measurer.asked.sharpness:
            found["sharpness"] = self.measurer.sharpness(point_id, what, forget_size)
        if not self.measurer.asked.representations:
            return found
        against: dict[str, Blend] = {
            role: other
            for (size, role), (_, other) in self.alone.items()
            if size == forget_size
            and role != "random"
            and self.run.checkpoints.is_done(other.checkpoints[0])
        }
        compared = self.measurer.compare(point_id, what, forget_size, against)
        return {**found, "representations": compared}

    def _reference(self, key: str) -> Measured:
        if key not in self.references:
            self.references[key] = Measured(self.run.read_part("measurements", key))
        return self.references[key]


def setup_of(run: RunFolder, space: SearchSpace) -> dict[str, Any]:
    """Return what a `PointActor` is made from."""
    return {
        "run": run.url,
        "store": run.checkpoints.folder.url,
        "benchmark": space.benchmark.model_dump(mode="json"),
        "model": space.model.model_dump(mode="json"),
        "measurement": space.measurement.model_dump(mode="json"),
        "extensions": list(space.extensions),
        "extensions_folder": space.extensions_folder,
        "threads": space.execution.cpus_per_worker,
        "alone": _alone(run),
    }


def _alone(run: RunFolder) -> list[dict[str, str]]:
    """Return the points of the reference models."""
    rows = run.read_table("points").select(["point_id", "forget_size", "role", "blend"])
    return [row for row in rows.to_pylist() if row["role"] in REFERENCES]
