"""Model utility: harmonic mean of nine."""

import numpy as np
import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics.utility import harmonic_mean

NINE = [
    f"{probe}_{kind}"
    for probe in ("retain", "real_authors", "world_facts")
    for kind in ("probability", "rouge", "truth_ratio")
]


def utility(point, name="model_utility"):
    return METRICS[name].score(point)


def test_harmonic_mean_known_answer():
    assert harmonic_mean(np.array([0.5, 0.25, 1.0])) == pytest.approx(0.428571, abs=1e-6)


@pytest.mark.parametrize("values", [[0.0, 1.0], [5e-324, 1.0]])
def test_harmonic_mean_of_nothing_is_zero(values):
    assert harmonic_mean(np.array(values)) == pytest.approx(0.0, abs=1e-300)


def test_utility_is_the_harmonic_mean_of_the_nine_metrics(model):
    point = model(0.8, 0.2).measured()
    nine = [METRICS[name].score(point).value for name in NINE]
    assert utility(point).value == pytest.approx(9 / sum(1 / value for value in nine))
    assert utility(point).num_examples == 36


def test_utility_ignores_the_forget_probe(model):
    assert utility(model(0.8, 0.0).measured()).value == pytest.approx(
        utility(model(0.8, 1.0).measured()).value, abs=0.02
    )


def test_arithmetic_utility_is_lower_where_wrong_answers_vary(build):
    # The arithmetic mean of probabilities is at least the geometric, so R is and 1 - R is not.
    point = build()
    for probe in ("retain", "real_authors", "world_facts"):
        point.options(probe, 0, right=0.5, wrong=[1.0, 5.0])
        point.add(probe, 0, [-0.5], kind="paraphrased_answer")
    for row in point.rows:
        row["generation"] = row["answer"] if row["answer_kind"] == "answer" else None
    both = [utility(point.measured(), name) for name in ("model_utility", "model_utility_arith")]
    assert both[0].value > both[1].value + 0.02


def test_utility_is_zero_if_a_part_is_and_says_which(model):
    made = model(0.8, 0.2)
    for row in made.rows:
        if row["probe"] == "world_facts" and row["generation"] is not None:
            row["generation"] = "nothing alike"
    score = utility(made.measured())
    assert score.value == 0.0
    assert "world_facts_rouge" in score.note


def test_utility_is_null_if_a_part_is_missing_and_says_which(model):
    made = model(0.8, 0.2)
    for row in made.rows:
        if row["probe"] == "retain":
            row["generation"] = None
    score = utility(made.measured())
    assert score.value is None
    assert "retain_rouge" in score.note
    assert "world_facts" not in score.note


def test_openunlearning_s_utility_where_real_authors_are_all_but_impossible(build):
    """Nine numbers by its formulas, p around 4e-11 on the real authors and likely elsewhere."""
    right = {"retain": 0.5, "real_authors": 4e-11, "world_facts": 0.4}
    wrong = {"retain": (0.1, 0.2), "real_authors": (1e-11, 2e-11), "world_facts": (0.1, 0.3)}
    point, nine = build(), []
    for probe, p in right.items():
        point.options(probe, 0, -np.log(p), [-np.log(w) for w in wrong[probe]])
        point.add(probe, 0, [np.log(p)], kind="paraphrased_answer")
        point.rows = [
            {**row, "generation": "an answer" if row["answer_kind"] == "answer" else None}
            for row in point.rows
        ]
        share = p / (p + sum(wrong[probe]) + 1e-10)
        ratio = np.sqrt(np.prod(wrong[probe])) / (p + 1e-10)
        nine += [p if probe == "retain" else share, 1.0, max(0.0, 1.0 - ratio)]
    score = utility(point.measured(), "model_utility_ou")
    assert score.value == pytest.approx(9 / sum(1 / part for part in nine), rel=1e-6)
    assert utility(point.measured()).value > score.value + 0.02


def test_openunlearning_s_utility_is_the_same_where_answers_are_likely(model):
    point = model(0.8, 0.2).measured()
    same = utility(point, "model_utility_ou").value
    assert same == pytest.approx(utility(point).value, rel=1e-8)
    for name in ("forget", "retain", "real_authors", "world_facts"):
        pair = [METRICS[f"{name}_truth_ratio{form}"].score(point) for form in ("", "_ou")]
        assert pair[1].value == pytest.approx(pair[0].value, rel=1e-8)
