"""Cells in turn, budgets, failures, and no recipe trained twice at once."""

import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.search.searcher import DAMAGED

GRID = {
    "grid": {"method": ["npo", "grad_diff"]},
    "space": {"mixing": {"float": [0.0, 1.0]}},
}


def labels(toy):
    return [f"{study}/{number}" for study, number, *_ in toy.trials]


def test_each_cell_of_the_grid_gets_its_number_in_turn(toy):
    found = toy({**GRID, "trials": 3}).run()
    both = [f"method={m}/{n}" for n in range(3) for m in ("npo", "grad_diff")]
    assert found.ended == both
    assert sorted(labels(found)) == sorted(both)
    for study in found.studies:
        assert all(study.rows(t)[0]["cell"] == f'{{"method":"{study.cell["method"]}"}}'
                   for t in study.trials())  # fmt: skip


def test_cells_draw_different_numbers(toy):
    first, second = toy({**GRID, "trials": 1}).run().trials
    assert first[3] != second[3]


def test_cells_go_on_in_turn_after_a_restart(toy, memory):
    toy({**GRID, "trials": 2}, storage=memory()).run(1)
    again = toy({**GRID, "trials": 2}, storage=memory()).run()
    assert again.ended == ["method=grad_diff/0", "method=npo/1", "method=grad_diff/1"]


def test_larger_budget_goes_on(toy, memory):
    toy({"trials": 3}, storage=memory()).run()
    assert toy({"trials": 5}, storage=memory()).run().ended == ["toy/3", "toy/4"]


# time


def test_no_trial_begins_after_the_hours_of_all_starts(toy, memory):
    """Trials of 1000 s: the fourth begins within 3600 s, the fifth does not."""
    asked = {"trials": None, "hours": 1.0}

    def run(storage, most):
        found = toy(asked, storage=storage)
        for _ in range(most):
            key, config = found.suggest()
            if config == "FINISHED":
                break
            found.end(key, config, took_s=1000.0)
        return found.ended

    assert run(memory(), 2) == ["toy/0", "toy/1"]
    assert run(memory(), 9) == ["toy/2", "toy/3"]
    assert run(memory(), 9) == []


# trainings


def one_training_a_method(values):
    return [f"recipe of {values['method']}"]


def test_no_trial_begins_that_needs_a_training_beyond_the_budget(toy):
    """Each trial of npo trains one recipe, those of grad_diff none; two trainings, eight trials."""
    count = iter(range(100))

    def missing(values):
        return [f"recipe {next(count)}"] if values["method"] == "npo" else []

    asked = {**GRID, "trials": 8, "trainings": 2}
    found = toy(asked, missing=missing).run()
    assert [label for label in found.ended if "npo" in label] == ["method=npo/0", "method=npo/1"]
    assert len([label for label in found.ended if "grad_diff" in label]) == 8
    npo = next(study for study in found.studies if "npo" in study.name)
    assert [study_trial.state.name for study_trial in npo.trials()][2:] == ["RUNNING"]
    assert npo.rows(npo.trials()[0])[0]["trained"] == ["recipe 0"]


def test_larger_budget_of_trainings_begins_with_the_trial_that_was_too_dear(toy, memory):
    missing = lambda values: [f"recipe {values['mixing']}"]  # noqa: E731
    asked = {"trials": 4, "space": {**GRID["space"], "method": {"choice": ["npo"]}}}
    first = toy({**asked, "trainings": 1}, missing=missing, storage=memory()).run()
    assert first.ended == ["toy/0"]
    again = toy({**asked, "trainings": 3}, missing=missing, storage=memory()).run()
    assert again.ended == ["toy/1", "toy/2"]
    whole = toy(asked, missing=missing).run()
    assert [t[3] for t in again.trials] == [t[3] for t in whole.trials]


def test_recipe_that_is_trained_again_is_no_further_training(toy):
    """Its first trial failed, so it is not in the store; the next trial needs the same one."""
    asked = {**GRID, "trials": 2, "trainings": 2}
    assert len(toy(asked, missing=one_training_a_method).run().ended) == 4
    assert len(toy({**asked, "trainings": 1}, missing=one_training_a_method).run().ended) == 2


def test_trial_waits_for_a_recipe_that_another_one_trains(toy):
    done = set()

    def missing(values):
        return [r for r in one_training_a_method(values) if r not in done]

    found = toy({**GRID, "trials": 2, "concurrent": 3}, missing=missing, is_alone=False)
    first, second = found.suggest(), found.suggest()
    assert [config["trial"] for _, config in (first, second)] == [
        "method=npo/0",
        "method=grad_diff/0",
    ]
    assert found.suggest()[1] is None, "npo's second trial needs what the first one trains"
    found.end(*second)
    done.add("recipe of grad_diff")
    assert found.suggest()[1] is None
    found.end(*first)
    done.add("recipe of npo")
    third, fourth = found.suggest(), found.suggest()
    assert third[1]["trial"] == "method=npo/1"
    assert fourth[1]["trial"] == "method=grad_diff/1"
    assert found.suggest()[1] == "FINISHED"
    for one in (third, fourth):
        found.end(*one)
    trained = [study.rows(t)[0]["trained"] for study in found.studies for t in study.trials()]
    assert sorted(map(tuple, trained)) == [(), (), ("recipe of grad_diff",), ("recipe of npo",)]


# failures


def test_failed_trial_keeps_its_reason_and_the_search_goes_on(toy):
    found = toy({"trials": 3}, numbers=lambda values: "retain_loss: the model has diverged").run()
    assert [state for _, _, state, _, _ in found.trials] == ["FAIL"] * 3
    head, values = found.studies[0].rows(found.studies[0].trials()[1])
    assert (head["state"], head["message"]) == ("failed", "retain_loss: the model has diverged")
    assert (head["is_feasible"], values) == (None, [])


def test_values_that_fit_no_plan_fail_at_once(toy):
    found = toy({"trials": 3})

    def spec_of(values):
        if values["method"] == "npo":
            raise ConfigError(["unlearning.training: does not fit.", "Nor does that."])
        return found._spec(values)

    object.__setattr__(found.searcher.work, "spec_of", spec_of)
    found.run()
    states = {params["method"]: state for _, _, state, params, _ in found.trials}
    assert states == {"npo": "FAIL", "grad_diff": "COMPLETE"}
    bad = next(t for t in found.studies[0].trials() if t.state.name == "FAIL")
    told = found.studies[0].rows(bad)[0]["message"]
    assert told == "unlearning.training: does not fit. Nor does that."


def test_trial_whose_process_died_fails_and_one_that_was_stopped_stays_open(toy):
    found = toy({"trials": 2})
    (died, _), (stopped, _) = found.suggest(), found.suggest()
    found.searcher.on_trial_complete(died, error=True)
    found.searcher.on_trial_complete(stopped, {"running": "npo/seed0", "done": True})
    assert [state for _, _, state, _, _ in found.trials] == ["FAIL", "RUNNING"]
    assert "process died" in found.studies[0].rows(found.studies[0].trials()[0])[0]["message"]


def test_damaged_file_ends_the_search_and_leaves_the_trial_open(toy):
    found = toy({"trials": 9})
    key, config = found.suggest()
    found.failures[config["trial"]] = (DAMAGED, "model.safetensors: has 3 bytes")
    with pytest.raises(StoreError, match="has 3 bytes"):
        found.end(key, config)
    assert found.suggest()[1] == "FINISHED"
    assert [state for _, _, state, _, _ in found.trials] == ["RUNNING"]


def test_there_are_no_more_trials_at_once_than_there_is_room_for_by_now(toy):
    here, room = toy({**GRID, "trials": 3}, is_alone=False), [2]
    here.searcher.room = lambda: room[0]
    assert here.searcher.set_max_concurrency(9), "else Tune would mind a number for ever"
    given = [here.suggest() for _ in range(3)]
    assert [isinstance(config, dict) for _, config in given] == [True, True, False]
    assert given[2][1] is None, "it waits for one to end"
    room[0] = 3
    assert isinstance(here.suggest()[1], dict)
    room[0] = 1
    here.end(*given[0])
    here.end(*given[1])
    assert here.suggest()[1] is None
