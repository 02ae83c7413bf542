"""What a search found: known answers of plain values, then its figures, table and page section."""

import math
from dataclasses import replace

import pytest
from rich.console import Console

from raymcu.report.data import load_study
from raymcu.report.page import write_report
from raymcu.report.search import (
    Objective,
    Trial,
    best_found,
    best_trials,
    budgets,
    history,
    importances,
    pareto_front,
    read_search,
    read_trials,
    short_names,
    slice_of,
    tally,
    trials_of,
    trials_table,
)
from raymcu.report.search_figures import search_drawings
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

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


def test_a_value_that_is_no_number_is_left_out():
    row = {"trial_id": "s/0", "study": "s", "number": 0, "state": "complete", "cell": None,
           "params": None, "point_ids": None, "is_feasible": None, "took_s": 1.0,
           "message": None}  # fmt: skip
    values = [{"trial_id": "s/0", "kind": "objective", "name": "utility", "value": value}
              for value in (None, math.nan)]  # fmt: skip
    (found,) = trials_of([row], values, [])
    assert found.objectives == {}
    assert found.at([UTILITY]) is None


def test_short_names_are_as_short_as_tells_apart():
    keys = ["method", "unlearning.training.learning_rate", "methods.npo.beta", "methods.dpo.beta"]
    assert list(short_names(keys).values()) == ["method", "learning_rate", "npo.beta", "dpo.beta"]
    assert short_names(["beta", "methods.npo.beta"]) == {
        "beta": "beta",
        "methods.npo.beta": "npo.beta",
    }


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


def printed(table):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_trials_table_names_the_best_and_its_point(pruned_run):
    searched = read_search(pruned_run)
    text = printed(trials_table(pruned_run))
    best = [front[0] for front in best_trials(searched.trials, searched.objectives).values()]
    assert all(t.point_ids[0] in text for t in best)
    assert "Best trial of each study" in text
    assert "learning_rate=" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "Pareto" not in text


def test_trials_table_of_two_objectives_is_the_front(search_run):
    searched = read_search(search_run)
    fronts = best_trials(searched.trials, searched.objectives)
    text = printed(trials_table(search_run))
    assert all(t.point_ids[0] in text for front in fronts.values() for t in front)
    assert "Pareto front" in text


def drawings_of(run):
    return {d.name: d for d in search_drawings(read_search(run), load_study(run).endpoints)}


def test_figures_of_two_objectives(search_run):
    found = drawings_of(search_run)
    assert list(found) == [
        "search_history", "search_pareto", "search_importance",
        "search_slices_1", "search_slices_2",
    ]  # fmt: skip
    assert {d.section for d in found.values()} == {"search"}
    pareto = found["search_pareto"].svg.decode()
    assert "retrained" in pareto
    assert "forget quality log10 ↑" in pareto
    assert "learning_rate" in found["search_importance"].svg.decode()


def test_nothing_is_drawn_before_a_trial_has_a_value(half_run):
    plan = half_run.plan
    plan["search_space"]["search"] = {
        "objectives": ["utility"], "space": {}, "grid": {}, "trials": 3,
    }  # fmt: skip
    half_run.write_json("plan.json", plan)
    assert drawings_of(half_run) == {}


def test_the_report_of_a_search_alone(pruned_run):
    plan = pruned_run.plan | {"curves": [], "curve_points": []}
    pruned_run.write_json("plan.json", plan)
    write_report(pruned_run)
    page = pruned_run.read_bytes("report/index.html").decode()
    searched = read_search(pruned_run)
    best = best_trials(searched.trials, searched.objectives)
    assert f'<p class="verdict">{best_found(searched)}</p>' in page
    assert all(front[0].point_ids[0] in page for front in best.values())
    assert "retain_loss &lt;= 0.8" in page
    figures = pruned_run.names("report/figures")
    assert {"search_history.svg", "search_looks.png", "search_slices_2.svg"} <= set(figures)
    assert "search_pareto.svg" not in figures
    assert "pruned" in pruned_run.read_bytes("report/figures/search_looks.svg").decode()


def test_what_was_found_in_a_sentence(pruned_run):
    searched = read_search(pruned_run)
    assert best_found(searched) == (
        "Of 40 trials: 32 complete (6 infeasible), 7 pruned, 1 running. "
        "Best model utility ↑: 0.584, forget_size=forget01/12."
    )
    none = replace(searched, trials=searched.trials[4:5])
    assert best_found(none) == "Of 1 trials: 0 complete, 1 pruned. None is complete and feasible."
