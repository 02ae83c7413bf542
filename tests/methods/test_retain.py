"""Retain terms against the reference sheet, A.3."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.methods._logits import Logits

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
    table = batches.replace(
        table, reference=Logits.of(table.logits.detach() + 7)
    )  # a shift is none
    loss = kl(table, direction).retain
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert torch.allclose(gradient_of(loss, table), torch.zeros(3, 4).double(), atol=1e-15)


def test_default_direction_is_from_the_start_model(batches):
    table = batches.table()
    loss = METHODS["grad_ascent"](retain="kl").loss({FORGET: table, RETAIN: table})
    assert loss.retain.item() == pytest.approx(DIRECTIONS["reference_to_current"], abs=5e-10)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_labels_are_learned_by_the_retain_term_alone(batches, smoothing):
    """(1 - s) of the label's NLL and s of the mean over classes: four of them in the table."""
    table = batches.replace(batches.table(), label_smoothing=smoothing)
    log_probs = table.logits.log_softmax(-1)
    nll = -log_probs.gather(1, table.labels[:, None])[:, 0]
    expected = ((1 - smoothing) * nll - smoothing * log_probs.mean(1)).mean()
    step = {FORGET: table, RETAIN: table}
    assert METHODS["finetune"]().loss(step).total.item() == pytest.approx(
        expected.item(), rel=1e-12
    )
    found = METHODS["grad_diff"]().loss(step)
    assert found.forget.item() == pytest.approx(-nll.mean().item(), rel=1e-12)
    assert found.retain.item() == pytest.approx(expected.item(), rel=1e-12)
