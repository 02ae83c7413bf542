"""What the trials of a search show: the best, the front, the history, what decides."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raymcu.report.search import Better, Objective, Trial

LEAST_FOR_IMPORTANCE = 4
"""Complete trials of a study below which importances would be made of nothing."""


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
