"""What a search asked and what its trials came to, as read from the tables."""

import math

from raymcu.report.search import Objective, budgets, read_search, read_trials, trials_of
from raymcu.report.search_words import tally
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

UTILITY = Objective("utility", "higher")


def test_a_value_that_is_no_number_is_left_out():
    row = {"trial_id": "s/0", "study": "s", "number": 0, "state": "complete", "cell": None,
           "params": None, "point_ids": None, "is_feasible": None, "took_s": 1.0,
           "message": None}  # fmt: skip
    values = [{"trial_id": "s/0", "kind": "objective", "name": "utility", "value": value}
              for value in (None, math.nan)]  # fmt: skip
    (found,) = trials_of([row], values, [])
    assert found.objectives == {}
    assert found.at([UTILITY]) is None


def test_trials_are_read_from_the_tables(search_run):
    searched = read_search(search_run)
    assert searched.studies == ("forget_size=forget01", "forget_size=forget05")
    assert searched.num_studies == 2
    assert [o.label for o in searched.objectives] == ["model utility ↑", "forget quality log10 ↑"]
    first = searched.of("forget_size=forget01")[1]
    assert (first.trial_id, first.number, first.kind) == ("forget_size=forget01/1", 1, "feasible")
    assert first.cell == {"forget_size": "forget01"}
    assert first.violations == {"retain_loss <= 0.8": -0.1}
    assert tally(searched.trials) == "32 complete (6 infeasible), 7 failed, 1 running"


def test_studies_stand_in_the_order_asked_and_their_trials_by_number():
    rows = [
        {"trial_id": f"{method}/{n}", "study": method, "number": n, "state": "running",
         "cell": f'{{"method": "{method}"}}', "params": "{}", "point_ids": [],
         "is_feasible": None, "took_s": None, "message": None}
        for method, n in [("dpo", 1), ("npo", 0), ("dpo", 0), ("ga", 0)]
    ]  # fmt: skip
    trials = trials_of(rows, [], ["npo", "ga", "dpo"])
    assert [t.trial_id for t in trials] == ["npo/0", "ga/0", "dpo/0", "dpo/1"]


def test_budgets_by_study():
    """By hand: npo with two betas and grad_diff, which has none, are three cells."""
    raw = {
        "name": "toy",
        "benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
        "model": {"scratch": {}},
        "methods": [{"name": "npo"}, {"name": "grad_diff"}],
        "search": {
            "grid": {"method": ["npo", "grad_diff"], "methods.npo.beta": [0.1, 0.5]},
            "space": {"mixing": {"choice": [0.25, 0.5, 1.0]}},
            "trials": 12,
        },
    }

    def budgets_with(**search):
        raw["search"] |= search
        return budgets({"search_space": strictly(SearchSpace, raw).model_dump(mode="json")})

    assert budgets_with() == {
        "method=npo, methods.npo.beta=0.1": 12,
        "method=npo, methods.npo.beta=0.5": 12,
        "method=grad_diff": 12,
    }
    assert set(budgets_with(sampler="grid").values()) == {3}
    assert set(budgets_with(sampler="tpe", trials=None, hours=2.0).values()) == {None}
    assert budgets({"search_space": {}}) == {}


def test_looks_are_read_in_their_order(pruned_run):
    pruned = next(t for t in read_trials(pruned_run) if t.state == "pruned")
    assert [look for look, _ in pruned.looks["model_utility"]] == [1, 2]


def test_a_run_that_is_no_search_has_none(half_run):
    assert read_search(half_run) is None
    assert read_trials(half_run) == ()
