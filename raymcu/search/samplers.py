"""Optuna's samplers, made anew for every trial so that a search repeats, however often it stops.

A sampler that lived on would draw from a stream of random numbers that a killed driver takes with
it; the next one would begin that stream again. Everything else a sampler knows it reads from the
study.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from raymcu.store.ids import content_id
from raymcu.study.search_table import Search

_LARGEST_POPULATION = 50


def sampler_for(search: Search, study: str, number: int, *, is_alone: bool) -> Any:
    """Return the sampler for one trial of a study; ``grid`` has none, see `Given`.

    GP models the parameters that all trials have; those of one method only are drawn at random.
    NSGA-II's population is a quarter of the trials, 50 at most: with Optuna's 50 a search of 40
    trials would be a random one.

    Args:
        search: Which sampler, and the seed.
        study: Name of the study.
        number: Of the trial in it.
        is_alone: Whether trials run one at a time; if not, TPE counts those at work as bad ones,
            so that it does not propose them again.
    """
    seed = int(content_id([search.seed, study, number]), 16) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if search.sampler == "tpe":
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=not is_alone
            )
        if search.sampler == "nsga2":
            size = min(_LARGEST_POPULATION, max(4, (search.trials or 200) // 4))
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)
        if search.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)


class Given(optuna.samplers.BaseSampler):  # type: ignore[misc] # Optuna is untyped
    """Proposes what it is given: one line of a grid. Optuna's own knows no conditions."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Return no parameters: none hangs on another."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, distribution: Any) -> Any:
        """Return the parameter's value."""
        return self.values[param_name]


def pruner_for(search: Search) -> Any:
    """Return what ends hopeless trials, by the looks that the study holds.

    ``median``: worse than the median of at least five others at the same look. ``asha``:
    asynchronous successive halving, at looks 1, 2, 4, … only the better half goes on.
    """
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if search.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()
