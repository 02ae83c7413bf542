"""Seeded searches repeat, killed or not; toys with a known optimum, front and bound are solved."""

import math

import numpy as np
import pytest

from raymcu.errors import ConfigError

SAMPLERS = ["tpe", "nsga2", "gp", "random"]
STEPS = {
    "method": {"choice": ["npo", "grad_diff"]},
    "methods.npo.training.learning_rate": {"choice": [1e-4, 1e-3]},
    "mixing": {"float": [0.0, 1.0], "step": 0.5},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeded_search_repeats_trial_by_trial(toy, sampler):
    """12 trials: TPE and GP propose ten at random before they look back; NSGA-II four."""
    asked = {"sampler": sampler, "trials": 12}
    first, again, other = (toy({**asked, "seed": seed}).run().trials for seed in (0, 0, 1))
    assert len(first) == 12
    assert first == again
    assert all(mine[3] != yours[3] for mine, yours in zip(first, other, strict=True))
    drawn = {tuple(params.values()) for _, _, _, params, _ in first}
    assert len(drawn) == 12, "each trial draws its own numbers"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_search_has_the_trials_of_an_undisturbed_one(toy, memory, sampler):
    """Killed twice with a trial at work, once where all are random and once where none is."""
    assert_killed_is_undisturbed(toy, memory, sampler)


def test_killed_search_has_the_same_trials_in_sqlite(toy, sqlite):
    assert_killed_is_undisturbed(toy, sqlite, "tpe")


def assert_killed_is_undisturbed(toy, storage, sampler):
    asked = {"sampler": sampler, "trials": 13, "seed": 3}
    undisturbed = toy(asked).run().trials
    for finished in (4, 6):
        killed = toy(asked, storage=storage()).run(finished)
        _, left = killed.suggest()
        states = [state for _, _, state, _, _ in killed.trials]
        assert states.count("RUNNING") == 1
        again = toy(asked, storage=storage())
        key, taken_up = again.suggest()
        assert (taken_up["trial"], taken_up["values"]) == (left["trial"], left["values"])
        again.end(key, taken_up)
    last = toy(asked, storage=storage()).run()
    assert last.trials == undisturbed
    assert last.suggest()[1] == "FINISHED"
    assert toy(asked, storage=storage()).run().ended == [], "what is finished is not repeated"


def test_trial_killed_while_it_was_proposed_gets_the_parameters_it_would_have(toy, memory):
    asked = {"trials": 13, "seed": 5}
    undisturbed = toy(asked).run().trials
    toy(asked, storage=memory()).run(11)
    half = toy(asked, storage=memory())
    half.studies[0].study.ask()  # and killed before it asked for any parameter
    assert toy(asked, storage=memory()).run().trials == undisturbed


def test_tpe_finds_the_known_optimum_and_beats_random_search(toy):
    """The bowl's minimum is 0, at npo, rate 1e-3, mixing 0.7; 40 trials, ten seeds."""
    wins = 0
    for seed in range(10):
        asked = {"trials": 40, "seed": seed}
        guided = toy(asked).run()
        best = guided.studies[0].study.best_trial
        assert best.params["method"] == "npo"
        assert best.value <= 0.05
        assert abs(math.log10(best.params["methods.npo.training.learning_rate"]) + 3) <= 0.23
        assert abs(best.params["mixing"] - 0.7) <= 0.12
        wins += guided.best() < toy({**asked, "sampler": "random"}).run().best()
    assert wins >= 9


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_two_objectives_trace_the_known_front(toy, sampler):
    """f = x² + y and g = (1-x)² + y: the front is √f + √g = 1, at y = 0."""

    def numbers(values):
        x, y = values["mixing"], values["unlearning.training.learning_rate"]
        return {"retain_loss": x**2 + y, "forget_es": (1 - x) ** 2 + y}

    space = {
        "mixing": {"float": [0.0, 1.0]},
        "unlearning.training.learning_rate": {"float": [1e-4, 1.0], "log": True},
        "method": {"choice": ["npo"]},
    }
    asked = {"objectives": ["retain_loss", "forget_es"], "sampler": sampler, "trials": 80}
    found = toy({**asked, "space": space}, numbers=numbers).run()
    front = np.array([trial.values for trial in found.studies[0].study.best_trials])
    everything = np.array([values for *_, values in found.trials])
    assert np.sqrt(everything).sum(axis=1).min() >= 1
    for value in front:
        is_worse = (everything <= value).all(axis=1) & (everything < value).any(axis=1)
        assert not is_worse.any(), "a point of the front is dominated"
    close = front[np.sqrt(front).sum(axis=1) <= 1.05]
    assert len(close) >= 5
    assert close[:, 0].min() < 0.1
    assert close[:, 0].max() > 0.5


def test_constraint_is_respected(toy):
    """(x - 0.2)² with x >= 0.6: the best that is allowed is 0.16, at the bound."""

    def numbers(values):
        x = values["mixing"]
        return {"retain_loss": (x - 0.2) ** 2, "retain_es >= 0.6": 0.6 - x}

    space = {"mixing": {"float": [0.0, 1.0]}, "method": {"choice": ["npo"]}}
    asked = {"space": space, "constraints": ["retain_es >= 0.6"], "trials": 40}
    found = toy(asked, numbers=numbers).run()
    study = found.studies[0]
    best = study.study.best_trial
    assert 0.6 <= best.params["mixing"] <= 0.65
    guided = [trial.params["mixing"] >= 0.6 for trial in study.trials()[10:]]
    assert sum(guided) > len(guided) / 2
    for trial in study.trials():
        head, values = study.rows(trial)
        assert head["is_feasible"] == (trial.params["mixing"] >= 0.6)
        (violation,) = [row["value"] for row in values if row["kind"] == "constraint"]
        assert violation == 0.6 - trial.params["mixing"]


def test_grid_sampler_goes_through_its_list_once_and_on_where_it_was(toy, memory):
    asked = {"sampler": "grid", "trials": None, "space": STEPS}
    toy(asked, storage=memory()).run(4)
    found = toy(asked, storage=memory()).run()
    assert len(found.ended) == 5
    assert [params for _, _, _, params, _ in found.trials] == [
        *({"method": "npo", "methods.npo.training.learning_rate": rate, "mixing": mixing}
          for rate in (1e-4, 1e-3) for mixing in (0.0, 0.5, 1.0)),
        *({"method": "grad_diff", "mixing": mixing} for mixing in (0.0, 0.5, 1.0)),
    ]  # fmt: skip


def test_bound_of_trials_holds_for_a_grid_too(toy):
    found = toy({"sampler": "grid", "trials": 3, "space": STEPS}).run()
    assert len(found.trials) == 3


def test_database_of_another_search_is_refused(toy, memory):
    toy(storage=memory()).run(1)
    toy({"trials": 99, "seed": 7}, storage=memory(), content={"description": "other words"})
    with pytest.raises(ConfigError, match=r"the study 'toy' there was begun with another search"):
        toy(content={"unlearning": {"training": {"epochs": 1}}}, storage=memory())
    with pytest.raises(ConfigError, match="Only concurrent, hours, pruner, sampler, seed, train"):
        toy({"looks": 5}, storage=memory())


# pruning


def run_with_looks(toy, rates):
    """Run trials whose loss at look n is a rate over n, and is told at three looks."""
    pruned = []
    for rate in rates:
        key, config = toy.suggest()
        looks = ({"retain_loss": rate / n, "look": n} for n in (1, 2, 3))
        hopeless = next((x["look"] for x in looks if toy.searcher.look(key, x)), None)
        final = {} if hopeless else {"retain_loss": rate / 4, "is_final": True}
        toy.searcher.on_trial_complete(key, {**final, "done": True})
        assert toy.searcher.broken is None
        pruned.append((config["trial"], hopeless))
    return [look for _, look in pruned]


def test_median_prunes_a_hopeless_trial_and_knows_the_others_after_a_restart(toy, memory):
    asked = {"pruner": "median", "trials": 20}
    first = toy(asked, storage=memory())
    assert run_with_looks(first, [1, 2, 3, 4, 5, 100, 1.5]) == [None] * 5 + [1, None]
    again = toy(asked, storage=memory())
    assert run_with_looks(again, [100, 2.2]) == [1, None]
    study = again.studies[0]
    head, values = study.rows(study.trials()[5])
    assert (head["state"], head["message"]) == ("pruned", "pruned at look 1 of 3")
    assert head["is_feasible"] is None
    assert values == [
        {"trial_id": "toy/5", "kind": "look", "name": "retain_loss", "value": 100.0, "look": 1}
    ]


def test_halving_keeps_the_better_half_at_each_rung(toy):
    """Reduction 2, rungs at looks 1 and 2: a trial goes on if it is in the best half so far."""
    found = run_with_looks(toy({"pruner": "asha", "trials": 20}), [4, 3, 5, 2, 6, 1])
    assert found == [None, None, 1, None, 1, None]


def test_looks_of_a_trial_taken_up_again_are_not_told_twice(toy, memory):
    asked = {"pruner": "median", "trials": 20}
    first = toy(asked, storage=memory())
    key, _ = first.suggest()
    assert not first.searcher.look(key, {"retain_loss": 1.0, "look": 1})
    again = toy(asked, storage=memory())
    assert run_with_looks(again, [1.0]) == [None]
    (trial,) = again.studies[0].trials()
    assert trial.intermediate_values == {1: 1.0, 2: 0.5, 3: 1 / 3}
