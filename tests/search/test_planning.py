"""What trials need, and the plan of a run folder that grows by them. Nothing is trained."""

import json
from contextlib import suppress

import pytest

from raymcu.errors import ConfigError
from raymcu.planning import ledger as ledgers
from raymcu.planning.ledger import Ledger
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import look_again, look_around
from raymcu.search.bench import TrialBench
from raymcu.search.gangs import GangBench
from raymcu.search.planning import TrialPlanner, without_trials
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

CURVES = {
    "space": {"unlearning.training.learning_rate": {"float": [1e-4, 1e-2]}},
    "objectives": ["forget_barrier"],
    "curve": "bezier",
}
PAIRS = {
    "unlearning": {"settings": ["Rand"], "seeds": [0, 1]},
    "methods": [{"name": "npo"}],
    "walks": [{"name": "mixing"}],
    "curves": {"num_points": 3, "families": [{"name": "bezier", "num_bends": 2}]},
}


@pytest.fixture
def planner(toy_space, tmp_path):
    """Makes a planner over one folder, as each start of a search does."""

    def make(search=None, **content):
        space = toy_space(search, **content)
        base, around = without_trials(space), look_around(space)
        ledger = Ledger(RunFolder(str(tmp_path)), make_plan(base, look_again(around, base)))
        ledger.begin(space, extend=False)
        return TrialPlanner(ledger, space, around)

    return make


def roles(recipes):
    return sorted(recipe.role for recipe in recipes)


def test_the_folder_begins_with_what_trials_are_compared_with(planner):
    plan = planner(CURVES, **PAIRS).ledger.plan
    assert roles(plan.recipes.values()) == ["original", "retrained"]
    assert (len(plan.points), len(plan.curves), len(plan.walks)) == (2, 0, 0)


def test_a_trial_needs_its_unlearner_and_what_that_starts_from(planner):
    here = planner({"seeds": [0, 3]})
    values = {"method": "npo", "mixing": 0.25, "methods.npo.training.learning_rate": 1e-3}
    spec = here.spec(values)
    levels = [[recipe.label for recipe in level] for level in spec.levels]
    assert levels == [["original"], ["npo/seed0", "npo/seed3"]]
    (original,), unlearners = spec.levels
    assert [recipe.training.learning_rate for recipe in unlearners] == [1e-3, 1e-3]
    assert [point.blend.terms for point in spec.points] == [
        {original.id: 0.75, unlearner.id: 0.25} for unlearner in unlearners
    ]
    assert here.missing(spec) == [recipe.id for level in spec.levels for recipe in level]


def test_a_trial_along_curves_is_scored_there_alone(planner):
    here = planner(CURVES, **PAIRS)
    spec = here.spec({"unlearning.training.learning_rate": 1e-3})
    recipes = [recipe for level in spec.levels for recipe in level]
    assert roles(recipes) == ["bend", "bend", "original", "unlearner", "unlearner"]
    (curve,) = spec.curves
    assert {point.id for point in spec.points} == {point for _, point in curve.walk}
    trained = here.missing(spec)
    assert len(trained) == 4, "the original, two ends, and both bends as one training"


def test_the_plan_holds_all_trials_and_recalls_them_at_the_next_start(planner, tmp_path):
    values = [
        {"method": "npo", "mixing": mixing, "methods.npo.training.learning_rate": rate}
        for mixing, rate in ((0.0, 1e-3), (0.5, 1e-3), (0.5, 1e-2))
    ]
    first = planner()
    here = first.ledger.plan.id
    unfit = {"method": "npo", "unlearning.training.optimizer.name": "soul"}
    for number, one in enumerate([*values, unfit]):
        with suppress(ConfigError):
            first.spec(one)
        row = {"trial_id": f"toy/{number}", "study": "toy", "number": number, "state": "complete",
               "cell": "{}", "params": json.dumps(one)}  # fmt: skip
        first.ledger.run.write_part("trials", str(number), tables.from_rows("trials", [row]))
    assert roles(first.ledger.plan.recipes.values()) == [
        "original", "retrained", "unlearner", "unlearner"]  # fmt: skip
    points = first.ledger.plan.points.values()
    assert sorted(point.role for point in points) == ["original", "retrained", "trial", "trial"]
    whole = (tmp_path / "plan.json").read_bytes()
    again = planner()
    assert (tmp_path / "plan.json").read_bytes() != whole
    again.recall()
    assert again.ledger.plan.content == first.ledger.plan.content
    assert json.loads((tmp_path / "plan.json").read_text()) == json.loads(whole)
    assert again.ledger.plan.id == here, "the folder stays that of the same search"
    assert again.count() == (4, 12)


def test_a_plan_that_grows_with_every_trial_is_written_now_and_then_and_at_the_end(
    planner, tmp_path, monkeypatch
):
    here = planner()
    now, written = [0.0], []
    monkeypatch.setattr(ledgers.time, "monotonic", lambda: now[0])
    write = here.ledger._write_plan

    def slowly():
        write()
        now[0] += 1.0
        written.append(len(json.loads((tmp_path / "plan.json").read_text())["points"]))

    monkeypatch.setattr(here.ledger, "_write_plan", slowly)
    with pytest.raises(KeyboardInterrupt), here.ledger.growing():  # noqa: PT012
        for number in range(40):
            here.spec({"method": "npo", "methods.npo.training.learning_rate": 1e-3 + number / 1e4})
            now[0] += 5.0
        raise KeyboardInterrupt
    assert len(written) == 5, "5 s a trial, so every tenth trial for 50 s, and at the end"
    assert written[-1] == len(here.ledger.plan.points) == 2 + 40
    here.spec({"method": "npo", "methods.npo.training.learning_rate": 1e-2})
    assert written[5:] == [2 + 41], "outside of the block at once"


def test_values_that_do_not_fit_together_are_an_error(planner):
    """In the file's own keys, and in what is only put together for a method."""
    with pytest.raises(ConfigError, match="is of order 'second', not 'first'"):
        planner().spec({"method": "npo", "unlearning.training.optimizer.name": "soul"})
    for key in ("beta", "training.learning_rate"):
        with pytest.raises(ConfigError, match=f"{key}: must be > 0"):
            planner().spec({"method": "npo", f"methods.npo.{key}": -1.0})


@pytest.mark.parametrize(("workers", "bench"), [(1, TrialBench), (2, GangBench)])
def test_recipes_of_several_workers_are_trained_by_gangs(planner, workers, bench):
    here = planner(unlearning={"training": {"workers": workers}})
    assert here.work().make_bench is bench
