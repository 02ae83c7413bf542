"""CATNIP as we read it: token-wise NPO with 1 - p for a reference."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, Needs
from raymcu.methods._logits import Logits

FLAT_P = (0.9, 0.5, 0.2, 0.8, 0.25)


def catnip(batch, **options):
    return METHODS["catnip"](**options).loss({FORGET: batch}).total


@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize("reference", ["detached", "attached"])
def test_catnip_is_npo_of_every_token(batches, beta, reference):
    values = [2 / beta * math.log(1 + (p / (1 - p)) ** beta) for p in FLAT_P]
    loss = catnip(batches.known(), beta=beta, reference=reference)
    assert loss.item() == pytest.approx(sum(values) / 5, rel=1e-12)
    loss = catnip(batches.known(), beta=beta, reference=reference, average="sequences")
    assert loss.item() == pytest.approx((sum(values[:3]) / 3 + sum(values[3:]) / 2) / 2, rel=1e-12)


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_catnip_rescales_ascent_by_confidence(batches, gradient_of, beta):
    batch = batches.known()
    ratio = gradient_of(catnip(batch, beta=beta), batch) / gradient_of(-batch.nll.mean(), batch)
    weights = [2 * p**beta / (p**beta + (1 - p) ** beta) for p in FLAT_P]
    assert ratio[:, 0].tolist() == pytest.approx(weights, rel=1e-12)


def test_attached_reference_at_beta_one_is_unlikelihood(batches, gradient_of):
    batch = batches.known()
    loss = catnip(batch, reference="attached")
    other = -2 * torch.log1p(-(-batch.nll).exp()).mean()
    assert loss.item() == pytest.approx(other.item(), rel=1e-12)
    assert torch.allclose(gradient_of(loss, batch), gradient_of(other, batch), rtol=1e-10)


def test_catnip_needs_no_start_model():
    assert METHODS["catnip"]().needs() == {FORGET: Needs()}


@pytest.mark.parametrize("reference", ["detached", "attached"])
def test_catnip_stays_finite_where_p_rounds_to_one_or_zero(batches, gradient_of, reference):
    table = batches.table()
    logits = torch.tensor([(90.0, 0, 0, 0), (0, -90, 0, 0), (0, 0, 0, 0)]).requires_grad_()
    sure = batches.replace(table, current=Logits.of(logits))
    loss = catnip(sure, reference=reference)
    assert loss.item() == pytest.approx(2 * (90 - math.log(3) + math.log(4 / 3)) / 3, rel=1e-6)
    assert torch.isfinite(gradient_of(loss, sure)).all()
