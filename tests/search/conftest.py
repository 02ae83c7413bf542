"""A toy study: two methods whose utility is known in closed form, searched without any model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
import pytest

from raymcu.search.database import open_studies
from raymcu.search.searcher import CellSearcher, Told
from raymcu.search.spec import TrialSpec, Work
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

RATES = {
    "methods.npo.training.learning_rate": {"float": [1e-5, 1e-1], "log": True},
    "methods.grad_diff.training.learning_rate": {"float": [1e-5, 1e-1], "log": True},
}
BOWL = {
    "method": {"choice": ["npo", "grad_diff"]},
    **RATES,
    "mixing": {"float": [0.0, 1.0]},
}


def make_space(search=None, **content):
    """A search for the lowest retain loss over the bowl, with other keys of [search]."""
    return strictly(
        SearchSpace,
        {
            "name": "toy",
            "benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
            "model": {"scratch": {}},
            "methods": [{"name": "npo"}, {"name": "grad_diff"}],
            **content,
            "search": {
                "objectives": ["retain_loss"],
                "trials": 12,
                "concurrent": 1,
                "space": BOWL,
                **(search or {}),
            },
        },
    )


def bowl(values: Mapping[str, object]) -> dict[str, float]:
    """Zero where npo has rate 1e-3 and mixing 0.7; grad_diff is worse by 1 at its best."""
    method = values.get("method", "npo")
    rate = values.get(f"methods.{method}.training.learning_rate", 1e-3)
    best = -3 if method == "npo" else -2
    loss = (math.log10(rate) - best) ** 2 + 4 * (values.get("mixing", 0.7) - 0.7) ** 2
    return {"retain_loss": loss + (method != "npo")}


@dataclass
class Toy:
    """Runs a search trial by trial in this process, as Tune would with one worker."""

    space: SearchSpace
    storage: optuna.storages.BaseStorage = field(default_factory=optuna.storages.InMemoryStorage)
    numbers: object = bowl
    """Values to numbers; a word instead is why the trial failed."""
    missing: object = lambda values: ()
    """Values to the recipes that are not in the store."""
    is_alone: bool = True
    now: float = 0.0
    ended: list = field(default_factory=list)
    failures: dict = field(default_factory=dict)

    def __post_init__(self):
        self.studies = open_studies(self.space, self.storage)
        for study in self.studies:
            study.is_alone = self.is_alone
        work = Work(self._spec, lambda spec: self.missing(spec.values), lambda setup: None, {})
        told = Told(
            ended=lambda p: self.ended.append(p.label),
            failure=lambda p: self.failures.get(p.label),
            clock=lambda: self.now,
        )
        self.searcher = CellSearcher(self.studies, work, told)
        self.count = 0

    def _spec(self, values):
        return TrialSpec(values=values)

    def suggest(self):
        """Return Tune's id and what is suggested."""
        self.count += 1
        return f"tune{self.count}", self.searcher.suggest(f"tune{self.count}")

    def end(self, key, config, took_s=1.0):
        """Compute what a suggested trial asks, and tell."""
        self.now += took_s
        numbers = self.numbers(config["values"])
        if isinstance(numbers, str):
            self.failures[config["trial"]] = ("undefined", numbers)
            self.searcher.on_trial_complete(key, {})
        else:
            self.searcher.on_trial_complete(key, {**numbers, "is_final": True})
        if self.searcher.broken:
            raise self.searcher.broken

    def run(self, most=1000):
        """Run trials one after the other until the search ends; return it."""
        for _ in range(most):
            key, config = self.suggest()
            if self.searcher.broken:
                raise self.searcher.broken
            if config == "FINISHED":
                break
            self.end(key, config)
        return self

    @property
    def trials(self):
        """(study, number, state, params, values) of every trial, in order."""
        return [
            (study.name, t.number, t.state.name, t.params, t.values)
            for study in sorted(self.studies, key=lambda study: study.name)
            for t in study.trials()
        ]

    def best(self):
        """The lowest first objective of the first study."""
        return min(t.values[0] for t in self.studies[0].trials() if t.values)


@pytest.fixture
def toy():
    """Makes a toy of [search] keys; further arguments are the toy's own."""

    def make(search=None, *, content=None, **own):
        return Toy(make_space(search, **(content or {})), **own)

    return make


@pytest.fixture
def toy_space():
    """Makes the space alone."""
    return make_space


@pytest.fixture
def memory():
    """Opens one storage, as a driver that starts again does, without SQLite's delays."""
    storage = optuna.storages.InMemoryStorage()
    return lambda: storage


@pytest.fixture
def sqlite(tmp_path):
    """Opens one SQLite file, anew each time."""
    opened = []

    def open_again():
        opened.append(optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}"))
        return opened[-1]

    yield open_again
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()
