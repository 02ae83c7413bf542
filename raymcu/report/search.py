"""What a search found, from tables ``trials`` and ``trial_values`` alone; nothing here draws."""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from raymcu.planning.trials import cells, listed, study_name
from raymcu.report.console import number, plain_table
from raymcu.report.data import metric_info, unique
from raymcu.store.run_folder import RunFolder
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

Better = Literal["higher", "lower"]
LEAST_FOR_IMPORTANCE = 4
"""Complete trials of a study below which importances would be made of nothing."""


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
class Step:
    """One trial in the history of one objective."""

    number: int
    value: float | None
    """The objective, or of a pruned trial its last look; None if it came to neither."""
    kind: str
    """feasible, infeasible, pruned, failed or running."""
    best: float | None
    """Best of the feasible trials up to this one."""


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


def best_trials(
    trials: Iterable[Trial], objectives: Sequence[Objective]
) -> dict[str, tuple[Trial, ...]]:
    """Return of each study what is best: the feasible front, best in the first objective first.

    With one objective that is the best trial, the first of equals. A study none of whose trials
    is complete and feasible has an empty front.
    """
    fronts: dict[str, list[tuple[Trial, tuple[float, ...]]]] = {}
    for trial in trials:
        here = fronts.setdefault(trial.study, [])
        values = trial.at(objectives)
        if trial.kind == "feasible" and values is not None:
            here.append((trial, values))
    return {study: _front(found, objectives) for study, found in fronts.items()}


def _front(
    found: Sequence[tuple[Trial, tuple[float, ...]]], objectives: Sequence[Objective]
) -> tuple[Trial, ...]:
    chosen = pareto_front([values for _, values in found], [o.better for o in objectives])
    sign = -1.0 if objectives[0].better == "higher" else 1.0
    front = sorted((found[index] for index in chosen), key=lambda pair: sign * pair[1][0])
    return tuple(trial for trial, _ in (front[:1] if len(objectives) == 1 else front))


def pareto_front(
    values: Sequence[Sequence[float]], directions: Sequence[Better]
) -> tuple[int, ...]:
    """Return the places of the values that no other one dominates, in their order.

    One dominates another if it is at least as good in every objective and better in one; equals
    do not dominate each other.

    Args:
        values: Finite values, one row for each trial and one column for each objective.
        directions: What is better, for each objective.
    """
    if not values:
        return ()
    costs = np.asarray(values, float) * [-1.0 if d == "higher" else 1.0 for d in directions]
    return tuple(
        place
        for place, cost in enumerate(costs)
        if not ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any()
    )


def history(trials: Iterable[Trial], objective: Objective) -> tuple[Step, ...]:
    """Return one study's trials by number, with the best feasible value so far."""
    steps: list[Step] = []
    best: float | None = None
    choose = max if objective.better == "higher" else min
    for trial in sorted(trials, key=lambda trial: trial.number):
        value = trial.objectives.get(objective.name)
        looks = trial.looks.get(objective.name)
        if value is None and looks and trial.state != "complete":
            value = looks[-1][1]
        if trial.kind == "feasible" and value is not None:
            best = value if best is None else choose(best, value)
        steps.append(Step(trial.number, value, trial.kind, best))
    return tuple(steps)


def slice_of(
    trials: Iterable[Trial], parameter: str, objective: Objective
) -> tuple[tuple[Any, float, str], ...]:
    """Return (parameter, objective, kind) of the complete trials that have the parameter."""
    return tuple(
        (trial.params[parameter], trial.objectives[objective.name], trial.kind)
        for trial in trials
        if trial.state == "complete"
        and parameter in trial.params
        and objective.name in trial.objectives
    )


def importances(
    trials: Iterable[Trial], objective: Objective, space: Mapping[str, Mapping[str, Any]]
) -> dict[str, float] | str:
    """Return how much each parameter of a study decides which trials are among its best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv:2304.10255), as Optuna computes it: shares
    that sum to 1. Infeasible trials count too, as constraints are not what is asked here.

    Args:
        trials: Of one study.
        objective: Whose best tenth is explained.
        space: Ranges by key, the ``[search.space]`` of the plan.

    Returns:
        Shares by parameter, or why there are none.
    """
    found = [t for t in trials if t.state == "complete" and objective.name in t.objectives]
    known = [key for key in space if any(key in trial.params for trial in found)]
    if len(found) < LEAST_FOR_IMPORTANCE:
        few = f"{len(found)} complete trial{'' if len(found) == 1 else 's'}"
        return f"{few}: too few to tell ({LEAST_FOR_IMPORTANCE} needed)"
    if not known:
        return "no parameter varies"
    import optuna  # the page needs it, `raymcu status` does not

    ranges = {key: _distribution(space[key]) for key in known}
    sign = -1.0 if objective.better == "higher" else 1.0  # low is good for PED-ANOVA
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        for trial in found:
            params = {key: trial.params[key] for key in known if key in trial.params}
            study.add_trial(
                optuna.trial.create_trial(
                    value=sign * trial.objectives[objective.name],
                    params=params,
                    distributions={key: ranges[key] for key in params},
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that low is good is what it is told
            shares = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {key: float(shares[key]) for key in known if key in shares}


def _distribution(asked: Mapping[str, Any]) -> Any:
    """Return a range as Optuna's distribution."""
    from optuna import distributions

    if asked.get("choice") is not None:
        return distributions.CategoricalDistribution(asked["choice"])
    if asked.get("int") is not None:
        step = int(asked.get("step") or 1)
        return distributions.IntDistribution(*asked["int"], log=asked["log"], step=step)
    return distributions.FloatDistribution(
        *asked["float"], log=asked["log"], step=asked.get("step")
    )


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Name parameters by the last words of their keys, as many as tell them apart."""
    words = {key: key.split(".") for key in keys}
    return {
        key: next(
            ".".join(parts[-count:])
            for count in range(1, len(parts) + 1)
            if count == len(parts)
            or not any(
                other != key and others[-count:] == parts[-count:]
                for other, others in words.items()
            )
        )
        for key, parts in words.items()
    }


def value_text(value: Any) -> str:
    """Write a parameter's value; a float with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def params_text(trial: Trial, names: Mapping[str, str]) -> str:
    """Write a trial's parameters: ``learning_rate=1e-05, beta=0.1``."""
    return ", ".join(
        f"{names.get(key, key)}={value_text(value)}" for key, value in trial.params.items()
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


def tally(trials: Iterable[Trial]) -> str:
    """Count trials by what became of them: ``17 complete (3 infeasible), 2 pruned``."""
    kinds = [trial.kind for trial in trials]
    complete = kinds.count("feasible") + kinds.count("infeasible")
    text = f"{complete} complete"
    if bad := kinds.count("infeasible"):
        text += f" ({bad} infeasible)"
    counts = ((kind, kinds.count(kind)) for kind in ("pruned", "failed", "running"))
    return ", ".join([text, *(f"{count} {kind}" for kind, count in counts if count)])


def best_found(searched: Searched) -> str:
    """Say in a sentence or two what became of the trials, and what the best one is."""
    objectives = searched.objectives
    text = f"Of {len(searched.trials)} trials: {tally(searched.trials)}."
    fronts = best_trials(searched.trials, objectives).values()
    found = [trial for front in fronts for trial in front]
    if not found:
        return f"{text} None is complete and feasible."
    if len(objectives) > 1:
        names = " and ".join(objective.label for objective in objectives)
        return f"{text} {len(found)} are on the Pareto front of {names}."
    (objective,) = objectives
    choose = max if objective.better == "higher" else min
    best = choose(found, key=lambda trial: trial.objectives[objective.name])
    value = number(best.objectives[objective.name])
    return f"{text} Best {objective.label}: {value}, {best.trial_id}."


def trials_table(run: RunFolder) -> Table:
    """Lay the best trial of each study out, or its Pareto front; for the end of a search.

    Raises:
        StoreError: If a table is damaged.
    """
    searched = read_search(run)
    if searched is None:
        return plain_table("No search in this run")
    objectives = searched.objectives
    title = "Best trial of each study" if len(objectives) == 1 else "Pareto front of each study"
    table = plain_table(title, tally(searched.trials))
    table.add_column("study", overflow="fold")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in objectives:
        table.add_column(objective.label.replace(" ", "\n", 1), justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    table.add_column("point, for `raymcu export`", overflow="fold")
    names = short_names(searched.asked["space"])
    for study, front in best_trials(searched.trials, objectives).items():
        if not front:
            blanks = [""] * len(objectives)
            table.add_row(Text(study), "–", *blanks, Text("no feasible trial", style="yellow"), "")
        for index, trial in enumerate(front):
            table.add_row(
                Text("" if index else study),
                str(trial.number),
                *(number(trial.objectives[objective.name]) for objective in objectives),
                Text(params_text(trial, names)),
                Text("\n".join(trial.point_ids)),
            )
    return table
