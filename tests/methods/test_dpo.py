"""DPO against the reference sheet, A.10: sequence SUMS, paired by question."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, REFUSED


@pytest.fixture
def step(batches):
    """Refusals of NLL (2, 3), and (2.5, 2.5) at the start, beside the sheet's token batch."""
    e = math.exp
    refused = batches.of(((e(-2),), (e(-1), e(-2))), ((e(-2.5),), (e(-1.5), e(-1))))
    return {FORGET: batches.known(), REFUSED: refused}


@pytest.mark.parametrize(("scale", "loss"), [("two_over_beta", 13.322599), ("one", 0.666130)])
def test_dpo_has_the_known_value(step, scale, loss):
    found = METHODS["dpo"](beta=0.1, scale=scale).loss(step).total
    assert found.item() == pytest.approx(loss, abs=5e-7)


def test_dpo_at_the_start_model_is_the_difference_of_sequence_sums(batches, gradient_of):
    p, q = ((0.9, 0.5, 0.2), (0.8, 0.25)), ((0.3,), (0.6, 0.7, 0.1))
    forget, refused = batches.of(p, p), batches.of(q, q)
    loss = METHODS["dpo"]().loss({FORGET: forget, REFUSED: refused}).total
    assert loss.item() == pytest.approx(20 * math.log(2), rel=1e-12)
    for part, sign in ((refused, 1), (forget, -1)):
        sums = part.sequence_mean(sign * part.sequence_sum(part.nll))
        assert torch.allclose(gradient_of(loss, part), gradient_of(sums, part), rtol=1e-12)


def test_dpo_weighs_each_pair_by_how_little_it_is_preferred_yet(step, gradient_of):
    loss = METHODS["dpo"](beta=1.0).loss(step).total
    sums = step[FORGET].sequence_mean(-step[FORGET].sequence_sum(step[FORGET].nll))
    ratio = (gradient_of(loss, step[FORGET]) / gradient_of(sums, step[FORGET]))[:, 0]
    margins = (0.5 + math.log(0.12 / 0.09), -0.5 + math.log(0.45 / 0.2))
    pulls = [2 / (1 + math.exp(margin)) for margin in margins]
    assert ratio.tolist() == pytest.approx([pulls[0]] * 3 + [pulls[1]] * 2, rel=1e-12)
