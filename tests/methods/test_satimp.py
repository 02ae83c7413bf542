"""SatImp against the reference sheet, A.13."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.methods._logits import Logits


def satimp(batch, **options):
    return METHODS["satimp"](retain="none", **options).loss({FORGET: batch}).total


@pytest.mark.parametrize(("importance", "loss"), [(0.1, -0.0267395310), (1, -0.0066206324)])
def test_satimp_has_the_known_value(batches, importance, loss):
    found = satimp(batches.known(), saturation=5, importance=importance)
    assert found.item() == pytest.approx(loss, abs=5e-11)


def test_published_weights_are_the_default(batches):
    forget, retain = batches.known(), batches.of(((0.5, 0.25), (0.5,)))
    loss = METHODS["satimp"]().loss({FORGET: forget, RETAIN: retain})
    expected = -0.0267395310 + 0.1 * retain.nll.mean().item()
    assert loss.total.item() == pytest.approx(expected, abs=5e-11)


@pytest.mark.parametrize(
    ("saturation", "other", "options"), [(0, "grad_ascent", {}), (5, "wga", {"exponent": 5})]
)
def test_without_importance_it_is_ascent_or_wga(batches, gradient_of, saturation, other, options):
    batch = batches.known()
    own = satimp(batch, saturation=saturation, importance=0)
    limit = METHODS[other](**options).loss({FORGET: batch}).total
    assert own.item() == pytest.approx(limit.item(), rel=1e-14)
    assert torch.allclose(gradient_of(own, batch), gradient_of(limit, batch), rtol=1e-14)


def test_weights_take_no_gradient(batches, gradient_of):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    hot = torch.nn.functional.one_hot(table.labels, 4)
    label = (p * hot).sum(-1, keepdim=True)
    expected = label**2 * (1 - label) ** 0.5 * (hot - p) / 3
    own = gradient_of(satimp(table, saturation=2, importance=0.5), table)
    assert torch.allclose(own, expected, rtol=1e-12)


def test_certain_tokens_are_finite(batches, gradient_of):
    batch = batches.table()
    certain = batch.logits.detach().scatter(1, batch.labels[:, None], 800.0).requires_grad_()
    batch = batches.replace(batch, current=Logits.of(certain))
    for importance in (0, 0.1):
        loss = satimp(batch, importance=importance)
        assert loss.item() == 0
        assert torch.isfinite(gradient_of(loss, batch)).all()
