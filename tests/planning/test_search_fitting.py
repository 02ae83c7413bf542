"""Trials of a search of 7B on devices of some size: refused before anything starts, or shared."""

import json

import pytest

from raymcu.planning.fitting import memory_of
from raymcu.planning.planner import make_plan
from raymcu.planning.search_fitting import TrialFitting, trainings_of_trials, unfit_search
from raymcu.planning.surroundings import look_around
from raymcu.planning.trials import largest_trials

from .test_fitting import LLAMA_2_7B

NPO = {"method": {"choice": ["npo"]}}
TRAINING = "unlearning.training"
EPOCHS = f"{TRAINING}.epochs"


@pytest.fixture
def looked(space, tmp_path):
    """Looks around for a search over a 7B of which there is a config alone."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))

    def look(search, gib, **training):
        one = space(
            search,
            model={"path": str(tmp_path), "dtype": "bfloat16"},
            original={"path": str(tmp_path)},
            retrained={"train": False},
            unlearning={"settings": [], "training": {"batch_size": 8, "epochs": 1.0, **training}},
            execution={"device_gib": gib},
        )
        return one, look_around(one)

    return look


def refused(one, around):
    return list(unfit_search(one, around, make_plan(one, around)))


def test_a_value_that_does_not_fit_is_named_with_numbers_and_what_would(looked):
    names = {f"{TRAINING}.optimizer.name": {"choice": ["sgd", "adamw"]}}
    assert not refused(*looked({"space": {**NPO, **names}}, 160))
    (fault,) = refused(*looked({"space": {**NPO, **names}}, 120))
    assert fault.startswith(
        f"{TRAINING}: in a trial with method = 'npo', {TRAINING}.optimizer.name = 'adamw', "
        "unlearner 'npo/seed0' takes 11"
    )
    assert "of 120 GiB (execution.device_gib) 106 are for it." in fault
    assert "What fits, in that table: " in fault
    assert '; optimizer.name = "sgd": 88.3 GiB; ' in fault
    assert fault.endswith("`raymcu plan` shows them all.")
    assert not refused(*looked({"space": {**NPO, f"{TRAINING}.workers": {"int": [4, 8]}}}, 80))
    (fault,) = refused(*looked({"space": {**NPO, f"{TRAINING}.workers": {"int": [1, 8]}}}, 80))
    assert f"{TRAINING}.workers = 1, unlearner" in fault


def test_values_that_do_not_fit_together_are_found(looked):
    """Each by itself does: an average takes 4 bytes a weight, AdamW's states take 8."""
    names = {
        f"{TRAINING}.optimizer.name": {"choice": ["sgd", "adamw"]},
        f"{TRAINING}.average.eta": {
            "choice": [0.5, 1.0],
            "when": {f"{TRAINING}.optimizer.name": ["adamw"]},
        },
    }
    assert not refused(*looked({"space": {**NPO, **names}}, 160))
    (fault,) = refused(*looked({"space": {**NPO, **names}}, 140))
    assert "optimizer.name = 'adamw'" in fault
    assert "average.eta = 0.5" in fault


def test_methods_and_cells_are_tried_each_by_itself(looked):
    grid = {"method": ["npo", "grad_diff"], f"{TRAINING}.offload": [True, False]}
    found = refused(*looked({"space": {"mixing": {"float": [0.0, 1.0]}}, "grid": grid}, 80))
    assert [fault.split("method = ")[1].split(",")[0] for fault in found] == [
        "'npo'",
        "'grad_diff'",
    ]
    assert all(f"{TRAINING}.offload = false" in fault for fault in found)


def test_auto_takes_the_fewest_workers_that_fit_the_largest_trial(looked):
    eta = {f"{TRAINING}.average.eta": {"choice": [0.5, 1.0]}}
    workers = {}
    for gib in (24, 80, 320):
        one, around = looked({"space": {**NPO, **eta}}, gib, workers="auto")
        assert not refused(one, around)
        workers[gib] = TrialFitting(one, around).workers
    assert workers == {24: 8, 80: 2, 320: 1}
    pruned = {"space": NPO, "pruner": "median"}
    assert not refused(*looked(pruned, 320, workers="auto"))
    (fault,) = refused(*looked(pruned, 80, workers="auto"))
    assert "gangs of training.workers > 1 do not show" in fault


def test_what_is_trained_already_needs_no_room(looked):
    one, around = looked({"space": NPO}, 80)
    ids = {recipe.id for recipe in trainings_of_trials(one, around)}
    plan = make_plan(one, around)
    assert len(list(unfit_search(one, around, plan))) == 1
    assert not list(unfit_search(one, around, plan, ids))


def test_a_plan_tells_what_trials_take(looked):
    one, around = looked({"space": NPO}, 80, workers="auto")
    plan = make_plan(one, around)
    (row,) = memory_of(one, around, plan, {}, trainings_of_trials(one, around))["roles"]
    assert (row["role"], row["workers"], row["trainings"]) == ("trial's unlearner", 2, None)
    assert row["fits"]


def test_the_largest_trial_is_found_key_by_key(space, conditional):
    """One of each method and of each value that another parameter waits for."""
    one = space({"space": conditional, "grid": {"forget_size": ["forget05"]}})

    def size(values):
        return [v for v in values.values() if isinstance(v, float)], values.get(EPOCHS, 0)

    found = largest_trials(one, size)
    assert len(found) == 9
    few = {"forget_size": "forget05", "mixing": 0.25}
    more = {"forget_size": "forget05", "mixing": 0.5, EPOCHS: 3}
    rate = {"methods.npo.training.learning_rate": 1e-2}
    for expected in (
        {**few, "method": "npo", **rate},
        {**more, "method": "npo", **rate},
        {**more, "method": "grad_diff"},
        {**more, "method": "npo.long run", "methods.npo.long run.beta": 0.3},
    ):
        assert expected in found
