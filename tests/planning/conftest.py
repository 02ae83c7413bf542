"""Search spaces with a [search] table, as trials are made of."""

import pytest

from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

METHODS = [
    {"name": "npo", "beta": 0.2, "training": {"epochs": 3.0}},
    {"name": "grad_diff"},
    {"name": "npo", "label": "npo.long run"},
]


@pytest.fixture
def space():
    """A space with that [search] table, written as in TOML."""

    def of(search, **content):
        raw = {
            "name": "toy",
            "benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
            "model": {"scratch": {}},
            "methods": METHODS,
            **content,
            "search": {"trials": 4, "objectives": ["model_utility"], **search},
        }
        return strictly(SearchSpace, raw)

    return of


@pytest.fixture
def conditional():
    """Parameters of which some wait for others."""
    return {
        "methods.npo.training.learning_rate": {"float": [1e-4, 1e-2], "log": True},
        "methods.npo.long run.beta": {"float": [0.1, 0.3], "step": 0.1},
        "unlearning.training.epochs": {"int": [1, 3], "when": {"mixing": [0.5, 1.0]}},
        "mixing": {"choice": [0.25, 0.5, 1.0]},
        "method": {"choice": ["npo", "grad_diff", "npo.long run"]},
    }
