"""The best, the front, the history and what decides: known answers of plain values."""

import math

import pytest

from raymcu.report.search import Objective, Trial
from raymcu.report.search_findings import best_trials, history, importances, pareto_front, slice_of

UTILITY = Objective("utility", "higher")

LOSS = Objective("loss", "lower")


def trial(number, state="complete", study="s", params=None, **values):
    feasible = values.pop("feasible", None)
    looks = values.pop("looks", {})
    return Trial(
        trial_id=f"{study}/{number}", study=study, number=number, state=state, cell={},
        params=params or {}, objectives=values, violations={}, looks=looks, is_feasible=feasible,
        point_ids=(), took_s=None, message=None,
    )  # fmt: skip


def test_pareto_front_knows_directions():
    values = [(1, 1), (2, 1), (2, 3), (1, 4), (0, 0)]
    assert pareto_front(values, ["higher", "higher"]) == (2, 3)
    assert pareto_front(values, ["lower", "lower"]) == (4,)
    assert pareto_front(values, ["higher", "lower"]) == (1, 4)
    assert pareto_front([], ["higher"]) == ()


def test_equal_values_stand_on_the_front_together():
    assert pareto_front([(1, 2), (1, 2), (1, 1)], ["higher", "higher"]) == (0, 1)


def test_front_of_a_line_with_three_objectives_is_all_of_it():
    values = [(x, 1 - x, 0.5) for x in (0.0, 0.25, 0.5, 1.0)]
    assert pareto_front([*values, (0.0, 0.9, 0.5)], ["higher"] * 3) == (0, 1, 2, 3)


def test_best_is_the_best_feasible_trial_of_each_study():
    trials = [
        trial(0, utility=0.5),
        trial(1, utility=0.9, feasible=False),
        trial(2, utility=0.7, feasible=True),
        trial(3, utility=0.7, feasible=True),
        trial(4, state="pruned", utility=0.99),
        trial(0, study="other", utility=0.1, feasible=False),
    ]
    best = best_trials(trials, [UTILITY])
    assert [t.number for t in best["s"]] == [2]
    assert best["other"] == ()


def test_best_of_two_objectives_is_the_front_best_first():
    trials = [trial(0, utility=0.2, loss=1.0), trial(1, utility=0.8, loss=3.0),
              trial(2, utility=0.5, loss=3.0), trial(3, utility=0.9)]  # fmt: skip
    assert [t.number for t in best_trials(trials, [UTILITY, LOSS])["s"]] == [1, 0]


def test_history_marks_and_carries_the_best():
    trials = [
        trial(4, utility=0.9, feasible=True),
        trial(0, utility=0.3, feasible=False),
        trial(1, utility=0.2, feasible=True),
        trial(2, state="pruned", looks={"utility": ((1, 0.4), (2, 0.6))}),
        trial(3, state="failed"),
    ]
    found = [(s.number, s.value, s.kind, s.best) for s in history(trials, UTILITY)]
    assert found == [
        (0, 0.3, "infeasible", None),
        (1, 0.2, "feasible", 0.2),
        (2, 0.6, "pruned", 0.2),
        (3, None, "failed", 0.2),
        (4, 0.9, "feasible", 0.9),
    ]
    assert [s.best for s in history([trial(0, loss=1.0), trial(1, loss=2.0)], LOSS)] == [1.0, 1.0]


def test_slices_have_only_the_trials_with_the_parameter():
    trials = [trial(0, params={"a": 1}, utility=0.5), trial(1, params={"b": 2}, utility=0.6),
              trial(2, params={"a": 3}, utility=0.7, feasible=False),
              trial(3, state="failed", params={"a": 4})]  # fmt: skip
    assert slice_of(trials, "a", UTILITY) == ((1, 0.5, "feasible"), (3, 0.7, "infeasible"))


def _range(**asked):
    return {"float": None, "int": None, "choice": None, "log": False, "step": None} | asked


@pytest.mark.parametrize("objective", [UTILITY, LOSS])
def test_importance_finds_the_parameter_that_matters(objective):
    space = {"rate": _range(float=[1e-6, 1e-3], log=True), "idle": _range(int=[1, 8]),
             "kind": _range(choice=["a", "b"]), "rare": _range(float=[0, 1])}  # fmt: skip
    trials = []
    for number in range(60):
        rate = 10 ** (-6 + 3 * ((number * 0.618) % 1))
        params = {"rate": rate, "idle": 1 + number % 8, "kind": "ab"[number % 2]}
        params |= {"rare": number / 60} if number % 2 else {}
        bowl = (math.log10(rate) + 4.5) ** 2
        trials.append(trial(number, params=params, utility=-bowl, loss=bowl))
    shares = importances(trials, objective, space)
    assert set(shares) == set(space)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rate"] > 0.8
    assert importances(trials, objective, space) == shares


def test_importance_of_few_trials_is_refused_in_words():
    trials = [trial(n, params={"a": 1}, utility=n / 3) for n in range(3)]
    told = importances(trials, UTILITY, {"a": _range(int=[1, 2])})
    assert told == "3 complete trials: too few to tell (4 needed)"
    assert importances(trials[:1], UTILITY, {}).startswith("1 complete trial:")
