"""Whether the trials of a search fit the devices, in how many workers: the largest are planned."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from raymcu.errors import ConfigError, shown
from raymcu.planning.facts import Surroundings
from raymcu.planning.fitting import Fitting, too_large, unfit
from raymcu.planning.objectives import asked_after
from raymcu.planning.plan import Plan
from raymcu.planning.planner import make_plan, plan_trial
from raymcu.planning.recipes import Recipe
from raymcu.planning.search_checks import gang_pruned, trial_faults
from raymcu.planning.surroundings import REGISTRIES, look_again
from raymcu.planning.trials import (
    Values,
    applied,
    largest_trials,
    mixing_of,
    most_workers,
    search_of,
)
from raymcu.study.search_space import SearchSpace

_BEFORE = {"original", "retrained", "learner"}
"""Roles of what is trained before there are trials."""


def plan_of_trial(space: SearchSpace, around: Surroundings, values: Mapping[str, Any]) -> Plan:
    """Plan a trial by the values of its cell and parameters.

    Raises:
        ConfigError: If they do not fit the file's rules.
    """
    if faults := trial_faults(space, values, REGISTRIES):
        raise ConfigError(faults)
    search, own = search_of(space), applied(space, values)
    there = look_again(around, own)
    if search.curve is not None:  # whose findings are of curves as they are
        return make_plan(own.model_copy(update={"attacks": ()}), there)
    return plan_trial(own, there, search.seeds, mixing_of(values), asked_after(search))


class TrialFitting:
    """What the trials of a search take of each device.

    Args:
        space: With a ``search``, checked by `raymcu.planning.search_checks.search_faults`.
        around: What the space's plans have to know.
    """

    def __init__(self, space: SearchSpace, around: Surroundings) -> None:
        self.space = space
        self.around = around
        self.fitting = Fitting(space, around)
        self._known: dict[str, list[Recipe]] = {}
        self.trials: list[tuple[Values, list[Recipe]]] = [
            (values, self._trained(values)) for values in largest_trials(space, self._size)
        ]
        """Values and trainings of the largest trials."""

    @property
    def workers(self) -> int:
        """Processes that share the largest training of a trial, at most."""
        worlds = (r.training.world for _, those in self.trials for r in those if r.training)
        return max(most_workers(self.space), *worlds)

    def unfit(self, made: Collection[str] = ()) -> Iterator[str]:
        """Say which trials do not fit, each of their tables once; `made` are there already."""
        told = set()
        for values, recipes in self.trials:
            missing = [recipe for recipe in recipes if recipe.id not in made]
            for recipe, fault in too_large(self.fitting, missing):
                table, _, text = fault.partition(": ")
                if (table, recipe.role, values.get("method")) not in told:
                    told.add((table, recipe.role, values.get("method")))
                    yield f"{table}: in a trial{_with(values)}, {text}"
        search = search_of(self.space)
        if search.pruner != "none" and self.workers > 1 and most_workers(self.space) == 1:
            yield gang_pruned(search.pruner)

    def _trained(self, values: Values) -> list[Recipe]:
        """Return what is trained for a trial; nothing of values that do not go together."""
        key = repr(sorted(values.items()))
        if key not in self._known:
            try:
                plan = plan_of_trial(self.space, self.around, values)
            except ConfigError:  # a trial that fails by itself
                plan = None
            recipes = plan.recipes.values() if plan else ()
            self._known[key] = [
                r for r in recipes if r.training is not None and r.role not in _BEFORE
            ]
        return self._known[key]

    def _size(self, values: Values) -> tuple[bool, float]:
        recipes = self._trained(values)
        is_unfit = any(not self.fitting.fits(recipe) for recipe in recipes)
        return is_unfit, max(map(self.fitting.over_all_workers, recipes), default=0.0)


def unfit_search(
    space: SearchSpace, around: Surroundings, plan: Plan, made: Collection[str] = ()
) -> Iterator[str]:
    """Say which trainings of a study, and of its search if it has one, do not fit.

    Arguments are those of `raymcu.planning.fitting.unfit`; the plan is of what trials are compared
    with.
    """
    yield from unfit(space, around, plan, made)
    if space.search is not None:
        yield from TrialFitting(space, around).unfit(made)


def trainings_of_trials(space: SearchSpace, around: Surroundings) -> list[Recipe]:
    """Return what is trained for the largest trials; nothing without a search."""
    trials = [] if space.search is None else TrialFitting(space, around).trials
    found = {r.id: r for _, recipes in trials for r in recipes if not r.bend and r.step is None}
    return list(found.values())


def _with(values: Values) -> str:
    told = ", ".join(f"{key} = {shown(value)}" for key, value in values.items())
    return f" with {told}" if told else ""
