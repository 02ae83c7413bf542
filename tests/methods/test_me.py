"""Maximum entropy against the reference sheet, A.23: KL to the uniform distribution."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, Needs, Part


def me(batch, **options):
    return METHODS["me"](retain="none", forget_weight=1, **options).loss({FORGET: batch}).total


def test_me_is_log_v_minus_entropy(batches, gradient_of):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    loss = me(table)
    assert loss.item() == pytest.approx(math.log(4) - entropy.mean().item(), rel=1e-12)
    assert torch.allclose(gradient_of(loss, table), p * (p.log() + entropy[:, None]) / 3)


def test_reverse_direction_pulls_by_p_minus_uniform(batches, gradient_of):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    loss = me(table, direction="uniform_to_current")
    expected = (0.25 * (0.25 / p).log()).sum(-1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(gradient_of(loss, table), (p - 0.25) / 3)


@pytest.mark.parametrize("direction", ["current_to_uniform", "uniform_to_current"])
def test_me_vanishes_with_its_gradient_at_the_uniform_distribution(batches, gradient_of, direction):
    even = batches.of(((0.5, 0.5), (0.5,)))
    loss = me(even, direction=direction)
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert gradient_of(loss, even).abs().max() < 1e-15


def test_me_of_a_certain_model(batches):
    sure = batches.of(((1 - 1e-12,),))
    assert me(sure).item() == pytest.approx(math.log(2), abs=1e-10)
    far = -math.log(2) + math.log(1e12) / 2
    assert me(sure, direction="uniform_to_current").item() == pytest.approx(far, abs=1e-4)


def test_me_may_include_the_prompt(batches):
    everything = Part("forget", every_position=True)
    method = METHODS["me"](retain="none", mask="all")
    assert method.needs() == {everything: Needs()}
    loss = method.loss({everything: batches.table()})
    assert loss.total.item() == pytest.approx(0.1 * me(batches.table()).item(), rel=1e-12)
