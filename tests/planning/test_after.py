"""Attacked scores in searches, calibrations and audits: checked and planned first."""

import pytest

from raymcu.errors import ConfigError, WorkError
from raymcu.metrics._base import Score
from raymcu.planning.analysis_checks import analysis_faults
from raymcu.planning.objectives import (
    Constraint,
    asked_after,
    directions,
    judged,
    with_attacks,
)
from raymcu.planning.planner import make_plan, plan_trial
from raymcu.planning.surroundings import load_space, look_around
from raymcu.study.after import How

BASE = """
name = "toy"
[benchmark]
name = "authors"
num_authors = 10
forget_sizes = ["forget10"]
[model.scratch]
hidden_size = 32
num_layers = 2
num_heads = 2
[unlearning]
settings = []
[[methods]]
name = "npo"
[measurement]
probes = ["forget", "retain"]
generate = []
"""
BLUR = """
[[attacks]]
name = "blur"
on = ["walks"]
"""
SEARCH = """
[search]
objectives = ["forget_es after blur@0.5", "retain_loss"]
constraints = ["retain_es after blur@0.1 >= 0.5 * original"]
trials = 1
space.mixing = { float = [0.0, 1.0] }
"""


@pytest.fixture
def space(tmp_path, blur):
    def make(text):
        path = tmp_path / "space.toml"
        path.write_text(BASE + text)
        return load_space(path)

    return make


def test_constraints_and_objectives_may_be_of_attacked_scores(space):
    search = space(BLUR + SEARCH).search
    assert directions(search) == ("minimize", "minimize")
    assert asked_after(search) == (How("blur", 0.5), How("blur", 0.1))
    found = Constraint.parse("retain_es after blur@0.1>=0.5*original")
    assert (found.name, found.factor, found.reference) == ("retain_es after blur@0.1", 0.5,
                                                           "original")  # fmt: skip


def test_a_trial_is_attacked_by_what_is_asked_for_alone(space):
    one = space(BLUR + SEARCH)
    plan = plan_trial(one, look_around(one), (0,), 1.0, asked_after(one.search))
    (trial,) = [p for p in plan.points.values() if p.role == "trial"]
    attacked = [p for p in plan.points.values() if p.role == "attacked"]
    assert [p.attack.strength for p in attacked] == [0.1, 0.5]
    assert {p.attack.of for p in attacked} == {trial.id}
    plain = plan_trial(one, look_around(one), (0,))
    assert [p.id for p in plain.points.values()] == [trial.id]
    cost = [p.estimates["measure_flops"] for p in (plan, plain)]
    assert cost[0] == pytest.approx(3 * cost[1])


def test_numbers_are_of_the_attacked_points(space):
    search = space(BLUR + SEARCH).search
    own = {"forget_es": Score(0.1, 1), "retain_loss": Score(1.0, 1), "retain_es": Score(0.9, 1)}
    after = [
        ("blur", 0.1, {"retain_es": Score(0.3, 1)}),
        ("blur", 0.5, {"forget_es": Score(0.6, 1)}),
    ]
    original = with_attacks(
        {"retain_es": Score(1.0, 1)}, [("blur", 0.1, {"retain_es": Score(0.8, 1)})]
    )
    found = judged(search, [with_attacks(own, after)], {"original": original})
    assert found["forget_es after blur@0.5"] == 0.6
    assert found["retain_loss"] == 1.0
    assert found[search.constraints[0]] == pytest.approx(0.5 * 0.8 - 0.3)
    with pytest.raises(WorkError, match=r"forget_es after blur@0.5: was not measured"):
        judged(search, [own], {"original": original})


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("forget_es after blr@0.5", "Did you mean 'blur'?"),
        ("forget_es after blur", "several strengths: 0.1, 0.5"),
        ("forget_es after blur@0.2", "no such strength"),
        ("forget_se after blur@0.5", "no metric is named 'forget_se'"),
        ("privleak after blur@0.5", "neither direction"),
    ],
)
def test_what_no_trial_has_is_refused_before_anything_starts(space, asked, fault):
    text = BLUR + SEARCH.replace("forget_es after blur@0.5", asked)
    with pytest.raises(ConfigError, match=r".") as told:
        space(text)
    assert fault in str(told.value)


def test_a_pruner_sees_no_attacked_score(space):
    one = SEARCH.replace(', "retain_loss"]', "]").replace("[search]", '[search]\npruner = "median"')
    with pytest.raises(ConfigError, match="nothing is done to"):
        space(BLUR + one)


def test_attacks_are_the_same_for_all_trials(space):
    text = SEARCH + 'space."attacks.0.by" = { choice = [1] }\n'
    with pytest.raises(ConfigError, match="is the same for all trials"):
        space(BLUR + text)


CALIBRATION = """
[[walks]]
name = "mixing"
[calibration]
metric = "retain_es after blur@0.1"
rank_by = ["forget_es after blur@0.5"]
"""


def test_a_calibration_may_name_attacks_of_its_walks(space):
    assert not analysis_faults(space(BLUR + CALIBRATION))
    with pytest.raises(ConfigError, match='Add "walks" to its on') as told:
        space(BLUR.replace("walks", "unlearners") + CALIBRATION)
    assert len(told.value.faults) == 2
    with pytest.raises(ConfigError, match="no such strength"):
        space(BLUR + CALIBRATION.replace("@0.1", "@0.7"))
    with pytest.raises(ConfigError, match=r"layer_choice\.forget: no metric"):
        space(BLUR + '[layer_choice]\nforget = "forget_es after blur@0.5"\n')


@pytest.mark.parametrize(
    ("audit", "fault"),
    [
        ('holds = ["orignal"]', "audit.holds: no point of this study is named 'orignal'"),
        ('lacks = ["pos_*"]', "audit.lacks"),
        ('holds = ["*"]', "is in holds and in lacks"),
        ('utility = "modl_utility"', "Did you mean 'model_utility'?"),
        ('utility = "retain_loss"', "is not better where it is higher"),
        ("keep = 0.9", "audit.utility: 'model_utility' needs retain, real_authors, world_facts"),
        ('quantize = "blurr"', "audit.quantize: no attack of this file is named 'blurr'"),
        ('relearn = "blur@7"', "audit.relearn: 'blur@7': the attack has no such strength"),
    ],
)
def test_what_an_audit_lacks_is_told_before_anything_starts(space, audit, fault):
    one = space(f"{BLUR}[audit]\n{audit}\n")
    with pytest.raises(ConfigError, match=r".") as told:
        make_plan(one, look_around(one))
    assert fault in str(told.value)


AUDIT = '[audit]\nutility = "retain_es"\n'


def test_an_audit_changes_no_point(space):
    plans = [make_plan(one, look_around(one)) for one in (space(BLUR), space(BLUR + AUDIT))]
    assert plans[0].id == plans[1].id
