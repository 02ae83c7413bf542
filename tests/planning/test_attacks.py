"""Attacks in a plan: what is attacked, what each strength is, and that the rest stays as it was."""

from pathlib import Path

import pytest

import raymcu
from raymcu.errors import ConfigError
from raymcu.planning.ledger import Ledger
from raymcu.planning.plan import references_of
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.toml"
RELEARN = {"name": "relearn", "count": 4, "at": [0, 2, 5]}


def plan_of(*attacks, **changes):
    space = raymcu.load_space(DEMO).model_dump(mode="json", exclude_none=True)
    return raymcu.plan_study(raymcu.load_space({**space, "attacks": list(attacks), **changes}))


@pytest.fixture(scope="module")
def plain():
    return plan_of()


@pytest.fixture(scope="module")
def relearned():
    return plan_of(RELEARN)


def attacked(plan):
    return [point for point in plan.points.values() if point.attack is not None]


def test_attacks_leave_all_else_as_it_was(plain, relearned):
    assert plain.recipes.items() <= relearned.recipes.items()
    assert plain.points.items() <= relearned.points.items()
    assert plain.curves == relearned.curves


def test_the_original_and_the_retrained_model_are_attacked_too(plain, relearned):
    before = {point.attack.of for point in attacked(relearned)}
    roles = {"original", "retrained", "unlearner"}
    assert before == {key for key, p in plain.points.items() if p.role in roles}


def test_a_relearning_is_one_training_measured_at_its_steps(plain, relearned):
    new = [r for key, r in relearned.recipes.items() if key not in plain.recipes]
    ends = [recipe for recipe in new if recipe.step is None]
    assert {recipe.role for recipe in new} == {"relearned"}
    assert {recipe.training.steps for recipe in ends} == {5}
    assert {recipe.step for recipe in new} == {None, 2}
    assert len(new) == 2 * len(ends) == len(attacked(relearned))
    assert {point.attack.strength for point in attacked(relearned)} == {2, 5}
    counted = relearned.summary["trainings"]["unique"] - plain.summary["trainings"]["unique"]
    assert counted == len(ends)


def test_a_step_more_changes_no_id_but_adds_its_own(relearned):
    more = plan_of({**RELEARN, "at": [3, 2, 5]})
    assert relearned.points.keys() < more.points.keys()
    assert relearned.recipes.keys() < more.recipes.keys()


def test_a_point_that_is_no_checkpoint_is_written_down_once(plain):
    one, other = {**RELEARN, "on": ["curves"]}, {**RELEARN, "on": ["curves"], "label": "again"}
    plan = plan_of(one, {**other, "seed": 1})
    inner = {p.blend.id for p in plain.points.values() if p.role == "curve"}
    written = [recipe for recipe in plan.recipes.values() if recipe.role == "blend"]
    assert {recipe.blend.id for recipe in written} == inner
    for recipe in written:
        assert set(recipe.parents.values()) == set(recipe.blend.checkpoints)
    starts = [r.parents["start"] for r in plan.recipes.values() if r.role == "relearned"]
    assert set(starts) >= {recipe.id for recipe in written}


def test_the_order_of_attacks_changes_no_id():
    one, other = RELEARN, {**RELEARN, "label": "much", "count": 9}
    forward, back = plan_of(one, other), plan_of(other, one)
    assert forward.points.keys() == back.points.keys()
    assert forward.recipes.keys() == back.recipes.keys()


def test_a_curve_that_is_dropped_takes_its_attacks_along():
    curves = {"families": ["linear", "quadratic"], "num_points": 3, "quadratic": "if_barrier"}
    plan = plan_of({**RELEARN, "on": ["curves"]}, curves=curves)
    certain = plan.decided({})
    assert len(certain.points) < len(plan.points)
    assert {p.attack.of for p in attacked(certain)} <= certain.points.keys()
    needed = {key for point in certain.points.values() for key in point.needs}
    assert needed <= certain.recipes.keys()
    kept = {r.id for r in certain.recipes.values() if r.role in ("relearned", "blend")}
    assert all(certain.recipes.keys() >= set(certain.recipes[k].parents.values()) for k in kept)


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ({"name": "relear"}, r"attacks\.0\.name: no attack is named 'relear'\. Did you mean"),
        ({**RELEARN, "on": ["npo/sed0"]}, r"attacks\.0\.on: no group or label of points is"),
        ({**RELEARN, "label": "npo"}, r"attacks\.0\.label: 'npo' is the name of a method here"),
        (
            {"name": "relearn", "data": "benchmark", "benchmark": {"name": "authors", "set": "x"}},
            r"attacks\.0: benchmark\.set: no set is named 'x'",
        ),
        ({"name": "relearn", "data": "text"}, r"attacks\.0.*path goes with data = 'text'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(attack, told):
    with pytest.raises(ConfigError, match=told):
        plan_of(attack)


def test_models_are_compared_with_those_that_are_asked_alike():
    loud = {"asking": "loud"}
    roles = {"o": "original", "r": "retrained", "u": "unlearner"}
    points = [
        *({"id": key, "role": role, "forget_size": "f"} for key, role in roles.items()),
        *(
            {"id": f"{key}!", "role": "attacked", "attacked": key, "forget_size": "f", **how}
            for key, how in (("o", loud), ("u", loud), ("r", {}))
        ),
    ]  # fmt: skip
    assert references_of(points) == {
        ("f", ""): {"original": "o", "retrained": "r"},
        ("f", "loud"): {"original": "o!"},
    }


def test_a_group_of_which_there_is_none_is_told(recwarn):
    plan = plan_of({**RELEARN, "on": ["unlearners", "ensembles", "walks"]})
    told = [str(one.message) for one in recwarn]
    assert told == [
        "attacks.0.on = ensembles: has no effect, as curves.ensemble makes none.",
        "attacks.0.on = walks: has no effect, as walks makes none.",
    ]
    assert attacked(plan)


# weights that only pass


@pytest.fixture
def ledger(relearned, tmp_path):
    ledger = Ledger(RunFolder(str(tmp_path / "run")), relearned)
    for recipe in relearned.recipes.values():
        with ledger.run.checkpoints.writing(recipe.id) as folder:
            (folder / "model.safetensors").write_bytes(b"weights")
            (folder / "recipe.json").write_text("{}")
    return ledger


def test_weights_go_once_what_needs_them_is_measured(ledger):
    store, points = ledger.run.checkpoints, ledger.plan.points
    last = next(key for key, point in points.items() if point.attack)
    for key in points.keys() - {last}:
        ledger.run.write_part("measurements", key, tables.empty("measurements"))
    ledger._drop_passed()
    kept = {key for key in ledger.plan.recipes if store.has_weights(key)}
    passing = {r.id for r in ledger.plan.recipes.values() if r.role == "relearned"}
    assert kept & passing == points[last].needs
    assert kept >= ledger.plan.recipes.keys() - passing
    ledger.run.write_part("measurements", last, tables.empty("measurements"))
    ledger._drop_passed()
    assert not any(store.has_weights(key) for key in passing)
    assert all(store.is_done(key) and not store.verify(key) for key in passing)
    assert not ledger.graph({}).recipes


def test_weights_that_are_needed_again_are_made_again(ledger):
    for key in ledger.plan.points:
        ledger.run.write_part("measurements", key, tables.empty("measurements"))
    ledger._drop_passed()
    lost = next(key for key, point in ledger.plan.points.items() if point.attack)
    ledger.run.remove_part("measurements", lost)
    ledger._reopen()
    missing = {recipe.id for recipe in ledger.plan.recipes.values()} - {
        key for key in ledger.plan.recipes if ledger.run.checkpoints.is_done(key)
    }
    assert missing >= ledger.plan.points[lost].needs
    assert {ledger.plan.recipes[key].role for key in missing} == {"relearned"}
