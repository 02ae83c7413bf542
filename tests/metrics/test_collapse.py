"""Collapse: repetition, own NLL, empty answers, and the proxy of fluency made of them."""

import math

import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics.collapse import repetition

LOOP = "a b c a b c a"  # abc bca cab abc bca: 3 distinct of 5


def score(kind, build, *said, probe="forget"):
    """Score answers given as (text, log probabilities of its tokens)."""
    point = build()
    for example, (text, logprobs) in enumerate(said):
        point.add(probe, example, [-1.0], generation=text, generation_logprobs=logprobs)
    return METRICS[f"{probe}_{kind}"].score(point.measured())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("no no", 0.0),
        ("no no no", 0.0),
        ("no no no no", 0.5),
        (LOOP, 0.4),
        ("a b c a b d", 0.0),
        ("the cat\nsat on  the cat sat", 0.2),  # 1 of 5
        ("well " * 102, 0.99),
    ],
)
def test_repetition_is_the_share_of_3_grams_seen_before(text, expected):
    assert repetition(text) == pytest.approx(expected, abs=1e-15)


def test_mean_repetition_leaves_empty_answers_out_and_says_so(build):
    found = score("repetition", build, (LOOP, [-1.0]), ("", [-1.0]), ("a b c", [-1.0]))
    assert found.value == pytest.approx(0.2)
    assert found.num_examples == 2
    assert found.note == "1 empty generations are left out"


def test_own_nll_is_the_mean_over_answers_of_the_mean_over_tokens(build):
    # ((.5 + 1.5) / 2 + 3) / 2; the mean over all tokens would be 5/3
    found = score("own_nll", build, ("a b", [-0.5, -1.5]), ("c", [-3.0]), probe="retain")
    assert found.value == pytest.approx(2.0)
    assert METRICS["retain_own_nll"].better == "neither"


def test_empty_counts_answers_without_a_word(build):
    found = score("empty", build, ("a", [-1.0]), ("", [-1.0]), (" \n", [-1.0, -1.0]))
    assert found.value == pytest.approx(2 / 3)


def test_fluency_is_one_less_repetition_times_the_probability_per_token(build):
    found = score("fluency", build, (LOOP, [-0.5, -1.5]), ("x", [0.0]), ("", [0.0]))
    assert found.value == pytest.approx((0.6 * math.exp(-1.0) + 1.0 + 0.0) / 3)
    assert found.num_examples == 3


@pytest.mark.parametrize("kind", ["own_nll", "fluency"])
def test_answers_without_log_probabilities_are_left_out_and_counted(build, kind):
    assert (
        "2 of 3 generations lack" in score(kind, build, ("a", [-1.0]), ("b", None), ("c", [])).note
    )
    nothing = score(kind, build, ("a", None))
    assert nothing.value is None
    assert "no log probability" in nothing.note


@pytest.mark.parametrize("kind", ["own_nll", "fluency"])
def test_a_diverged_model_has_none(build, kind):
    found = score(kind, build, ("a", [math.nan]), ("b", [-1.0]))
    assert found.value is None
    assert "diverged" in found.note


def test_examples_that_were_not_answered_do_not_count(build):
    found = score("empty", build, ("a", [-1.0]), (None, None), ("", [-1.0]))
    assert (found.value, found.num_examples) == (0.5, 2)
    assert score("repetition", build, ("", [-1.0])).value is None
