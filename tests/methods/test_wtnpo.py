"""WTNPO against the reference sheet, A.8."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS


def loss(name, batch, **options):
    return METHODS[name](**options).loss({FORGET: batch}).total


def test_wtnpo_has_the_known_value(batches):
    found = loss("wtnpo", batches.known(), eps=0)
    assert found.item() == pytest.approx(-0.1110726487, abs=5e-11)


def test_exponent_of_zero_is_tnpo(batches, gradient_of):
    batch = batches.known()
    own, tnpo = loss("wtnpo", batch, exponent=0), loss("tnpo", batch)
    assert own.item() == tnpo.item()
    assert torch.equal(gradient_of(own, batch), gradient_of(tnpo, batch))


def test_wtnpo_at_the_start_model_is_wga(batches, gradient_of):
    same = ((0.9, 0.5, 0.2), (0.8, 0.25))
    batch = batches.of(same, same)
    own, wga = loss("wtnpo", batch, eps=0, exponent=1.5), loss("wga", batch, exponent=1.5)
    assert own.item() == pytest.approx(wga.item(), rel=1e-14)
    assert torch.allclose(gradient_of(own, batch), gradient_of(wga, batch), rtol=1e-12)


def test_beta_and_exponent_are_not_mixed_up(batches, gradient_of):
    batch = batches.known()
    p, q = batch.nll.detach().neg().exp(), batch.reference_nll.neg().exp()
    expected = 2 * p**3 / (p**2 + q**2 + 1e-5)
    own = gradient_of(loss("wtnpo", batch, beta=2, exponent=1), batch)
    ratio = own / gradient_of(-batch.token_mean(batch.nll), batch)
    assert torch.allclose(ratio[:, 0], expected, rtol=1e-12)
