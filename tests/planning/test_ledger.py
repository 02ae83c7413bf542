"""Planned minus done is empty or told, with what the plan of the demo needs."""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import raymcu
from raymcu.planning.ledger import Ledger
from raymcu.planning.surroundings import look_around
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder, failure_row

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.toml"


@pytest.fixture(scope="module")
def space():
    return raymcu.load_space(DEMO, ["original.training.workers=3"])


@pytest.fixture(scope="module")
def plan(space):
    return raymcu.plan_study(space)


@pytest.fixture(scope="module")
def sets(space):
    return look_around(space).sets


@pytest.fixture
def ledger(plan, tmp_path):
    return Ledger(RunFolder(str(tmp_path / "run")), plan)


def make(ledger, *recipes):
    """Leave a checkpoint of each recipe, empty but done."""
    for recipe in recipes:
        with ledger.run.checkpoints.writing(recipe.id):
            pass


def told(ledger):
    ledger.record_undone()
    rows = ledger.failures().to_pylist()
    return {row["item_id"]: row["reason"] for row in rows}


def test_what_nobody_did_or_failed_is_undone_and_what_needs_it_skipped(ledger):
    found = told(ledger)
    first, *later = ledger.plan.levels
    assert {found[recipe.id] for recipe in first} == {"undone"}
    assert {found[recipe.id] for level in later for recipe in level} == {"skipped"}
    assert {found[point] for point in ledger.plan.points} == {"skipped"}
    make(ledger, *ledger.plan.recipes.values())
    assert told(ledger) == dict.fromkeys(ledger.plan.points, "undone")
    for point in ledger.plan.points:
        ledger.run.write_part("measurements", point, tables.empty("measurements"))
    assert told(ledger) == {}


def test_what_failed_keeps_its_own_row(ledger):
    (original, *_), (unlearner, *_), *_ = ledger.plan.levels
    make(ledger, original)
    row = failure_row(unlearner.id, "train", unlearner.label, "diverged", "loss 1e9")
    ledger.run.record_failure(row)
    assert told(ledger)[unlearner.id] == "diverged"


def ready(ledger, sets):
    """Return the labels of what can be trained now."""
    graph, found = ledger.graph(sets), []
    while graph.has_ready:
        found += graph.take(lambda kind, count: count)
    return {recipe.id for recipe in found}


def test_a_recipe_whose_parent_is_not_there_is_not_begun(ledger, sets):
    first, second, bends = ledger.plan.levels
    assert ready(ledger, sets) == {recipe.id for recipe in first}
    make(ledger, *first)
    assert ready(ledger, sets) == {recipe.id for recipe in second}
    (bend, *_) = bends
    make(ledger, *(r for r in second if r.id != bend.parents["first"]))
    found = ready(ledger, sets)
    assert bend.id not in found
    assert found & {recipe.id for recipe in bends}
    assert bend.parents["first"] in found


def test_workers_are_asked_of_what_can_still_be_trained(ledger, sets):
    first, second, _ = ledger.plan.levels
    assert ledger.graph(sets).workers == {1, 3}
    make(ledger, *first)
    assert ledger.graph(sets).workers == {1}
    for recipe in second:
        row = failure_row(recipe.id, "train", recipe.label, "diverged", "loss 1e9")
        ledger.run.record_failure(row)
    assert ledger.graph(sets).workers == {1}, "for points of the others"
    for point in ledger.plan.points:
        ledger.run.write_part("measurements", point, tables.empty("measurements"))
    assert ledger.graph(sets).workers == set()


def test_stages_count_what_is_there_and_what_will_be(ledger, sets):
    whole = {"train": 0, "connect": 0, "measure": len(ledger.plan.points)}
    for recipe in ledger.plan.recipes.values():
        whole["connect" if recipe.role == "bend" else "train"] += 1
    graph = ledger.graph(sets)
    assert ledger.counts(graph) == {name: (0, count) for name, count in whole.items()}
    make(ledger, *ledger.plan.levels[0])
    done = len(ledger.plan.levels[0])
    assert ledger.counts(ledger.graph(sets))["train"] == (done, whole["train"])


def test_what_findings_call_for_joins_the_work_that_goes_on(plan, sets, tmp_path):
    """The rounds then find it done, as findings of a curve depend on no other one."""
    few = {key: point for key, point in plan.points.items() if point.role != "curve"}
    begun = replace(plan, curves={}, points=few)
    ledger = Ledger(RunFolder(str(tmp_path / "run")), begun, lambda now: plan)
    graph = ledger.graph(sets)
    assert ledger.look_ahead(graph) == {"measure": len(plan.points) - len(few)}
    assert ledger.look_ahead(graph) == {}
    assert ledger.plan is begun, "the plan of a round stays"
    make(ledger, *plan.recipes.values())
    for recipe in plan.recipes.values():
        graph.ended(recipe.id, is_made=True)
    assert {point.id for point in graph.take_points()} == set(plan.points)


def test_a_recipe_is_found_once_anything_calls_for_it(plan, sets, tmp_path):
    """Loggers ask while work goes on, before the plan's file tells of what findings call for."""
    bends = {key for key, recipe in plan.recipes.items() if recipe.role == "bend"}
    few = {key: recipe for key, recipe in plan.recipes.items() if key not in bends}
    begun = replace(plan, recipes=few, curves={}, points={})
    for grows in (False, True):
        ledger = Ledger(RunFolder(str(tmp_path / "run")), begun, lambda now: plan)
        assert bends
        assert not any(map(ledger.recipe, bends))
        with ledger.growing() if grows else nullcontext():
            if grows:
                ledger._writes_at = math.inf
                ledger.extend([plan])
            else:
                ledger.look_ahead(ledger.graph(sets))
            assert ledger.plan is begun
            assert {key: ledger.recipe(key) for key in plan.recipes} == dict(plan.recipes)
        assert ledger.recipe("of another study") is None


def test_a_look_ahead_leaves_alone_what_needs_weights_that_are_gone(plan, sets, tmp_path):
    recipes = {k: r.model_copy(update={"role": "relearned"}) if r.role == "unlearner" else r
               for k, r in plan.recipes.items()}  # fmt: skip
    ledger = Ledger(RunFolder(str(tmp_path / "run")), replace(plan, recipes=recipes))
    make(ledger, *plan.recipes.values())
    gone = {key for key, recipe in recipes.items() if recipe.role == "relearned"}
    graph = ledger.graph(sets)
    assert not graph.has_ready
    found = graph.take_points()
    assert found
    assert not any(point.needs & gone for point in found)
