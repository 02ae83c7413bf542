"""Membership inference: AUCs by hand, each attack's number, and which rows it is computed from."""

import math
import zlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.metrics.membership import (
    area_under_curve,
    lowest_means,
    mean_nll,
    min_k,
    min_k_20,
    min_k_ou,
    min_k_plus,
    min_k_plus_ou,
    nll_per_zlib_byte,
)

numbers = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


def auc(name, point, retrained=None):
    return METRICS[f"mia_{name}_auc"].score(point.measured(), {"retrained": retrained})


def of_one_token(build, members, others, probes=("forget", "holdout"), point_id="point"):
    """Make answers of one token, given as NLLs."""
    made = build(point_id)
    for probe, nlls in zip(probes, (members, others), strict=True):
        for example, nll in enumerate(nlls):
            made.add(probe, example, [-nll])
    return made


def test_auc_known_answer():
    # reference.md E.3: of nine pairs the member is lower in seven, and equal in one
    assert area_under_curve(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(7.5 / 9)


@given(numbers, numbers)
def test_auc_counts_pairs_and_half_of_ties(members, others):
    pairs = [(m < o) + (m == o) / 2 for m, o in product(members, others)]
    found = area_under_curve(np.array(members), np.array(others))
    assert found == pytest.approx(np.mean(pairs), abs=1e-15)
    turned = area_under_curve(np.array(others), np.array(members))
    assert found + turned == pytest.approx(1.0, abs=1e-15)


def test_auc_of_equal_numbers_is_exactly_a_half():
    assert area_under_curve(np.full(7, 0.1), np.full(3, 0.1)) == 0.5
    assert area_under_curve(np.full(7, math.inf), np.full(3, math.inf)) == 0.5


def test_loss_attack_is_oriented_so_that_a_remembered_forget_set_has_one(build):
    assert auc("loss", of_one_token(build, [1, 2, 3], [2, 4, 6])).value == pytest.approx(7.5 / 9)
    assert auc("loss", of_one_token(build, [0, 1], [2, 3])).value == 1.0
    assert auc("loss", of_one_token(build, [2, 3], [0, 1])).value == 0.0
    assert auc("loss", of_one_token(build, [0, 1], [2, 3])).num_examples == 4


def test_loss_attack_takes_means_not_sums(build):
    point = build().add("forget", 0, [-1.0] * 9).add("holdout", 0, [-2.0])
    assert auc("loss", point).value == 1.0


def test_min_k_takes_the_lowest_tokens_rounded_down(build):
    # reference.md E.4: the five tokens of A.30, k = 2 of them
    point = build().add("forget", 0, np.log([0.9, 0.5, 0.2, 0.8, 0.25]))
    point.add("forget", 1, [-3.0, -1.0, -2.0, -7.0])  # k = 1
    rows = point.measured().rows("forget")
    assert min_k(rows).tolist() == pytest.approx([1.497866, 7.0], abs=1e-6)
    assert min_k_20(rows).tolist() == pytest.approx([-math.log(0.2), 7.0], abs=1e-6)


@pytest.mark.parametrize("length", [1, 2])
def test_min_k_of_a_short_answer_takes_one_token(build, length):
    # int(0.4 * 2) = 0 tokens, of which MUSE takes the mean
    point = build().add("forget", 0, [-2.0, -5.0][:length])
    assert min_k(point.measured().rows("forget")).tolist() == [[2.0, 5.0][length - 1]]


@given(st.lists(st.lists(st.floats(-9, 0), max_size=12), min_size=1, max_size=5))
def test_lowest_means_match_a_sort_of_each_answer(answers):
    offsets = np.cumsum([0, *map(len, answers)])
    flat = np.array([value for answer in answers for value in answer])
    by_sort = [np.mean(sorted(x)[: max(1, int(len(x) * 0.4))]) if x else 0.0 for x in answers]
    assert lowest_means(flat, offsets, 0.4).tolist() == pytest.approx(by_sort)


def test_lowest_means_do_not_pass_over_a_nan():
    found = lowest_means(np.array([-1.0, np.nan, -9.0, -2.0]), np.array([0, 3, 4]), 0.4)
    assert np.isnan(found).tolist() == [True, False]


def test_zlib_attack_divides_by_the_bytes_of_the_compressed_answer(build):
    repeated, varied = "ab" * 50, "Grüße aus Ísafjörður, 1932"
    point = build().add("forget", 0, [-1.0, -3.0], answer=repeated)
    point.add("forget", 1, [-2.0], answer=varied)
    sizes = [len(zlib.compress(text.encode())) for text in (repeated, varied)]
    assert sizes[0] < sizes[1]
    found = nll_per_zlib_byte(point.measured().rows("forget"))
    assert found.tolist() == pytest.approx([2.0 / sizes[0], 2.0 / sizes[1]])


def test_min_k_plus_normalises_each_token(build):
    # (-3 + 1) / 0.5 = -4, (-1 + 2) / 2 = 0.5, (-2 + 2) / 1 = 0, …: k = 2 of five, -4 and -1
    point = build().add(
        "forget", 0, [-3.0, -1.0, -2.0, -2.5, -0.5],
        mean_logprobs=[-1.0, -2.0, -2.0, -2.0, -2.0], std_logprobs=[0.5, 2.0, 1.0, 0.5, 0.5],
    )  # fmt: skip
    assert min_k_plus(point.measured().rows("forget")).tolist() == pytest.approx([2.5])


def test_openunlearning_s_min_k_attacks_leave_the_last_token_out(build):
    # of 6, 2 and 1 tokens: int(0.4 * 5) = 2 of 5, 1 of 1, none
    point = build()
    for example, logprobs in enumerate([[-3.0, -1.0, -2.0, -2.5, -0.5, -9.0], [-4.0, -8.0], [-7]]):
        means, spreads = [-1.0, -2.0, -2.0, -2.0, -2.0, 0.0], [0.5, 2.0, 1.0, 0.5, 0.5, 1.0]
        count = len(logprobs)
        moments = {"mean_logprobs": means[:count], "std_logprobs": spreads[:count]}
        point.add("forget", example, logprobs, **moments)
    rows = point.measured().rows("forget")
    assert min_k_ou(rows).tolist() == pytest.approx([2.75, 4.0, 0.0])
    assert min_k_plus_ou(rows).tolist() == pytest.approx([2.5, 6.0, 0.0])


def test_min_k_plus_bounds_a_spread_of_zero(build):
    # A model that is sure: sigma is at least 0.001
    point = build().add("forget", 0, [-0.5], mean_logprobs=[0.0], std_logprobs=[0.0])
    assert min_k_plus(point.measured().rows("forget")).tolist() == pytest.approx([500.0])


def test_gradient_norm_attack_takes_the_column(build):
    point = build()
    for probe, norms in (("forget", (1.0, 2.0, 3.0)), ("holdout", (2.0, 4.0, 6.0))):
        for example, norm in enumerate(norms):
            point.add(probe, example, [-1.0], gradient_norm=norm)
    assert auc("gradnorm", point).value == pytest.approx(7.5 / 9)


def test_reference_attack_subtracts_the_retrained_models_loss(build):
    # Forget: 1, -1, 3; holdout: 2, 1, 3. Of nine pairs 2.5 + 3 + 0.5
    point = of_one_token(build, [1, 2, 3], [2, 4, 6])
    retrained = of_one_token(build, [0, 3, 0], [0, 3, 3], point_id="retrained").measured()
    assert auc("reference", point, retrained).value == pytest.approx(6 / 9)
    assert auc("reference", point, point.measured()).value == 0.5


def test_reference_attack_pairs_questions_not_rows(build):
    point = of_one_token(build, [1, 5], [3, 3])
    retrained = build("retrained")
    for example, (question, nll) in enumerate([("forget 1", 5.0), ("forget 0", 0.0)]):
        retrained.add("forget", example, [-nll], question=question)
    for example in range(2):
        retrained.add("holdout", example, [-1.0])
    # Differences: forget 1, 0; holdout 2, 2. Row by row the forget ones would be -4, 5.
    assert auc("reference", point, retrained.measured()).value == 1.0


def test_reference_attack_refuses_other_questions(build):
    point, retrained = of_one_token(build, [1, 2], [3]), of_one_token(build, [1], [3])
    with pytest.raises(ConfigError, match=r"'point' has 2 rows and .* 'point' 1, of which 1"):
        auc("reference", point, retrained.measured())


def test_reference_attack_is_null_without_the_retrained_model(build):
    assert auc("reference", of_one_token(build, [1], [2])).value is None


def test_texts_are_preferred_where_both_sets_of_them_were_measured(build):
    texts = ("forget_text", "holdout_text")
    point = of_one_token(build, [0], [1])
    point.rows += of_one_token(build, [5], [4], texts).rows
    assert auc("loss", point).value == 0.0
    half = of_one_token(build, [0], [1])
    half.rows += of_one_token(build, [5], [], texts).rows
    assert auc("loss", half).value == 1.0


def test_attack_is_scored_only_where_both_sets_have_what_it_needs(build):
    point = build().add("forget", 0, [-1.0], gradient_norm=1.0).add("holdout", 0, [-1.0])
    measured = point.measured()
    assert METRICS["mia_loss_auc"].is_measured(measured)
    assert not METRICS["mia_gradnorm_auc"].is_measured(measured)
    texts = of_one_token(build, [0], [1], ("forget_text", "holdout_text")).measured()
    assert METRICS["mia_loss_auc"].is_measured(texts)


def test_answers_without_tokens_are_left_out_and_counted(build):
    point = of_one_token(build, [1, 2], [3]).add("holdout", 1, [])
    score = auc("loss", point)
    assert (score.value, score.num_examples) == (1.0, 3)
    assert "1 answers without tokens" in score.note


@pytest.mark.parametrize("name", ["loss", "zlib", "min_k", "min_k_20"])
def test_auc_of_a_model_without_likelihoods_is_null(build, name):
    score = auc(name, of_one_token(build, [1, math.nan], [2]))
    assert score.value is None
    assert "diverged" in score.note


def test_auc_is_null_where_nothing_is_held_out(build):
    score = auc("loss", build().add("forget", 0, [-1.0]))
    assert score.value is None
    assert "holdout" in score.note


def test_mean_nll_is_that_of_all_tokens_with_the_end(build):
    rows = build().add("forget", 0, [-1.0, -2.0, -6.0]).measured().rows("forget")
    assert mean_nll(rows).tolist() == [3.0]
