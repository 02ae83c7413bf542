"""A linear probe and nearest neighbours on states made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from raymcu.attacks import ATTACKS, Inside
from raymcu.attacks._facts import _scaled, ahead, evenly
from raymcu.errors import WorkError
from raymcu.store import tables

BOTH = pytest.mark.parametrize("name", ["linear_probe", "knn"])


class Made(Inside):
    """Facts with states given by a function of probe, fact, and whether an answer is true."""

    def __init__(self, state, num=30, wrong=3, layers=1, hidden=6):
        self.state, self.num, self.wrong, self.layers = state, num, wrong, layers
        self.random, self.hidden = np.random.default_rng(0), hidden

    def rows(self, probe):
        kinds = ["answer", "paraphrased_answer", *["perturbed_answer"] * self.wrong]
        return [
            SimpleNamespace(probe=probe, example=example, answer_kind=kind)
            for example in range(self.num)
            for kind in kinds
        ]

    def states(self, rows):
        noise = self.random.normal(size=(self.layers, len(rows), self.hidden))
        for layer in range(self.layers):
            for at, row in enumerate(rows):
                is_true = row.answer_kind != "perturbed_answer"
                noise[layer, at, 0] += self.state(row.probe, layer, is_true)
        return list(noise.astype(np.float32))


def read(name, made, **options):
    table = ATTACKS[name](**options).read("p", made)
    assert table.schema.equals(tables.SCHEMAS["readings"])
    found = {}
    for row in table.to_pylist():
        assert (row["point_id"], row["name"]) == ("p", name)
        assert (row["example"] is None) == (row["probe"] == "retain")
        for column in ("value", "control"):
            found.setdefault((row["probe"], row["layer"], column), []).append(row[column])
    return {key: float(np.mean(values)) for key, values in found.items()}


@BOTH
def test_states_that_separate_are_told_apart_and_others_are_not(name):
    """In layer 0 true answers lie 8 deviations off in both probes, in layer 1 nowhere."""
    known = Made(lambda probe, layer, is_true: 8.0 * is_true * (layer == 0), num=60, layers=2)
    found = read(name, known)
    assert found["retain", 0, "value"] == found["forget", 0, "value"] == 1.0
    for probe in ("retain", "forget"):
        assert found[probe, 1, "value"] == pytest.approx(0.5, abs=0.15)


@BOTH
def test_what_only_kept_facts_show_is_not_read_of_forgotten_ones(name):
    kept = Made(lambda probe, layer, is_true: 8.0 * is_true * (probe == "retain"), num=60)
    found = read(name, kept)
    assert found["retain", 0, "value"] == 1.0
    assert found["forget", 0, "value"] == pytest.approx(0.5, abs=0.15)


@BOTH
def test_the_control_learns_nothing(name):
    """Over lots its mean is chance, also where true answers lie apart: 20 seeds, 3 deviations."""
    made = Made(lambda probe, layer, is_true: 3.0 * is_true, num=30, wrong=1)
    controls = [read(name, made, seed=seed)["forget", 0, "control"] for seed in range(20)]
    assert np.mean(controls) == pytest.approx(0.5, abs=0.1)
    assert len({round(one, 6) for one in controls}) > 10


def test_neighbours_by_hand():
    """Angles to (1, 0): 0, 45, 90 and 180 degrees; the two nearest are true and wrong."""
    known = np.array([[2.0, 0], [1, 1], [0, 5], [-1, 0]])
    is_true = np.array([1, 0, 1, 1])
    asked = np.array([[3.0, 0], [-1, 0.1], [0, 1]])
    judged = ATTACKS["knn"](neighbours=2).judged(known, is_true, asked)
    assert judged.tolist() == [0.5, 1.0, 0.5]
    every = ATTACKS["knn"](neighbours=9).judged(known, is_true, asked)
    assert every.tolist() == [0.75] * 3


def test_a_probe_of_one_feature_by_hand():
    """States ±1, one of each label: w²/2 + 2 C log(1 + e^-w) is least at w = 2 C / (1 + e^w)."""
    probe = ATTACKS["linear_probe"](c=1.0)
    judged = probe.judged(np.array([[1.0], [-1.0]]), np.array([1, 0]), np.array([[1.0], [0.0]]))
    weight = judged[0] - judged[1]
    assert weight == pytest.approx(2 / (1 + np.exp(weight)), abs=1e-4)
    assert judged[1] == pytest.approx(0, abs=1e-6)


def test_a_facts_share_by_hand():
    """Ahead of one of two, ahead of one and level with another, behind all."""
    fact = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    looks = np.array([2.0, 1, 3, 5, 5, 4, 0, 1])
    assert ahead(looks, fact).tolist() == [0.5, 0.75, 0.0]


def test_a_rotation_to_fewer_features_keeps_what_is_judged():
    random = np.random.default_rng(0)
    known, asked = random.normal(size=(12, 40)), random.normal(size=(5, 40))
    labels = np.arange(12) % 2
    few = _scaled(known, asked)
    assert few[0].shape == (12, 12)
    mean, deviation = known.mean(0), known.std(0)
    plain = (known - mean) / deviation, (asked - mean) / deviation
    judge = ATTACKS["linear_probe"]().judged
    assert judge(few[0], labels, few[1]) == pytest.approx(
        judge(plain[0], labels, plain[1]), abs=1e-4
    )


def test_a_feature_that_never_changes_is_no_fault():
    known, asked = np.ones((4, 2)), np.ones((1, 2))
    assert [x.tolist() for x in _scaled(known, asked)] == [[[0, 0]] * 4, [[0, 0]]]


@pytest.mark.parametrize(("most", "expected"), [(None, "abcde"), (9, "abcde"), (2, "ac")])
def test_evenly(most, expected):
    assert evenly("abcde", most) == list(expected)


def test_facts_are_taken_evenly_and_the_paraphrased_answer_if_asked():
    seen = []

    class Seen(Made):
        def states(self, rows):
            seen.append([(row.example, row.answer_kind) for row in rows])
            return super().states(rows)

    made = Seen(lambda *_: 0.0, num=12, wrong=1)
    ATTACKS["knn"](facts=6, folds=2, true="paraphrased_answer").read("p", made)
    assert (
        seen[0]
        == seen[1]
        == [
            (example, kind)
            for example in (0, 2, 4, 6, 8, 10)
            for kind in ("paraphrased_answer", "perturbed_answer")
        ]
    )


@BOTH
def test_no_wrong_answers_too_few_facts_and_no_numbers_are_told(name):
    with pytest.raises(WorkError, match=r"no example of probe 'retain' has wrong answers beside"):
        ATTACKS[name]().read("p", Made(lambda *_: 0.0, wrong=0))
    with pytest.raises(WorkError, match=r"has 3 facts, and 5 folds need one each"):
        ATTACKS[name]().read("p", Made(lambda *_: 0.0, num=3))
    with pytest.raises(WorkError, match=r"states of answers are not finite"):
        ATTACKS[name]().read("p", Made(lambda *_: np.inf))
