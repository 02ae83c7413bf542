"""OpenUnlearning's aggregates against numbers worked out by hand."""

import math

import pytest

from raymcu.metrics._base import METRICS, Score
from raymcu.metrics.aggregates import likeness
from raymcu.metrics.utility import harmonic_score


def compute(name, point, retrained=None):
    return METRICS[name].score(
        point.measured(), {"retrained": retrained.measured()} if retrained else {}
    )


def forgetful(build):
    point = build()
    # hits 0 1 0 1 1 and a missed EOS: ES 2/5, EM 3/5 (reference.md E.2)
    hits = [False, True, False, True, True, False]
    point.add("forget", 0, [-1.0] * 6, hits=hits)
    point.add("forget", 0, [-math.log(2)] * 3, kind="paraphrased_answer")  # c = 1/2
    for index, length in enumerate((2, 4)):  # w = 1/4: truth ratio c / (c + w) = 2/3
        point.add("forget", 0, [-math.log(4)] * length, kind="perturbed_answer", index=index)
    return point


def attacked(build, forget, holdout, point_id="point"):
    point = build(point_id)
    for probe, losses in (("forget", forget), ("holdout", holdout)):
        for example, nll in enumerate(losses):
            point.add(probe, example, [-nll, -nll])
    return point


def test_the_tutorial_s_check_row():
    # papers/: BS-T, Mem .56 and Util .62, printed .59
    parts = {"mem": Score(0.56, 1), "util": Score(0.62, 1)}
    assert harmonic_score(parts, 1).value == pytest.approx(0.588, abs=5e-4)


def test_parts_of_memorisation_are_openunlearning_s(build):
    point = forgetful(build)
    assert compute("forget_es_ou", point).value == pytest.approx(0.4)
    assert compute("forget_paraphrase_probability", point).value == pytest.approx(0.5)
    assert compute("forget_truth_ratio_prob_mean", point).value == pytest.approx(2 / 3)


def test_mem_is_the_harmonic_mean_of_what_is_not_remembered(build):
    # HM(1 - .4, 1 - .6, 1 - .5, 1 - 2/3) = 4 / (5/3 + 5/2 + 2 + 3)
    score = compute("ou_mem", forgetful(build))
    assert score.value == pytest.approx(4 / (5 / 3 + 5 / 2 + 5))
    assert score.num_examples == 1


def test_mem_of_a_model_that_remembers_all_is_zero_and_says_of_what(build):
    point = forgetful(build)
    point.rows[0]["hits"] = [True] * 6
    score = compute("ou_mem", point)
    assert score.value == 0.0
    assert score.note == "0 because of 1 - extraction strength, 1 - exact memorisation"


def test_mem_without_a_paraphrase_is_null_and_says_so(build):
    point = build().options("forget", 0, right=1.0, wrong=[2.0])
    assert "1 - paraphrased probability" in compute("ou_mem", point).note


def test_truth_ratio_share_is_the_mean_over_examples_and_has_limits(build):
    point = build().options("forget", 0, right=5000.0, wrong=[1.0], kind="paraphrased_answer")
    point.options("forget", 1, right=1.0, wrong=[5000.0], kind="paraphrased_answer")
    point.options("forget", 2, right=1.0, wrong=[1.0, 1.0], kind="paraphrased_answer")
    share = compute("forget_truth_ratio_prob_mean", point)
    assert share.value == pytest.approx((0.0 + 1.0 + 0.5) / 3)


def test_paraphrase_probability_is_normalised_for_length(build):
    point = build().add("retain", 0, [-0.5, -1.0, -3.0], kind="paraphrased_answer")
    point.add("retain", 1, [-0.25], kind="paraphrased_answer").add("retain", 0, [-9.0])
    by_hand = (math.exp(-1.5) + math.exp(-0.25)) / 2
    assert compute("retain_paraphrase_probability", point).value == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("attack", "retrained", "expected"),
    [(0.4, 0.4, 1.0), (0.9, 0.4, 1 / 6), (1.0, 0.4, 0.0), (0.1, 0.4, 0.5), (0.0, 0.0, 1.0),
     (0.5, 0.0, 0.5), (0.0, 1.0, 0.0)],
)  # fmt: skip
def test_likeness_to_the_retrained_model(attack, retrained, expected):
    found = likeness(Score(attack, 5), Score(retrained, 5))
    assert found.value == pytest.approx(expected)
    # the same if the other side counts as members
    flipped = likeness(Score(1 - attack, 5), Score(1 - retrained, 5))
    assert flipped.value == pytest.approx(found.value)


def test_likeness_without_an_auc_is_null():
    for pair in ((Score(None, 0, "diverged"), Score(0.5, 1)), (Score(0.5, 1), Score(None, 0, "x"))):
        assert likeness(*pair).value is None


def test_priv_is_taken_over_the_attacks_that_were_measured(build):
    # answers of two equal tokens and one text: loss, zlib and min-k order them alike.
    # point: 1 < 1.5, 1 < 3, 2 < 3 of four pairs, AUC .75; retrained .5: 1 - .25 / .5
    point = attacked(build, [1.0, 2.0], [1.5, 3.0])
    retrained = attacked(build, [1.0, 3.0], [2.0, 2.0], "retrained")
    score = compute("ou_priv", point, retrained)
    assert score.value == pytest.approx(0.5)
    assert score.note == "without mia_min_k_plus_auc: not measured"
    assert compute("ou_priv", retrained, retrained).value == 1.0


def test_min_k_attacks_of_priv_leave_the_last_token_out(build):
    """Only the last tokens tell members from others, so to them both models are at chance."""
    lasts = {"point": (-1.0, -9.0), "retrained": (-5.0, -5.0)}
    models = {}
    for name, (member, other) in lasts.items():
        made = models[name] = build(name)
        for probe, last in (("forget", member), ("holdout", other)):
            moments = {"mean_logprobs": [-2.0] * 4, "std_logprobs": [1.0] * 4}
            made.add(probe, 0, [-2.0, -3.0, -2.5, last], **moments)
    # loss and zlib: AUC 1 against .5, likeness 0; Min-K% and ++ alone would be 1
    for attack in ("min_k", "min_k_plus"):
        assert METRICS[f"mia_{attack}_auc"].score(models["point"].measured()).value == 1.0
    score = compute("ou_priv", models["point"], models["retrained"])
    assert score.value == 0.0
    assert score.note == "0 because of mia_loss_auc, mia_zlib_auc"


def test_priv_needs_the_retrained_model_and_its_attacks(build):
    point = attacked(build, [1.0], [2.0])
    assert "retrained" in compute("ou_priv", point).note
    unasked = build("retrained").add("forget", 0, [-1.0])
    assert "no membership attack" in compute("ou_priv", point, unasked).note


def test_util_and_both_totals_are_harmonic_means_of_their_parts(model):
    point, retrained = model(0.8, 0.1), model(0.9, 0.1, "retrained", seed=1)
    names = ("model_utility", "forget_fluency", "ou_mem", "ou_priv", "ou_util", "ou_aggregate",
             "ou_aggregate_two")  # fmt: skip
    of = {name: compute(name, point, retrained).value for name in names}
    assert of["ou_util"] == pytest.approx(2 / (1 / of["model_utility"] + 1 / of["forget_fluency"]))
    three = sum(1 / of[name] for name in ("ou_mem", "ou_priv", "ou_util"))
    assert of["ou_aggregate"] == pytest.approx(3 / three)
    assert of["ou_aggregate_two"] == pytest.approx(2 / (1 / of["ou_mem"] + 1 / of["ou_util"]))
    for name in ("ou_util", "ou_aggregate", "ou_aggregate_two"):
        assert "proxy" in compute(name, point, retrained).note


def test_a_total_names_the_part_it_lacks(model):
    point = model(0.8, 0.2)
    for row in point.rows:
        if row["probe"] == "world_facts":
            row["generation"] = None
    score = compute("ou_aggregate", point, model(0.9, 0.1, "retrained", seed=1))
    assert score.value is None
    assert "ou_util" in score.note
    assert "world_facts_rouge" in score.note
