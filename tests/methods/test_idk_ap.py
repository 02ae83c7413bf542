"""IDK+AP against the reference sheet, A.23."""

import math

import pytest
import torch

from raymcu.methods._base import METHODS, REFUSED, RETAIN, Needs, Part

RETAIN_REFUSED = Part("retain", "refusal")


@pytest.fixture
def step(batches):
    return {
        REFUSED: batches.of(((0.5,), (0.25, 0.5))),
        RETAIN: batches.known(),
        RETAIN_REFUSED: batches.of(((0.3,), (0.6, 0.7, 0.1))),
    }


def ap(answers, refusals, beta):
    pairs = zip(answers, refusals, strict=True)
    return sum(math.log(1 + (no / yes) ** beta) for yes, no in pairs) / beta / 2


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_idk_ap_is_refusal_nll_and_answer_preservation(step, beta):
    method = METHODS["idk_ap"](beta=beta)
    assert method.needs() == {REFUSED: Needs(), RETAIN: Needs(), RETAIN_REFUSED: Needs()}
    loss = method.loss(step)
    preserved = ap((0.09, 0.2), (0.3, 0.042), beta)
    assert loss.forget.item() == pytest.approx(math.log(16) / 3, rel=1e-12)
    assert loss.retain.item() == pytest.approx(preserved, rel=1e-12)
    assert loss.total.item() == pytest.approx(math.log(16) / 3 + preserved, rel=1e-12)


def test_means_take_the_length_out_of_answer_preservation(step):
    term = METHODS["idk_ap"](reduction="mean", beta=1.0).retain_term(step)
    expected = ap((0.09 ** (1 / 3), 0.2 ** (1 / 2)), (0.3, 0.042 ** (1 / 3)), 1.0)
    assert term.item() == pytest.approx(expected, rel=1e-12)


def test_answer_preservation_fades_where_answers_are_preferred(step, gradient_of):
    term = METHODS["idk_ap"](beta=1.0).retain_term(step)
    kept = step[RETAIN]
    sums = gradient_of(kept.sequence_mean(kept.sequence_sum(kept.nll)), kept)
    ratio = (gradient_of(term, kept) / sums)[:, 0]
    pulls = (0.3 / (0.3 + 0.09), 0.042 / (0.042 + 0.2))
    expected = torch.tensor([pulls[i] for i in (0, 0, 0, 1, 1)], dtype=torch.float64)
    assert torch.allclose(ratio, expected, rtol=1e-12)


def test_indifferent_pair_costs_log_two_over_beta(batches, step):
    even = {**step, RETAIN_REFUSED: batches.of(((0.09,), (0.4, 0.5)))}
    term = METHODS["idk_ap"](beta=0.5).retain_term(even)
    assert term.item() == pytest.approx(2 * math.log(2), rel=1e-12)
