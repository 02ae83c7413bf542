"""Measures and scores points in one warm process; a plain class until Ray wraps it."""

import json
import threading
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from raymcu.analysis.ensembles import sampled_points
from raymcu.attacks._base import Reading
from raymcu.blend import Blend
from raymcu.measurement.attacked import Done
from raymcu.measurement.geometry import measure_layer
from raymcu.measurement.kinds import measurer_of
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._base import Measured, Reference
from raymcu.metrics._scoring import keep_scores
from raymcu.models.devices import Devices, device_name, is_device_error
from raymcu.planning.geometry import NUM_LAYERS, Directions
from raymcu.planning.lessons import tuned_keys
from raymcu.planning.plan import references_of
from raymcu.planning.recipes import Recipe
from raymcu.store import tables
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
        self.alone: dict[tuple[str, str, Reference], tuple[str, Blend]] = {
            (row["forget_size"], row["asking"], row["role"]): (
                row["point_id"],
                Blend.model_validate_json(row["blend"]),
            )
            for row in setup["alone"]
        }
        """By forget set, how it is asked (``""``: as the benchmark words it) and role."""
        self.sampled = None if setup["sampled"] is None else frozenset(setup["sampled"])
        """See `raymcu.analysis.ensembles.sampled_points`."""
        self.references: dict[str, Measured] = {}
        self.told: set[str] = set()
        """Forget sets whose questions are written."""
        self.devices = Devices(self.run)
        self.is_device_sound = False
        self.num_tokens = 0
        """Read for the last point: prompts and answers."""
        self.lock = threading.Lock()
        self.measurer = measurer_of(
            self.run.checkpoints,
            BenchmarkUse.model_validate(setup["benchmark"]),
            ModelSource.model_validate(setup["model"]),
            Measurement.model_validate(setup["measurement"]),
        )

    def where(self) -> tuple[str | None, str | None]:
        """Name this process's device and node, which says that the process has started."""
        return device_name(), None

    def measure(
        self,
        point_id: str,
        blend: str,
        forget_size: str,
        attack: str | None = None,
        *,
        is_inside: bool = False,
    ) -> float:
        """Measure one point into the run folder, and score it; return the seconds it took.

        Writing a point twice changes nothing, so a call may be repeated after a crash. A point
        measured before the reference models it is compared with is left to the score stage.

        Args:
            point_id: Names the parts of tables.
            blend: As JSON.
            forget_size: Whose probes are asked.
            attack: What is done to it, see `raymcu.planning.plan.Attacked.call`.
            is_inside: Whether it is asked plain answers alone.

        Raises:
            DeviceError: If the device failed: this process is of no more use.
        """
        what, done = Blend.model_validate_json(blend), Done.of(attack)
        with self.lock:  # the model holds one blend
            started = time.perf_counter()
            try:
                rows, others = self._measured(point_id, what, forget_size, done, is_inside)
            except Exception as error:
                if is_device_error(error):
                    raise self.devices.failed(point_id, error) from error
                raise
            took = time.perf_counter() - started
            self.num_tokens = _tokens_of(rows)
        if not self.is_device_sound:
            self.devices.worked()
            self.is_device_sound = True
        asking = done.key if done is not None and done.asking is not None else ""
        references = {
            role: key
            for (size, how, role), (key, _) in self.alone.items()
            if (size, how) == (forget_size, asking)
        }
        if (
            point_id in references.values()
        ):  # scores given so far lacked what they are compared with
            there = set(self.run.parts("scores"))
            for point in self.run.plan["points"] if there else ():
                how = point["forget_size"], point.get("asking") or ""
                if how == (forget_size, asking) and point["id"] in there:
                    self.run.remove_part("scores", point["id"])
        for name, table in {**others, **self._tuned(point_id, what)}.items():
            self.run.write_part(name, point_id, table)
        self.run.write_part("measurements", point_id, rows)
        is_known = self.references.keys() | {point_id}
        if all(k in is_known or self.run.has_part("measurements", k) for k in references.values()):
            against = {role: self._reference(key) for role, key in references.items()}
            with_samples = self.sampled is None or point_id in self.sampled
            point = Measured(rows, others)
            keep_scores(self.run, point_id, point, against, with_samples=with_samples)
        return took

    def _measured(
        self,
        point_id: str,
        blend: Blend,
        forget_size: str,
        done: Done | None,
        is_inside: bool,
    ) -> tuple[pa.Table, dict[str, pa.Table]]:
        """Return a point's rows of table ``measurements``, and of others."""
        if done is not None and isinstance(done.attack, Reading):
            assert isinstance(self.measurer, Measurer)  # noqa: S101 - the plan saw to it
            read = self.measurer.read(point_id, blend, forget_size, done)
            return tables.empty("measurements"), {"readings": read}
        rows = self.measurer.measure(point_id, blend, forget_size, done=done, is_inside=is_inside)
        self._keep_questions(forget_size)
        return rows, {} if is_inside else self._compare(point_id, blend, forget_size, done)

    def _tuned(self, point_id: str, blend: Blend) -> dict[str, pa.Table]:
        """Return table ``tuned``: the examples that a relearned model has seen again."""
        if not blend.is_checkpoint:
            return {}
        folder = self.run.checkpoints.local_dir(blend.checkpoints[0])
        told = json.loads((folder / "recipe.json").read_text())
        keys = tuned_keys(Recipe.model_validate(told["recipe"]), self.measurer.benchmark)
        rows = [{"point_id": point_id, "example_key": key} for key in keys]
        return {"tuned": tables.from_rows("tuned", rows)} if rows else {}

    def read_layer(self, asked: Directions, layer: str, part: str, num_layers: int) -> None:
        """Read one layer of all checkpoints into a part of table ``geometry``.

        Writing it twice changes nothing, so a call may be repeated after a crash.

        Raises:
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        with self.lock:  # its device holds no second one
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

    def _compare(
        self, point_id: str, blend: Blend, forget_size: str, done: Done | None
    ) -> dict[str, pa.Table]:
        """Return the point's tables ``representations`` and ``sharpness``, as asked for."""
        found = {}
        if self.measurer.asked.sharpness and done is None:
            found["sharpness"] = self.measurer.sharpness(point_id, blend, forget_size)
        if not self.measurer.asked.representations:
            return found
        against: dict[str, Blend] = {
            role: other
            for (size, how, role), (_, other) in self.alone.items()
            if (size, how) == (forget_size, "")
            and role != "random"
            and self.run.checkpoints.is_done(other.checkpoints[0])
        }
        alike = self.measurer.compare(point_id, blend, forget_size, against, done)
        return {**found, "representations": alike}

    def _reference(self, key: str) -> Measured:
        if key not in self.references:
            self.references[key] = Measured(self.run.read_part("measurements", key))
        return self.references[key]


def _tokens_of(rows: pa.Table) -> int:
    """Count the tokens that are read for rows of table ``measurements``; 0 for classifiers."""
    answers = pc.sum(pc.list_value_length(rows["logprobs"])).as_py() or 0
    return answers + (pc.sum(rows["num_prompt_tokens"]).as_py() or 0)


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
        "sampled": None if (sampled := sampled_points(run)) is None else sorted(sampled),
    }


def _alone(run: RunFolder) -> list[dict[str, str]]:
    """Return the points of the reference models, as each way of asking asks them."""
    columns = ["point_id", "forget_size", "role", "blend", "attacked", "asking"]
    rows = run.read_table("points").select(columns).to_pylist()
    blends = {row["point_id"]: row["blend"] for row in rows}
    return [
        {"point_id": key, "forget_size": size, "asking": how, "role": role, "blend": blends[key]}
        for (size, how), models in references_of(rows).items()
        for role, key in models.items()
    ]
