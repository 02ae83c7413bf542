"""What of a plan is done, failed or missing in a run folder, and the tables that say so."""

import importlib.metadata
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pyarrow as pa
import tomli_w

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError, StoreError
from raymcu.planning.costs import SetSize, trained_characters
from raymcu.planning.graph import Graph, stage_of
from raymcu.planning.plan import Plan
from raymcu.planning.recipes import PASSING, Recipe
from raymcu.store import tables, versions
from raymcu.store.run_folder import RunFolder, failure_row
from raymcu.study.search_space import SearchSpace

FINAL_REASONS = frozenset({"diverged", "too_long"})
"""Failures that trying again would only repeat: same seed, same numbers."""

_WRITING = 0.02
"""Of the time at most so much goes into writing a plan that grows with every trial."""
_TOLD = ("num_steps", "final_loss", "train_s")
"""Of a recipe by its checkpoint."""
_UNDONE = "skipped"
"""Part of the failures table with all that was not done for another's sake."""


class Ledger:
    """The state of one plan in one run folder.

    Args:
        run: The folder.
        plan: What must exist.
        follow: Returns the plan that the folder's findings call for after another.
    """

    def __init__(
        self, run: RunFolder, plan: Plan, follow: Callable[[Plan], Plan] = lambda plan: plan
    ) -> None:
        self.run = run
        self.plan = plan
        self._follow = follow
        self._ahead = plan
        """What findings have called for while this plan was at work."""
        self._whole = plan
        self._context: Mapping[str, Any] = {}
        self._keeps_relearned = False
        self._added: dict[str, dict[str, Any]] = {"recipes": {}, "curves": {}, "points": {}}
        """What the plan was extended by and its files do not tell yet."""
        self._writes_at: float | None = None
        """When they may be written again; None: at once."""
        self.reused = {key for key in plan.recipes if run.checkpoints.is_done(key)}

    def begin(self, space: SearchSpace, command: str = "", *, extend: bool | None) -> None:
        """Write what was asked and what must exist; forget failures that are worth a new try.

        Args:
            space: What was asked.
            command: The line that asked, for ``run.json``.
            extend: Whether to add to the folder of another search space; None if nobody may.

        Raises:
            ConfigError: If the folder holds the run of another search space.
            StoreError: If a checkpoint or table that is there is damaged.
        """
        if self.run.exists("plan.json"):
            there = self.run.plan
            if there.get("plan_id") != self.plan.id and not extend:
                adding = ", or --extend to add this search space's work to that folder"
                raise ConfigError(
                    f"{self.run.url}: the plan there is of another search space "
                    f"('{there.get('name')}', {there.get('plan_id')}; this one is "
                    f"'{self.plan.name}', {self.plan.id}). Give a new folder with --out"
                    f"{'' if extend is None else adding}."
                )
        resolved = space.model_dump(mode="json", exclude_none=True)
        self.run.write_bytes("search_space.toml", tomli_w.dumps(resolved).encode())
        use = space.benchmark
        self._keeps_relearned = space.execution.keep_relearned
        benchmark = BENCHMARKS[use.name](**use.options)
        meanings = {size: benchmark.meaning(size) for size in use.forget_sizes}
        self._context = {
            "raymcu": importlib.metadata.version("raymcu"),
            "store": self.run.checkpoints.folder.url,
            "search_space": space.model_dump(mode="json"),
            "classes": list(benchmark.class_names),
            "forget_sets": {size: told for size, told in meanings.items() if told},
        }
        self._write_plan()
        for part in self.run.parts("failures"):
            reasons = set(self.run.read_part("failures", part)["reason"].to_pylist())
            if not reasons <= FINAL_REASONS:
                self.run.remove_part("failures", part)
        self.run.remove("devices")  # which failed in an earlier run, and are tried again
        self.note(command=command, started=datetime.now(UTC).isoformat(), finished=None)

    def rounds(self) -> Iterator[None]:
        """Set the plan to what is certain, then to what findings call for, till they call no more.

        One round, unless curves wait for the barriers of others (``curves.quadratic``) or
        positions and layers for the scores of others (``calibration``, ``layer_choice``).
        """
        done: list[list[str]] | None = None
        while (plan := self._follow(self.plan)).content != done:
            self.plan = self._ahead = replace(plan, asked=self._whole.id)
            self._write_plan()
            self._reopen()
            yield
            self.run.gather()
            self._drop_passed()
            done = plan.content

    def look_ahead(self, graph: Graph) -> Mapping[str, int]:
        """Add to a graph of work what findings so far call for, as a later round will.

        What that is depends on nothing that is still at work, so it comes to the same; the rounds
        find it done.

        Returns:
            By stage, how many items were added.
        """
        before = graph.size
        self.run.gather()
        self._ahead = self._follow(self._ahead)
        self._fill(graph, self._ahead)
        return graph.size - before

    def extend(self, plans: Iterable[Plan]) -> None:
        """Add what other plans hold, e.g. those of trials; what is there keeps its name.

        The files tell it at once, or in a block of `growing` after a while.
        """
        for plan in plans:
            for name, added in self._added.items():
                there, more = getattr(self.plan, name), getattr(plan, name)
                new = {key: it for key, it in more.items() if key not in there and key not in added}
                added |= new
                if name == "recipes":
                    self.reused |= {key for key in new if self.run.checkpoints.is_done(key)}
        if self._writes_at is None or time.monotonic() >= self._writes_at:
            self._grow()

    @contextmanager
    def growing(self) -> Iterator[None]:
        """While the block runs, take a small share of the time to write a plan that is extended.

        Whoever extends it can do so again after a crash: the rows of trials tell what they need.
        """
        self._writes_at = 0.0
        try:
            yield
        finally:
            self._writes_at = None
            self._grow()

    def _grow(self) -> None:
        began = time.monotonic()
        more: dict[str, Any] = {
            name: {**getattr(self.plan, name), **new} for name, new in self._added.items()
        }
        self.plan = replace(self.plan, **more, asked=self._whole.id)
        self._added = {name: {} for name in more}
        self._write_plan()
        if self._writes_at is not None:
            self.run.gather()
            ended = time.monotonic()
            self._writes_at = ended + (ended - began) / _WRITING

    def recipe(self, key: str) -> Recipe | None:
        """Return what is to exist by its id, in whatever plan so far; threads may ask."""
        for plan in (self._added["recipes"], self.plan.recipes, self._ahead.recipes):
            if key in plan:
                return plan[key]
        return None

    def _is_done(self, recipe: str) -> bool:
        """Say whether a checkpoint is there; what was at the beginning is not looked at again."""
        return recipe in self.reused or self.run.checkpoints.is_done(recipe)

    def graph(self, sets: Mapping[str, SetSize]) -> Graph:
        """Return what is missing and can still be done, as one graph of work.

        Args:
            sets: Sizes of the benchmark's sets: how much work each training is.
        """
        graph = Graph(lambda recipe: trained_characters(recipe, sets))
        self._fill(graph, self.plan)
        return graph

    def _fill(self, graph: Graph, plan: Plan) -> None:
        is_done, failed = cache(self._is_done), self.failed()
        measured = set(self.run.parts("measurements"))
        recipes = [r for r in plan.recipes.values() if r.id not in failed and not is_done(r.id)]
        points = [p for p in plan.points.values() if p.id not in measured | failed]
        passing = (r.id for r in plan.recipes.values() if r.role in PASSING and is_done(r.id))
        lacking = {key for key in passing if not self.run.checkpoints.has_weights(key)}
        graph.add(
            recipes, points, lambda key: is_done(key) and key not in lacking, plan.compared_with
        )

    def counts(self, graph: Graph) -> dict[str, tuple[int, int]]:
        """Return by stage how many items a graph leaves alone, and how many there are in all."""
        whole = Counter(stage_of(recipe) for recipe in self.plan.recipes.values())
        whole["measure"] = len(self.plan.points)
        missing, names = graph.size, ("train", "connect", "measure")
        return {name: (whole[name] - missing[name], whole[name]) for name in names}

    def _passing(self) -> tuple[set[str], set[str], set[str]]:
        """Return passing checkpoints: those with weights, those without, and all that are needed.

        They are needed by what is to be measured, or to be trained from them.
        """
        passing = {r.id for r in self.plan.recipes.values() if r.role in PASSING}
        there = {key for key in passing if self.run.checkpoints.is_done(key)}
        if not there:
            return set(), set(), set()
        whole = {key for key in there if self.run.checkpoints.has_weights(key)}
        lacking = there - whole
        told = set(self.run.parts("measurements")) | self.failed()
        needed = {key for p in self.plan.points.values() if p.id not in told for key in p.needs}
        if self._keeps_relearned:
            needed.update(r.id for r in self.plan.recipes.values() if r.role == "relearned")
        for recipe in reversed(list(self.plan.recipes.values())):  # children first
            is_made_anew = recipe.id in lacking and recipe.id in needed
            if is_made_anew or not self._is_done(recipe.id):
                needed.update(recipe.parents.values())
        return whole, lacking, needed

    def _drop_passed(self) -> None:
        """Delete weights that were made to be measured, or to start from, and have been.

        Of a store that several runs share nothing is deleted: another one may need it.
        """
        if self.run.checkpoints.folder.url == f"{self.run.url}/checkpoints":
            whole, _, needed = self._passing()
            for key in whole - needed:
                self.run.checkpoints.drop_weights(key)

    def _reopen(self) -> None:
        """Forget checkpoints whose weights were deleted and are needed again."""
        _, lacking, needed = self._passing()
        for key in lacking & needed:
            self.run.checkpoints.folder.remove(key)
            self.reused.discard(key)

    def failed(self) -> set[str]:
        """Return the ids of recipes and points that failed in themselves."""
        return {part for part in self.run.parts("failures") if part != _UNDONE}

    def record_undone(self) -> None:
        """Write a row for everything that was planned and is not there: planned minus done is told.

        Most of it is skipped, as a parent or a checkpoint of it is not there. What nobody can
        account for is called undone.
        """
        failed = self.failed()
        done = {key for key in self.plan.recipes if self._is_done(key)}
        measured = set(self.run.parts("measurements"))
        rows = [
            _undone(r.id, stage_of(r), r.label, "a parent", done.issuperset(r.parents.values()))
            for r in self.plan.recipes.values()
            if r.id not in done | failed
        ]
        rows += [
            _undone(p.id, "measure", p.label, "a checkpoint", done.issuperset(p.needs))
            for p in self.plan.points.values()
            if p.id not in measured | failed
        ]
        self.run.remove_part("failures", _UNDONE)
        if rows:
            self.run.write_part("failures", _UNDONE, tables.from_rows("failures", rows))

    def failures(self) -> pa.Table:
        """Return the failures table."""
        return self.run.read_table("failures")

    def write_recipes(self) -> None:
        """Write the recipes table from what the checkpoints say of themselves."""
        before = {row["recipe_id"]: row for row in self.run.read_table("recipes").to_pylist()}
        rows = []
        for number, level in enumerate(self.plan.levels):
            for recipe in level:
                known = before.get(recipe.id, {}) if recipe.id in self.reused else {}
                told = {name: known.get(name) for name in _TOLD}
                if told["train_s"] is None:
                    told = self._told(recipe.id)
                rows.append(
                    {
                        "recipe_id": recipe.id,
                        "role": recipe.role,
                        "label": recipe.label,
                        "forget_size": recipe.forget_size,
                        "level": number,
                        "was_reused": recipe.id in self.reused,
                        "recipe": recipe.model_dump_json(),
                        **told,
                    }
                )
        self.run.write_part("recipes", "all", tables.from_rows("recipes", rows))

    def note(self, **facts: Any) -> None:
        """Add facts about this run, e.g. times, to ``run.json``."""
        known = self.run.read_json("run.json") if self.run.exists("run.json") else {}
        self.run.write_json("run.json", {**known, "versions": versions.installed(), **facts})

    def end(self, seconds: Mapping[str, float]) -> None:
        """Note that all is done, and add what each stage took to what earlier runs here took."""
        self.run.gather()
        self.run.settle()
        known = self.run.read_json("run.json").get("times_s", {})
        times = {**known, **{k: known.get(k, 0.0) + v for k, v in seconds.items()}}
        self.note(times_s=times, finished=datetime.now(UTC).isoformat())

    def _told(self, key: str) -> dict[str, Any]:
        checkpoints = self.run.checkpoints
        if not checkpoints.is_done(key):
            return {}
        try:
            told = json.loads(checkpoints.folder.read_bytes(f"{key}/recipe.json"))
        except (OSError, ValueError) as error:
            path = checkpoints.folder.path_url(f"{key}/recipe.json")
            raise StoreError(f"{path}: cannot be read ({error}). Delete the folder.") from error
        return {name: told[name] for name in _TOLD}

    def _write_plan(self) -> None:
        self.run.write_json("plan.json", {**self.plan.to_json(), **self._context})
        points = tables.from_rows("points", self.plan.point_rows())
        self.run.write_part("points", "all", points)


def _undone(
    item_id: str, stage: str, label: str, needed: str, has_needed: bool
) -> Mapping[str, Any]:
    if has_needed:
        told = "nobody did it, or said why not. Run the same command again."
        return failure_row(item_id, stage, label, "undone", told)
    return failure_row(item_id, stage, label, "skipped", f"{needed} was not trained.")
