"""Loss, probability and truth ratio against numbers worked out by hand or by TOFU's formulas."""

import math

import numpy as np
import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics.truth_ratio import log_truth_ratios, truth_ratio_closeness, truth_ratio_margin


def value(name, point):
    return METRICS[name].score(point).value


def test_loss_is_the_token_mean_not_the_mean_of_means(build):
    # reference.md A.0 and A.30: p = (.9, .5, .2), (.8, .25); mean of means would be .803684
    point = build()
    point.add("forget", 0, np.log([0.9, 0.5, 0.2])).add("forget", 1, np.log([0.8, 0.25]))
    assert value("forget_loss", point.measured()) == pytest.approx(0.803477, abs=1e-6)


def test_probability_is_the_mean_over_answers_of_the_per_token_probability(build):
    point = build().add("retain", 0, [-0.5, -1.0, -3.0]).add("retain", 1, [-0.25])
    by_hand = (math.exp(-1.5) + math.exp(-0.25)) / 2
    assert value("retain_probability", point.measured()) == pytest.approx(by_hand, rel=1e-15)


def test_option_probability_normalises_each_option_for_length(build):
    point = build().add("world_facts", 0, [-0.5, -1.5])  # m = 1
    point.add("world_facts", 0, [-2.0], kind="perturbed_answer", index=0)
    point.add("world_facts", 0, [-1.0, -2.0, -6.0], kind="perturbed_answer", index=1)  # m = 3
    point.add("world_facts", 0, [-0.5] * 4, kind="perturbed_answer", index=2)
    right, wrong = math.exp(-1), math.exp(-2) + math.exp(-3) + math.exp(-0.5)
    score = value("world_facts_probability", point.measured())
    assert score == pytest.approx(right / (right + wrong), rel=1e-15)


def test_option_probability_has_its_limit_when_all_options_underflow(build):
    point = build().options("real_authors", 0, right=2000.0, wrong=[2000.0, 2000.0, 3000.0])
    assert value("real_authors_probability", point.measured()) == pytest.approx(1 / 3)


def test_truth_ratio_is_geometric_over_the_perturbed_answers(build):
    point = build().options("retain", 0, right=1.0, wrong=[2.0, 4.0], kind="paraphrased_answer")
    assert log_truth_ratios(point.measured(), "retain").tolist() == [-2.0]
    assert value("retain_truth_ratio", point.measured()) == pytest.approx(1 - math.exp(-2.0))


def test_truth_ratio_is_arithmetic_on_request(build):
    point = build().options("retain", 0, right=1.0, wrong=[2.0, 4.0], kind="paraphrased_answer")
    ratio = (math.exp(-2) + math.exp(-4)) / 2 / math.exp(-1)
    found = log_truth_ratios(point.measured(), "retain", "arithmetic")
    assert np.exp(found) == pytest.approx([ratio])
    score = truth_ratio_margin(point.measured(), "retain", "arithmetic")
    assert score.value == pytest.approx(1 - ratio)


def test_truth_ratio_takes_the_paraphrase_or_the_answer_by_probe(build):
    point = build()
    for probe in ("forget", "world_facts"):
        point.options(probe, 0, right=1.0, wrong=[3.0])
        point.add(probe, 0, [-2.0], kind="paraphrased_answer")
    assert log_truth_ratios(point.measured(), "forget").tolist() == [-1.0]
    assert log_truth_ratios(point.measured(), "world_facts").tolist() == [-2.0]


def test_forget_truth_ratio_is_the_same_for_r_and_its_inverse(build):
    point = build()
    point.options("forget", 0, right=1.0, wrong=[2.0], kind="paraphrased_answer")
    point.options("forget", 1, right=2.0, wrong=[1.0], kind="paraphrased_answer")
    score = truth_ratio_closeness(point.measured(), "forget")
    assert score.value == pytest.approx(math.exp(-1.0))


def test_retain_truth_ratio_is_zero_where_falsehood_is_likelier(build):
    point = build().options("retain", 0, right=3.0, wrong=[1.0], kind="paraphrased_answer")
    assert value("retain_truth_ratio", point.measured()) == 0.0


def test_truth_ratio_of_extreme_likelihoods_does_not_overflow(build):
    point = build().options("retain", 0, right=5000.0, wrong=[1.0], kind="paraphrased_answer")
    point.options("forget", 0, right=5000.0, wrong=[1.0], kind="paraphrased_answer")
    assert value("retain_truth_ratio", point.measured()) == 0.0
    assert value("forget_truth_ratio", point.measured()) == 0.0


def test_examples_without_wrong_answers_are_left_out_and_counted(build):
    point = build().options("real_authors", 0, right=1.0, wrong=[2.0])
    point.add("real_authors", 1, [-1.0])
    score = METRICS["real_authors_probability"].score(point.measured())
    assert score.num_examples == 1
    assert "1 of 2 examples" in score.note
    nothing = build().add("real_authors", 1, [-1.0]).measured()
    for name in ("real_authors_probability", "real_authors_truth_ratio"):
        score = METRICS[name].score(nothing)
        assert score.value is None
        assert "perturbed answer" in score.note


def test_scores_match_tofu_aggregate_eval_stat(build):
    """aggregate_eval_stat.py at bdc209e, transcribed: losses are per-example token means."""
    rng = np.random.default_rng(3)
    right, para = rng.uniform(0.1, 3, 30), rng.uniform(0.1, 3, 30)
    wrong = rng.uniform(0.5, 4, (30, 5))
    right, para, wrong = (x.astype(np.float32).astype(float) for x in (right, para, wrong))
    point = build()
    for probe in ("forget", "retain", "real_authors"):
        for example in range(30):
            point.options(probe, example, right[example], wrong[example])
            point.add(probe, example, [-para[example]], kind="paraphrased_answer")
    measured = point.measured()
    true_prob, false_prob = np.exp(-right), np.exp(-wrong)
    for_forget = np.exp(-wrong.mean(1)) / np.exp(-para)
    for_authors = np.exp(-wrong.mean(1)) / np.exp(-right)
    expected = {
        "retain_probability": np.mean(np.exp(-right)),
        "real_authors_probability": np.mean(true_prob / (true_prob + false_prob.sum(1))),
        "forget_truth_ratio": np.mean(np.minimum(for_forget, 1 / for_forget)),
        "retain_truth_ratio": np.mean(np.maximum(0, 1 - for_forget)),
        "real_authors_truth_ratio": np.mean(np.maximum(0, 1 - for_authors)),
    }
    for name, number in expected.items():
        assert value(name, measured) == pytest.approx(number, rel=1e-12)


def test_ratios_with_openunlearning_s_epsilon(build):
    """Its numbers from probabilities around 1e-10, of answers of unequal lengths."""
    right, wrong = (4e-11, 2e-10, 0.3), ((2e-11, 1e-11), (9e-10, 3e-10), (0.02, 0.1))
    point = build()
    for probe, kind in (("forget", "paraphrased_answer"), ("real_authors", "answer")):
        for example, (good, bad) in enumerate(zip(right, wrong, strict=True)):
            nll = -math.log(good)
            point.add(probe, example, [-nll + 1.0, -nll - 1.0, -nll], kind=kind)
            for index, p in enumerate(bad):
                logprobs = [math.log(p) - 2.0, *[math.log(p) + 1.0] * 2][: 1 + 2 * index]
                logprobs[0] += 2.0 * (index == 0)
                point.add(probe, example, logprobs, kind="perturbed_answer", index=index)
    measured = point.measured()
    ratios = [math.sqrt(b[0] * b[1]) / (g + 1e-10) for g, b in zip(right, wrong, strict=True)]
    expected = {
        "forget_truth_ratio_ou": sum(min(r, 1 / (r + 1e-10)) for r in ratios) / 3,
        "real_authors_truth_ratio_ou": sum(max(0, 1 - r) for r in ratios) / 3,
        "real_authors_probability_ou": sum(
            g / (g + sum(b) + 1e-10) for g, b in zip(right, wrong, strict=True)
        ) / 3,
    }  # fmt: skip
    for name, number in expected.items():
        assert value(name, measured) == pytest.approx(number, rel=1e-6)  # kept in float32
        assert abs(value(name.removesuffix("_ou"), measured) - number) > 0.02


def test_openunlearning_s_ratios_of_what_was_not_measured_are_null(build):
    nothing = build().add("real_authors", 1, [-1.0]).measured()
    for name in ("real_authors_probability_ou", "real_authors_truth_ratio_ou"):
        assert METRICS[name].score(nothing).value is None
