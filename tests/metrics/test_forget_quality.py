"""Forget quality: the exact KS test, its logarithms, and which models it compares."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.metrics.forget_quality import ks_test

samples = st.integers(2, 40).flatmap(
    lambda num: st.tuples(
        st.lists(st.integers(0, 30).map(float), min_size=num, max_size=num),
        st.lists(st.integers(0, 30).map(float), min_size=num, max_size=num),
    )
)


def with_ratios(build, log_ratios, point_id="point", questions=None):
    """Make a measurement of the forget probe whose truth ratios have these logarithms."""
    made = build(point_id)
    for example, ratio in enumerate(log_ratios):
        question = (questions or {}).get(example, f"question {example}")
        made.add("forget", example, [-5.0 - ratio], kind="paraphrased_answer", question=question)
        made.add("forget", example, [-5.0], kind="perturbed_answer", question=question)
    return made.measured()


def quality(point, retrained):
    return {
        form: METRICS[f"forget_quality_{form}"].score(point, {"retrained": retrained})
        for form in ("p", "ln", "log10", "d")
    }


def p_in_integers(num, distance):
    """Gnedenko and Korolyuk's sum without rounding."""
    steps = range(1, num // distance + 1) if distance else ()
    paths = sum((-1) ** (k - 1) * math.comb(2 * num, num - k * distance) for k in steps)
    return float(Fraction(2 * paths, math.comb(2 * num, num))) if distance else 1.0


@given(samples)
@settings(deadline=None)
def test_test_matches_scipy_distance_and_exact_p(two):
    ours = ks_test(*map(np.array, two))
    assert ours.statistic == pytest.approx(ks_2samp(*two, method="asymp").statistic, abs=1e-15)
    distance = round(ours.statistic * ours.num)
    assert math.exp(ours.ln_p) == pytest.approx(p_in_integers(ours.num, distance), rel=1e-10)


@pytest.mark.parametrize("num", [1, 2, 7, 40, 300])
def test_p_is_exact_at_every_distance(num):
    for distance in range(num + 1):
        first = np.arange(float(num))
        found = ks_test(first, first + distance - 0.5 if distance else first)
        assert found.statistic == distance / num
        assert math.exp(found.ln_p) == pytest.approx(p_in_integers(num, distance), rel=1e-10)


@pytest.mark.parametrize("distance", [20, 40, 100, 333, 400])
def test_test_of_400_questions_matches_scipy(distance):
    # From distance 5 down scipy's own sum exceeds 1 by rounding, and it turns to the limit law.
    first = np.arange(400.0)
    ours, theirs = ks_test(first, first + distance - 0.5), ks_2samp(first, first + distance - 0.5)
    assert math.exp(ours.ln_p) == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("num", "p"), [(40, 1.860e-23), (200, 1.943e-119), (300, 1.480e-179), (400, 1.064e-239)]
)
def test_smallest_p_is_that_of_the_lattice(num, p):
    # reference.md E.1: D = 1 gives 2 / C(2n, n)
    found = ks_test(np.arange(num), np.arange(num) + num)
    assert found.statistic == 1.0
    assert math.exp(found.ln_p) == pytest.approx(p, rel=1e-3)
    assert found.ln_p == pytest.approx(math.log(2) - math.log(math.comb(2 * num, num)), rel=1e-12)


def test_logarithms_stay_finite_where_p_underflows(build):
    scores = quality(
        with_ratios(build, np.full(1000, -3.0)), with_ratios(build, np.full(1000, 3.0))
    )
    exact = math.log(2) - math.log(math.comb(2000, 1000))
    assert scores["p"].value == 0.0
    assert scores["ln"].value == pytest.approx(exact, rel=1e-12)
    assert scores["log10"].value == pytest.approx(exact / math.log(10), rel=1e-12)


def test_p_is_invariant_when_the_ratio_is_inverted():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 40), rng.normal(0.7, 1, 40)
    assert ks_test(-first, -second) == ks_test(first, second)


def test_equal_models_cannot_be_told_apart(build):
    point = with_ratios(build, np.linspace(-1, 1, 20))
    scores = quality(point, with_ratios(build, np.linspace(-1, 1, 20), "retrained"))
    assert {form: score.value for form, score in scores.items()} == {
        "p": 1.0, "ln": 0.0, "log10": 0.0, "d": 0.0,
    }  # fmt: skip


def test_note_carries_the_sample_sizes_and_the_retrained_model(build):
    scores = quality(with_ratios(build, [0.1, 0.2]), with_ratios(build, [0.0, 0.3], "retrained"))
    for score in scores.values():
        assert score.note == "n1=2, n2=2, retrained='retrained'"
        assert score.num_examples == 2


def test_order_of_questions_is_irrelevant(build):
    turned = with_ratios(
        build, [0.3, 0.2, 0.1], questions={0: "question 2", 1: "question 1", 2: "question 0"}
    )
    straight = with_ratios(build, [0.1, 0.2, 0.3])
    retrained = with_ratios(build, [0.2, 0.4, 0.6], "retrained")
    assert quality(turned, retrained) == quality(straight, retrained)


def test_retrained_model_with_other_questions_is_refused(build):
    retrained = with_ratios(build, [0.1, 0.2, 0.3], "retrained", questions={2: "another"})
    with pytest.raises(ConfigError, match=r"of 3 .* of 3, of which 2 are the same") as caught:
        quality(with_ratios(build, [0.1, 0.2, 0.3]), retrained)
    assert "Measure the model that was retrained" in str(caught.value)


def test_retrained_model_with_another_number_of_questions_is_refused(build):
    # CRU's table compares 40 with 200 questions (reference.md E.1)
    with pytest.raises(ConfigError, match=r"of 40 .* of 200, of which 40 are the same"):
        quality(with_ratios(build, np.zeros(40)), with_ratios(build, np.zeros(200), "retrained"))


def test_quality_is_null_if_nobody_has_truth_ratios(build):
    plain = build().add("forget", 0, [-1.0])
    for score in quality(plain.measured(), plain.measured()).values():
        assert score.value is None
        assert "truth ratio" in score.note


def test_quality_of_a_diverged_model_is_null(build):
    point = with_ratios(build, [0.1, math.nan])
    for score in quality(point, with_ratios(build, [0.1, 0.2], "retrained")).values():
        assert score.value is None
        assert "diverged" in score.note
