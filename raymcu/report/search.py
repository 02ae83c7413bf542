"""What a search found, from tables ``trials`` and ``trial_values`` alone; nothing here draws."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from pydantic import ValidationError

from raymcu.planning.trials import cells, listed, study_name
from raymcu.report.data import metric_info, unique
from raymcu.store.run_folder import RunFolder
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Objective:
    """What a search improves, and in which direction."""

    name: str
    better: Better

    @property
    def label(self) -> str:
        """Name for people, with the direction."""
        return f"{self.name.replace('_', ' ')} {'↑' if self.better == 'higher' else '↓'}"


@dataclass(frozen=True)
class Trial:
    """One trial with all its numbers; a value that is missing or not finite is left out."""

    trial_id: str
    study: str
    number: int
    state: str
    """complete, pruned, failed or running."""
    cell: Mapping[str, Any]
    params: Mapping[str, Any]
    objectives: Mapping[str, float]
    violations: Mapping[str, float]
    """By constraint as written; met if <= 0."""
    looks: Mapping[str, tuple[tuple[int, float], ...]]
    """(look, value) of each objective on the way."""
    is_feasible: bool | None
    point_ids: tuple[str, ...]
    took_s: float | None
    message: str | None

    @property
    def kind(self) -> str:
        """State, where a complete trial is ``feasible`` or ``infeasible``."""
        if self.state != "complete":
            return self.state
        return "infeasible" if self.is_feasible is False else "feasible"

    def at(self, objectives: Iterable[Objective]) -> tuple[float, ...] | None:
        """Return its values of the objectives; None if one is missing."""
        values = [self.objectives.get(objective.name) for objective in objectives]
        found = tuple(value for value in values if value is not None)
        return found if len(found) == len(values) else None


@dataclass(frozen=True)
class Searched:
    """A run's search: what was asked and what its trials came to."""

    name: str
    """Of the search space."""
    asked: Mapping[str, Any]
    """The ``[search]`` table as plan.json has it."""
    num_studies: int
    """Studies that the grid has, begun or not."""
    trials: tuple[Trial, ...]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives in the file's order; columns of findings, which ``curve`` asks, are lower."""
        names = self.asked["objectives"]
        is_along = self.asked.get("curve") is not None
        return tuple(
            Objective(name, "lower" if is_along else _better(metric_info(name).better))
            for name in names
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """Studies that have a trial, in the grid's order."""
        return unique(trial.study for trial in self.trials)

    def of(self, study: str) -> tuple[Trial, ...]:
        """Return a study's trials, by number."""
        return tuple(trial for trial in self.trials if trial.study == study)


def _better(direction: str) -> Better:
    return "higher" if direction == "higher" else "lower"


def search_asked(plan: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the plan's ``[search]`` table; None if the run is no search."""
    asked: Mapping[str, Any] | None = (plan.get("search_space") or {}).get("search")
    return asked


def budgets(plan: Mapping[str, Any]) -> Mapping[str, int | None]:
    """Return the studies of the plan's search, in the grid's order, and how many trials each has.

    None where only time or trainings end a study. Nothing if the run is no search.
    """
    if search_asked(plan) is None:
        return {}
    return _budgets(json.dumps(plan["search_space"]))


@lru_cache(maxsize=4)
def _budgets(text: str) -> Mapping[str, int | None]:
    raw = json.loads(text)
    asked = raw["search"]
    try:
        space = strictly(SearchSpace, raw)
    except ValidationError:  # of another raymcu: cells that do not exist may be among these
        grid = asked.get("grid") or {}
        found = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        names = (", ".join(f"{key}={value}" for key, value in cell.items()) for cell in found)
        return {name or raw["name"]: asked["trials"] for name in names}
    known: dict[str, int | None] = {}
    for cell in cells(space):
        bounds = [] if asked["trials"] is None else [asked["trials"]]
        if asked["sampler"] == "grid":
            bounds.append(len(listed(space, cell)))
        known[study_name(space, cell)] = min(bounds, default=None)
    return known


def read_search(run: RunFolder) -> Searched | None:
    """Read a run's search; None if it is none.

    Raises:
        StoreError: If a table is damaged.
    """
    plan = run.plan
    asked = search_asked(plan)
    if asked is None:
        return None
    return Searched(plan["name"], asked, len(budgets(plan)), read_trials(run))


def read_trials(run: RunFolder) -> tuple[Trial, ...]:
    """Return the trials of a run with their values, by cell of the grid and number.

    Raises:
        StoreError: If a table is damaged.
    """
    rows, values = (run.read_table(name).to_pylist() for name in ("trials", "trial_values"))
    return trials_of(rows, values, budgets(run.plan))


def trials_of(
    rows: Iterable[Mapping[str, Any]],
    values: Iterable[Mapping[str, Any]],
    studies: Iterable[str],
) -> tuple[Trial, ...]:
    """Put rows of ``trials`` and ``trial_values`` together, by number in the order of studies."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for value in values:
        if value["value"] is not None and math.isfinite(value["value"]):
            found.setdefault(value["trial_id"], []).append(value)
    trials = [_trial(row, found.get(row["trial_id"], [])) for row in rows]
    rank = {study: place for place, study in enumerate(studies)}
    last = len(rank)
    return tuple(sorted(trials, key=lambda t: (rank.get(t.study, last), t.study, t.number)))


def _trial(row: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> Trial:
    looks: dict[str, list[tuple[int, float]]] = {}
    for value in values:
        if value["kind"] == "look":
            looks.setdefault(value["name"], []).append((value["look"], value["value"]))
    return Trial(
        trial_id=row["trial_id"],
        study=row["study"],
        number=row["number"],
        state=row["state"],
        cell=json.loads(row["cell"] or "{}"),
        params=json.loads(row["params"] or "{}"),
        objectives={v["name"]: v["value"] for v in values if v["kind"] == "objective"},
        violations={v["name"]: v["value"] for v in values if v["kind"] == "constraint"},
        looks={name: tuple(sorted(found)) for name, found in looks.items()},
        is_feasible=row["is_feasible"],
        point_ids=tuple(row["point_ids"] or ()),
        took_s=row["took_s"],
        message=row["message"],
    )


@dataclass(frozen=True)
class Tally:
    """Trials of one study by what became of them."""

    study: str
    complete: int
    running: int
    pruned: int
    failed: int
    budget: int | None
    """Trials asked for; None if only time or trainings end the search."""

    @property
    def ended(self) -> int:
        """Trials that count against the budget."""
        return self.complete + self.pruned + self.failed


def tallies(trials: Iterable[Trial], asked: Mapping[str, int | None]) -> tuple[Tally, ...]:
    """Count each study's trials by state; studies that have not begun have none.

    Args:
        trials: Of the search.
        asked: Budget by study, as `budgets` gives them.
    """
    states: dict[str, list[str]] = {study: [] for study in asked}
    for trial in trials:
        states.setdefault(trial.study, []).append(trial.state)
    return tuple(
        Tally(
            study=study,
            complete=found.count("complete"),
            running=found.count("running"),
            pruned=found.count("pruned"),
            failed=found.count("failed"),
            budget=asked.get(study),
        )
        for study, found in states.items()
    )
