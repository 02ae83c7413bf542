"""Runs trials in one warm process: trains what a trial lacks, measures its points, judges them.

No Ray; trials whose recipes ask for several workers are `raymcu.search.gangs`' business.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from raymcu.analysis.curves import analyze
from raymcu.errors import WorkError
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.kinds import measurer_of
from raymcu.metrics._base import METRICS, REFERENCES, Measured, References, Score
from raymcu.planning.objectives import judged, judged_along, with_attacks
from raymcu.planning.plan import Curve, Point
from raymcu.planning.recipes import Recipe
from raymcu.planning.trials import search_of
from raymcu.search.spec import Look, Progress, TrialSpec
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import from_rows
from raymcu.study.search_space import SearchSpace
from raymcu.training.progress import Looks
from raymcu.training.stopping import Stop
from raymcu.training.workshop import Workshop


def bench_setup(run: RunFolder, space: SearchSpace, workers: int = 1) -> dict[str, Any]:
    """Return what a `TrialBench` is made from, as JSON values.

    Made when the points of the reference models are in the folder.

    Args:
        run: That folder.
        space: With a ``search``.
        workers: That share a trial's largest training.
    """
    setup = setup_of(run, space)
    alone = {row["point_id"] for row in setup["alone"]}
    names = ["point_id", "attack", "strength", "attacked"]
    rows = run.read_table("points").select(names).to_pylist()
    attacked = [row for row in rows if row["attacked"] in alone]
    told = {"space": space.model_dump(mode="json"), "attacked": attacked, "workers": workers}
    return {**setup, **told}


class TrialBench:
    """One process's workshop and measuring model, kept from trial to trial.

    Args:
        setup: See `bench_setup`.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self.space = SearchSpace.model_validate(setup["space"])
        self.search = search_of(self.space)
        own = ("space", "attacked", "workers")
        self.setup = {key: value for key, value in setup.items() if key not in own}
        self.attacked: list[dict[str, Any]] = setup.get("attacked", [])
        self.run_folder = RunFolder(setup["run"], setup["store"])
        self.store = self.run_folder.checkpoints
        self.stop = Stop(self.run_folder)
        execution = self.space.execution
        self.workshop = Workshop(
            self.store,
            execution.save_every_s,
            stop=self.stop,
            deterministic=execution.deterministic,
        )

    @cached_property
    def actor(self) -> PointActor:
        """Who measures here."""
        return PointActor(self.setup)

    @cached_property
    def glance(self) -> "Glance":
        """Who looks at unfinished trainings."""
        return Glance(self.space, self.actor)

    def run(self, spec: TrialSpec, look: Look, progress: Progress) -> dict[str, float]:
        """Train, measure and judge one trial, see `raymcu.search.spec.Bench`."""
        for level in spec.levels:
            self._train([r for r in level if not self.store.is_done(r.id)], spec, look, progress)
        self._measure(
            [p for p in spec.points if not self.run_folder.has_part("scores", p.id)], progress
        )
        if self.search.curve is not None:
            return judged_along(self.search, self._findings(spec.curves))
        (size,) = {point.forget_size for point in spec.points}
        after: dict[str, list[tuple[str, float | None, str]]] = {}
        for point in spec.points:
            if (done := point.attack) is not None:
                after.setdefault(done.of, []).append((done.title, done.strength, point.id))
        scores = [
            self._all_scores(point.id, after.get(point.id, ()))
            for point in spec.points
            if point.attack is None
        ]
        return judged(self.search, scores, self._references(size))

    def _train(
        self, recipes: Sequence[Recipe], spec: TrialSpec, look: Look, progress: Progress
    ) -> None:
        """Make what is missing of a level."""
        for recipe in recipes:
            self._make(recipe, spec, look, progress)

    def _make(self, recipe: Recipe, spec: TrialSpec, look: Look, progress: Progress) -> None:
        (first, *_) = spec.points  # one training a trial is looked at, that of its first seed
        looks = None
        if self.search.pruner != "none" and recipe.id in first.blend.checkpoints:
            looks = Looks(
                self.search.looks,
                lambda number, weights: look(number, self.glance.at(first, recipe.id, weights)),
            )
        self.workshop.make(
            recipe,
            lambda step, steps, loss: progress(f"training {recipe.label}", step / steps, loss),
            looks,
        )

    def _measure(self, points: Sequence[Point], progress: Progress) -> None:
        """Measure and score what is missing of a trial's points."""
        for number, point in enumerate(points):
            progress(f"measuring {point.label}", number / len(points), None)
            attack = point.attack.call if point.attack else None
            blend, inside = point.blend.model_dump_json(), point.is_inside
            self.actor.measure(point.id, blend, point.forget_size, attack, is_inside=inside)

    def _scores(self, point_id: str) -> dict[str, Score]:
        if not self.run_folder.has_part("scores", point_id):  # see `PointActor.measure`
            missing = [
                row["role"]
                for row in self.setup["alone"]
                if not self.run_folder.has_part("measurements", row["point_id"])
            ]
            raise WorkError(
                "unscored",
                f"point {point_id} has no scores: the {' and the '.join(dict.fromkeys(missing))} "
                "model that it is compared with was not measured. See the failures.",
            )
        rows = self.run_folder.read_part("scores", point_id).to_pylist()
        return {
            row["metric"]: Score(row["value"], row["num_examples"], row["note"]) for row in rows
        }

    def _all_scores(
        self, point_id: str, after: Iterable[tuple[str, float | None, str]]
    ) -> dict[str, Score]:
        """Return the scores of a point, and those after attacks: title, strength and point."""
        attacked = [(title, strength, self._scores(key)) for title, strength, key in after]
        return with_attacks(self._scores(point_id), attacked)

    def _references(self, size: str) -> dict[str, dict[str, Score]]:
        after: dict[str, list[tuple[str, float | None, str]]] = {}
        for row in self.attacked:
            if self.run_folder.has_part("scores", row["point_id"]):
                told = (row["attack"], row["strength"], row["point_id"])
                after.setdefault(row["attacked"], []).append(told)
        return {
            row["role"]: self._all_scores(row["point_id"], after.get(row["point_id"], ()))
            for row in self.setup["alone"]
            if row["forget_size"] == size
            and not row["asking"]
            and self.run_folder.has_part("scores", row["point_id"])
        }

    def _findings(self, curves: tuple[Curve, ...]) -> list[dict[str, Any]]:
        rows = [
            {**curve.head, "t": t, "point_id": point, "role": "curve"}
            for curve in curves
            for t, point in curve.walk
        ]
        scores = [
            {"point_id": key, "metric": name, "value": found.value}
            for key in {row["point_id"] for row in rows}
            for name, found in self._scores(key).items()
        ]
        tolerance = self.space.analysis.tolerance
        tables = from_rows("points", rows), from_rows("scores", scores)
        found = list(analyze(*tables, tolerance)[0].to_pylist())
        judged_ids = {row["curve_id"] for row in found}
        for curve in curves:  # the worst of the others would be no worst
            if curve.id not in judged_ids:
                raise WorkError(
                    "undefined", f"{curve.family} curve {curve.id}: an end of it has no loss"
                )
        return found


class Glance:
    """Looks at an unfinished training: the objective, on the first examples of each probe.

    All else is asked as of the points, as objectives may be made of all of it, but for the states
    of layers, which `raymcu.planning.search_checks.search_faults` leaves no objective to ask for.

    Args:
        space: With a ``search`` that prunes, or this is never called.
        actor: Who knows the reference models.
    """

    def __init__(self, space: SearchSpace, actor: PointActor) -> None:
        search = search_of(space)
        self.names = search.objectives
        self.actor = actor
        few = min(search.look_examples, space.measurement.max_examples or search.look_examples)
        update = {"max_examples": few, "representations": (), "sharpness": ()}
        asked = space.measurement.model_copy(update=update)
        self.measurer = measurer_of(
            actor.run.checkpoints, space.benchmark, space.model, asked, cuts_forget=True
        )
        self.references: dict[str, References] = {}

    def at(self, point: Point, key: str, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the objective at a point, one of whose checkpoints is still being trained.

        Args:
            point: The trial's.
            key: Recipe id of that checkpoint.
            weights: All of its weights as they stand.

        Raises:
            WorkError: If the objective is undefined.
        """
        size = point.forget_size
        if size not in self.references:
            self.references[size] = self._measured(size)
        rows = self.measurer.measure(point.id, point.blend, size, {key: weights})
        found = {}
        for name in self.names:
            value = METRICS[name].score(Measured(rows), self.references[size])
            if value.value is None:
                raise WorkError("undefined", f"{name} of an unfinished training: {value.note}")
            found[name] = value.value
        return found

    def _measured(self, size: str) -> References:
        """Measure the reference models as a look does; the first of them opens the model."""
        return {
            role: Measured(self.measurer.measure(*self.actor.alone[size, "", role], size))
            for role in sorted(REFERENCES)
            if (size, "", role) in self.actor.alone
        }
