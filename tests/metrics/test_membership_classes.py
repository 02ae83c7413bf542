"""Membership inference on classifiers: each number by hand, and the attack against scikit-learn."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from raymcu.metrics._base import METRICS
from raymcu.metrics.membership_classes import (
    confidences,
    entropies,
    modified_entropies,
    modified_entropies_sparse,
    svc_nonmembers,
)

FAMILY = ("confidence", "entropy", "m_entropy", "m_entropy_sparse")
NUMBERS = {"confidence": confidences, "entropy": entropies, "m_entropy": modified_entropies}


def score(name, point):
    return METRICS[name].score(point.measured())


def drawn(build, sizes, seed=0, sureness=None):
    """Draw probabilities of three classes for each probe; the retain set's are surer."""
    rng = np.random.default_rng(seed)
    point = build()
    for probe, size in sizes.items():
        sure = (sureness or {}).get(probe, 6.0 if probe == "retain" else 1.0)
        for example in range(size):
            label = example % 3
            weights = np.ones(3) + sure * np.eye(3)[label]
            point.label(probe, example, label, rng.dirichlet(weights))
    return point


def only(build, *rows):
    point = build()
    for example, (label, probabilities) in enumerate(rows):
        point.label("forget", example, label, probabilities)
    return point.measured().labels("forget")


def test_numbers_of_one_input_by_hand(build):
    rows = only(build, (0, [0.7, 0.2, 0.1]), (2, [0.7, 0.2, 0.1]))
    assert confidences(rows) == pytest.approx([0.7, 0.1])
    assert entropies(rows) == pytest.approx([stats.entropy([0.7, 0.2, 0.1])] * 2, abs=1e-7)
    # -(1 - p_y) ln p_y - sum over c != y of p_c ln(1 - p_c)
    first = -0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9)
    second = -0.9 * math.log(0.1) - 0.7 * math.log(0.3) - 0.2 * math.log(0.8)
    assert modified_entropies(rows) == pytest.approx([first, second], rel=1e-6)


def test_unlearn_sparses_modified_entropy_writes_a_column_for_every_label(build):
    rows = only(build, (0, [0.7, 0.2, 0.1]), (2, [0.5, 0.3, 0.2]))  # no input of class 1
    first = -0.3 * math.log(0.7) - 0.2 * math.log(0.2) - 0.9 * math.log(0.1)
    second = -0.5 * math.log(0.5) - 0.3 * math.log(0.3) - 0.8 * math.log(0.2)
    assert modified_entropies_sparse(rows) == pytest.approx([first, second], rel=1e-6)


def test_probabilities_of_zero_and_one_have_numbers(build):
    rows = only(build, (0, [1.0, 0.0]), (1, [1.0, 0.0]), (0, [0.5, 0.5]))
    assert entropies(rows) == pytest.approx([0.0, 0.0, math.log(2)], abs=1e-7)
    least = -math.log(1e-30)  # right and sure: 0; wrong and sure: 1 ln 0 twice
    expected = [0.0, 2 * least, math.log(2)]
    assert modified_entropies(rows) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(modified_entropies_sparse(rows)).all()


@pytest.mark.parametrize("attack", NUMBERS)
def test_attack_is_scikit_learns_on_as_many_retain_inputs_as_tests(build, attack):
    point = drawn(build, {"forget": 30, "retain": 90, "test": 45})
    measured, number = point.measured(), NUMBERS[attack]
    members = number(measured.labels("retain"))[:45]
    others, forget = (number(measured.labels(probe)) for probe in ("test", "forget"))
    model = SVC(C=3, gamma="auto", kernel="rbf")
    model.fit(np.hstack([members, others]).reshape(-1, 1), [1] * 45 + [0] * 45)
    expected = 100.0 * (1.0 - model.predict(forget.reshape(-1, 1)).mean())
    found = score(f"mia_svc_{attack}_nonmember", point)
    assert 0.0 < found.value < 100.0
    assert found.value == pytest.approx(expected)
    assert (found.num_examples, found.note) == (30, None)


def test_attack_by_hand():
    members, others = np.array([0.9, 0.95, 1.0]), np.array([0.0, 0.05, 0.1])
    assert svc_nonmembers(members, others, np.array([0.02, 0.97, 0.08, 0.01])) == 0.75
    assert svc_nonmembers(members, others, np.array([1.0])) == 0.0


def test_fewer_members_than_tests_are_told(build):
    found = score("mia_svc_confidence_nonmember", drawn(build, {"forget": 5, "retain": 8,
                                                                "test": 20}))  # fmt: skip
    assert found.value is not None
    assert found.note == "8 members against 20 others: no more retain inputs"


def test_forgotten_classes_are_no_others_where_that_was_measured(build):
    sizes = {"forget": 20, "retain": 40, "test": 20, "test_kept": 12}
    point = drawn(build, sizes, sureness={"test": 20.0, "retain": 20.0, "test_kept": 0.0})
    rows = point.rows
    point.rows = [row for row in rows if row["probe"] != "test"]
    without = score("mia_svc_confidence_nonmember", point)
    point.rows = rows
    assert score("mia_svc_confidence_nonmember", point) == without


@pytest.mark.parametrize("attack", FAMILY)
def test_a_set_that_was_not_measured_is_told(build, attack):
    point = drawn(build, {"forget": 5, "retain": 8})
    found = score(f"mia_svc_{attack}_nonmember", point)
    assert (found.value, found.note) == (None, "no input of probe 'test' was measured")
    names = METRICS[f"mia_svc_{attack}_nonmember"]
    assert not names.is_measured(point.measured())


@pytest.mark.parametrize("name", ["loss", "entropy", "m_entropy"])
def test_auc_is_scikit_learns(build, name):
    point = drawn(build, {"forget": 25, "test": 40}, sureness={"forget": 3.0})
    number = NUMBERS.get(name, lambda rows: -np.log(confidences(rows)))
    forget, others = (number(point.measured().labels(probe)) for probe in ("forget", "test"))
    expected = roc_auc_score([1] * 25 + [0] * 40, -np.concatenate([forget, others]))
    found = score(f"mia_class_{name}_auc", point)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.value > 0.5
    assert found.num_examples == 65
