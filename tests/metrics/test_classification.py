"""Accuracy of classifiers, UA, RA, TA and MIA, and the gap against a published table."""

import math

import numpy as np
import pytest

from raymcu.metrics._base import METRICS, Measured, Score
from raymcu.metrics._classes import true_classes
from raymcu.metrics.classification import mean_gap
from raymcu.store import tables

PARTS = ("UA", "RA", "TA", "MIA")


def score(name, point, **references):
    return METRICS[name].score(
        point.measured(), {role: other.measured() for role, other in references.items()}
    )


def inputs(build, probe, labels, guesses, point=None, classes=3):
    """Add inputs whose likeliest class, of probability 0.6, is the guess."""
    made = point or build()
    for example, (label, guess) in enumerate(zip(labels, guesses, strict=True)):
        made.label(probe, example, label, np.insert(np.full(classes - 1, 0.4 / (classes - 1)),
                                                    guess, 0.6))  # fmt: skip
    return made


@pytest.mark.parametrize("probe", ["forget", "retain", "test", "validation", "test_kept"])
def test_accuracy_is_the_share_of_right_classes(build, probe):
    point = inputs(build, probe, [0, 1, 2, 1, 0], [0, 1, 1, 1, 2])
    found = score(f"{probe}_accuracy", point)
    assert found == Score(0.6, 5)


def test_ua_is_told_in_both_orientations_and_all_in_per_cent(build):
    point = inputs(build, "forget", [0, 0, 0, 0], [0, 1, 2, 1])
    inputs(build, "retain", [1, 2], [1, 2], point)
    inputs(build, "test", [0, 1, 2, 2, 2], [0, 1, 2, 2, 0], point)
    found = {name: score(f"{name}_percent", point).value for name in
             ("ua_error", "ua_accuracy", "ra_accuracy", "ta_accuracy")}  # fmt: skip
    assert found == {"ua_error": 75.0, "ua_accuracy": 25.0, "ra_accuracy": 100.0,
                     "ta_accuracy": 80.0}  # fmt: skip


def test_ta_leaves_forgotten_classes_out_where_that_was_measured(build):
    point = inputs(build, "test", [0, 0, 1, 2], [1, 1, 1, 2])
    assert score("ta_accuracy_percent", point).value == 50.0
    inputs(build, "test_kept", [1, 2], [1, 2], point)
    assert score("ta_accuracy_percent", point) == Score(100.0, 2)


@pytest.mark.parametrize(
    ("method", "gap"),
    [  # TARF, table of CIFAR-10, all matched: UA, RA, TA, MIA of each method, and its Gap
        ((1.07, 98.62, 92.36, 100.00), 1.07),
        ((4.13, 97.65, 91.23, 100.00), 2.36),
        ((0.49, 95.24, 88.17, 99.78), 2.88),
        ((25.04, 87.94, 80.90, 88.67), 15.43),
        ((0.00, 91.32, 86.87, 100.00), 4.00),
    ],
)
def test_gap_is_that_of_a_published_table(method, gap):
    retrained = (0.00, 99.51, 94.69, 100.00)
    found = [{part: Score(value, 10) for part, value in zip(PARTS, values, strict=True)}
             for values in (method, retrained)]  # fmt: skip
    assert mean_gap(*found).value == pytest.approx(gap, abs=0.0051)
    turned = [{**parts, "UA": Score(100.0 - parts["UA"].value, 10)} for parts in found]
    assert mean_gap(*turned).value == pytest.approx(mean_gap(*found).value)


def test_gap_compares_all_four_with_the_retrained_model(build, classifier):
    point, retrained = classifier(0.9, 0.5), classifier(0.9, 0.1, "retrained", seed=1)
    names = ("ua_error_percent", "ra_accuracy_percent", "ta_accuracy_percent",
             "mia_svc_confidence_nonmember")  # fmt: skip
    by_hand = [abs(score(n, point).value - score(n, retrained).value) for n in names]
    found = score("ua_ra_ta_mia_gap", point, retrained=retrained)
    assert found.value == pytest.approx(sum(by_hand) / 4)
    assert found.value > 1.0
    assert f"UA {by_hand[0]:.2f}, RA {by_hand[1]:.2f}" in found.note
    assert score("ua_ra_ta_mia_gap", point, retrained=point).value == 0.0
    bare = inputs(build, "forget", [0], [0])
    note = "RA of the retrained model: no input of probe 'retain' was measured"
    assert score("ua_ra_ta_mia_gap", point, retrained=bare) == Score(None, 0, note)


def test_loss_is_the_mean_over_inputs(build):
    point = build().label("forget", 0, 0, [0.5, 0.5]).label("forget", 1, 1, [0.8, 0.2])
    assert score("forget_loss", point).value == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)


def test_a_diverged_classifier_has_no_accuracy(build):
    point = build().label("forget", 0, 0, [0.5, 0.5]).label("forget", 1, 0, [math.nan, math.nan])
    found = score("forget_accuracy", point)
    assert found.value is None
    assert "diverged" in found.note


def test_one_class_is_always_right(build):
    point = build()
    for probe in ("forget", "retain", "test"):
        for example in range(3):
            point.label(probe, example, 0, [1.0])
    assert score("forget_accuracy", point).value == 1.0
    assert score("zrf", point, random=point).value == 1.0
    assert score("zrf_bad_teaching", point, random=point).value == 1.0
    assert score("zrf_mu_bench", point).value == 1.0
    for attack in ("confidence", "entropy", "m_entropy", "m_entropy_sparse"):
        assert score(f"mia_svc_{attack}_nonmember", point).value in (0.0, 100.0)
    for number in ("loss", "entropy", "m_entropy"):
        assert score(f"mia_class_{number}_auc", point).value == 0.5
    assert score("forget_kl_retrained", point, retrained=point).value == 0.0


def test_a_rows_class_is_found_by_its_probability(build):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 40)
    point = build()
    for example, label in enumerate(labels):
        point.label("test", example, label, rng.dirichlet(np.ones(5)))
    assert true_classes(point.measured().labels("test")).tolist() == labels.tolist()


def test_classes_of_equal_probability_are_told_apart(build):
    point = build()
    for example in range(3):
        point.label("test", example, example, [0.25] * 4)
    assert len(set(true_classes(point.measured().labels("test")))) == 3


def test_class_logprobs_are_an_array_by_row(build):
    point = build().label("forget", 1, 0, [0.5, 0.5]).label("forget", 0, 1, [0.9, 0.1])
    rows = point.measured().labels("forget")
    assert rows.class_logprobs.shape == (2, 2)
    assert rows.class_logprobs.dtype == np.float64
    assert np.exp(rows.class_logprobs) == pytest.approx(np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert point.measured().kinds("forget") == {"input", "label", "class_logprobs"}
    assert Measured(tables.empty("measurements")).labels("forget").class_logprobs.shape == (0, 0)
