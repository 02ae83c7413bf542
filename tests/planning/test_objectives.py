"""Objectives have the metrics' directions; constraints are bounds; a trial's numbers by hand."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import math

import pytest

from raymcu.errors import ConfigError, WorkError
from raymcu.metrics._base import METRICS, Score
from raymcu.planning.objectives import (
    OF_CURVES,
    Constraint,
    directions,
    judged,
    judged_along,
    objective_faults,
)
from raymcu.study.search_space import SearchSpace
from raymcu.study.search_table import Search


def search(**content):
    return Search.model_validate(
        {"trials": 1, "space": {"mixing": {"float": (0.0, 1.0)}}, **content}
    )


def space(measurement=None, retrained=None, **content):
    return SearchSpace.model_validate(
        {
            "name": "toy",
            "benchmark": {"name": "authors", "forget_sizes": ("forget05",)},
            "model": {"scratch": {}},
            "methods": ({"name": "npo"},),
            "measurement": measurement or {},
            "retrained": retrained or {},
            "search": search(**content),
        }
    )


def faults(**content):
    return list(objective_faults(space(**content)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("retain_es >= 0.95 * original", ("retain_es", ">=", 0.95, "original")),
        ("forget_es<=retrained", ("forget_es", "<=", 1.0, "retrained")),
        ("privleak >= -10", ("privleak", ">=", -10.0, None)),
        (" forget_loss  <= 1.5e+2*retrained ", ("forget_loss", "<=", 150.0, "retrained")),
    ],
)
def test_constraint_is_read(text, expected):
    found = Constraint.parse(text)
    assert (found.name, found.sign, found.factor, found.reference) == expected
    assert found.text == text


@pytest.mark.parametrize(
    "text", ["retain_es > 0.9", "retain_es >= ", "retain_es >= 0.9 original", ">= 1", "a >= 1e", "a >= original * 2", "a >= 1 * b", "a >= 1e999"]
)  # fmt: skip
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(ConfigError, match="is no constraint"):
        Constraint.parse(text)


def test_violation_is_what_is_missing_to_the_bound():
    at_least = Constraint.parse("retain_es >= 0.5 * original")
    assert at_least.violation(0.25, 0.75) == 0.125
    assert at_least.violation(0.5, 0.75) == -0.125
    at_most = Constraint.parse("forget_es <= 0.25")
    assert at_most.violation(0.75) == 0.5
    assert at_most.violation(0.25) == 0


def test_directions_are_the_registrys():
    names = ("model_utility", "forget_es", "forget_quality_log10")
    assert directions(search(objectives=names)) == ("maximize", "minimize", "maximize")
    along = search(objectives=("forget_barrier", "retain_barrier"), curve="linear")
    assert directions(along) == ("minimize", "minimize")


def test_findings_to_minimise_are_the_six_lengths_in_nats():
    ends = ("barrier", "curvature", "variation")
    assert set(OF_CURVES) == {f"{side}_{end}" for side in ("retain", "forget") for end in ends}


def test_trial_is_judged_by_the_mean_over_its_seeds():
    asked = search(
        objectives=("model_utility", "forget_es"),
        constraints=("retain_es >= 0.5 * original", "model_utility >= 0.25", "forget_es <= retrained"),
    )  # fmt: skip
    seeds = [
        {"model_utility": Score(0.25, 3), "forget_es": Score(0.5, 3), "retain_es": Score(0.25, 3)},
        {"model_utility": Score(0.75, 3), "forget_es": Score(0.25, 3), "retain_es": Score(0.5, 3)},
    ]
    references = {
        "original": {"retain_es": Score(1.0, 3)},
        "retrained": {"forget_es": Score(0.5, 3)},
    }
    assert judged(asked, seeds, references) == {
        "model_utility": 0.5,
        "forget_es": 0.375,
        "retain_es >= 0.5 * original": 0.125,
        "model_utility >= 0.25": -0.25,
        "forget_es <= retrained": -0.125,
    }


def test_undefined_score_is_an_error_that_says_why():
    asked = search(objectives=("model_utility",), constraints=("retain_es >= 0.5 * original",))
    fine = {"model_utility": Score(0.5, 3), "retain_es": Score(0.5, 3)}
    none = {**fine, "model_utility": Score(None, 0, "the model has diverged")}
    with pytest.raises(WorkError, match=r"^model_utility: the model has diverged$"):
        judged(asked, [fine, none], {"original": fine})
    with pytest.raises(WorkError, match=r"^retain_es of original: was not measured$"):
        judged(asked, [fine], {})


def test_trial_along_curves_is_judged_by_its_worst():
    asked = search(
        objectives=("forget_barrier",), constraints=("retain_barrier <= 0.05",), curve="linear"
    )
    rows = [
        {"forget_barrier": 0.25, "retain_barrier": 0.0},
        {"forget_barrier": 0.5, "retain_barrier": 0.3},
    ]
    found = judged_along(asked, rows)
    assert found["forget_barrier"] == 0.5
    assert math.isclose(found["retain_barrier <= 0.05"], 0.25)
    for broken in ([], [*rows, {"forget_barrier": None, "retain_barrier": 0.0}]):
        with pytest.raises(WorkError, match="forget_barrier: not all curves have it"):
            judged_along(asked, broken)


def test_good_objectives_have_no_fault():
    assert not faults(constraints=("retain_es >= 0.95 * original", "forget_es <= retrained"))
    assert not faults(
        objectives=("forget_barrier",), constraints=("retain_barrier <= 0.05",), curve="linear"
    )


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({"objectives": ("model_utilty",)}, "search.objectives: no metric is named 'model_utilty'. Did you mean 'model_utility'?"),
        ({"objectives": ("privleak",), "measurement": {"probes": ("forget", "holdout"), "generate": ()}}, "search.objectives: neither direction of 'privleak' is better, its best value lies within its range. Take ou_priv, or bound it from both sides by constraints, e.g. \"privleak <= 1\"."),
        ({"objectives": ("forget_barrier",)}, "search.objectives: no metric is named 'forget_barrier'."),
        ({"objectives": ("forget_barier",), "curve": "linear"}, "search.objectives: no finding of curves is named 'forget_barier'. Did you mean 'forget_barrier'?"),
        ({"constraints": ("retain_es > 1",)}, "search.constraints: 'retain_es > 1' is no constraint."),
        ({"constraints": ("retain_e >= 1",)}, "search.constraints: no metric is named 'retain_e'. Did you mean 'retain_es'?"),
        ({"constraints": ("forget_es <= 1", "forget_es <= 1")}, "search.constraints: 'forget_es <= 1' stands there twice."),
        ({"objectives": ("verbmem",)}, "search.objectives: 'verbmem' needs verbmem in measurement.generate. Add that there, or take another."),
        ({"objectives": ("mia_gradnorm_auc",)}, "search.objectives: 'mia_gradnorm_auc' needs forget, holdout or forget_text, holdout_text in measurement.gradient_norms."),
        ({"objectives": ("forget_naturalness",)}, "search.objectives: 'forget_naturalness' is judged by another model"),
        ({"retrained": {"train": False}}, "search.objectives: 'forget_quality_log10' needs the retrained model."),
        ({"objectives": ("forget_es",), "constraints": ("retain_es >= 0.9 * retrained",), "retrained": {"train": False}}, "search.constraints: 'retain_es >= 0.9 * retrained' needs the retrained model."),
        ({"objectives": ("forget_barrier",), "constraints": ("retain_barrier <= 2 * original",), "curve": "linear"}, "search.constraints: 'retain_barrier <= 2 * original' compares curves with the original model, which has none. Give a number."),
    ],
)  # fmt: skip
def test_fault_is_told(content, start):
    found = faults(**content)
    assert any(fault.startswith(start) for fault in found), found


def test_every_metric_without_a_direction_is_told_what_to_take_instead():
    for entry in METRICS:
        if entry.component.better == "neither":
            told = [f for f in faults(objectives=(entry.name,)) if "neither direction" in f]
            assert len(told) == 1
            instead = told[0].split("Take ")[1].split(",")[0]
            assert METRICS[instead].better != "neither"
