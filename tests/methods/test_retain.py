"""Retain terms against the reference sheet, A.3."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN

DIRECTIONS = {"reference_to_current": 0.085512747, "current_to_reference": 0.081321986}


def kl(batch, direction):
    method = METHODS["grad_ascent"](retain="kl", kl_direction=direction, forget_weight=0)
    return method.loss({FORGET: batch, RETAIN: batch})


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_kl_has_the_known_value(batches, direction):
    loss = kl(batches.table(), direction)
    assert loss.retain.item() == pytest.approx(DIRECTIONS[direction], abs=5e-10)
    assert loss.total.item() == loss.retain.item()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_kl_vanishes_with_its_gradient_at_the_start_model(batches, gradient_of, direction):
    table = batches.table()
    table = batches.replace(table, reference_logits=table.logits.detach() + 7)  # a shift is none
    loss = kl(table, direction).retain
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert torch.allclose(gradient_of(loss, table), torch.zeros(3, 4).double(), atol=1e-15)


def test_default_direction_is_from_the_start_model(batches):
    table = batches.table()
    loss = METHODS["grad_ascent"](retain="kl").loss({FORGET: table, RETAIN: table})
    assert loss.retain.item() == pytest.approx(DIRECTIONS["reference_to_current"], abs=5e-10)
