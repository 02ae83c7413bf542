"""TNPO against the reference sheet, A.8: NPO's weight, token by token."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS

W = (1.670103, 1, 0.117647, 0.768697, 0.117647)
SAME = ((0.9, 0.5, 0.2), (0.8, 0.25))


def tnpo(batch, **options):
    return METHODS["tnpo"](**options).loss({FORGET: batch}).total


def weights(batch, gradient_of, **options):
    """Weight of each token: the gradient over that of gradient ascent."""
    own = gradient_of(tnpo(batch, **options), batch)
    return (own / gradient_of(-batch.token_mean(batch.nll), batch))[:, 0].tolist()


def test_tnpo_has_the_known_value_and_weights(batches, gradient_of):
    batch = batches.known()
    assert tnpo(batch, eps=0).item() == pytest.approx(-0.2786157782, abs=5e-11)
    assert weights(batch, gradient_of, eps=0) == pytest.approx(W, abs=5e-7)


def test_eps_stands_in_the_denominator(batches, gradient_of):
    expected = [
        2 * p**4 / (p**4 + q**4 + 1e-5)
        for p, q in zip((0.9, 0.5, 0.2, 0.8, 0.25), (0.6, 0.5, 0.4, 0.9, 0.5), strict=True)
    ]
    assert weights(batches.known(), gradient_of) == pytest.approx(expected, rel=1e-12)


def test_tnpo_at_the_start_model_is_gradient_ascent(batches, gradient_of):
    assert weights(batches.of(SAME, SAME), gradient_of, eps=0) == pytest.approx([1] * 5, rel=1e-14)
    assert weights(batches.of(SAME, SAME), gradient_of) == pytest.approx([1] * 5, abs=5e-3)


def test_eps_lets_tokens_rest_that_are_unlikely_in_both_models(batches, gradient_of):
    batch = batches.of(((0.01, 0.5),), ((0.01, 0.5),))
    assert weights(batch, gradient_of)[0] == pytest.approx(2e-8 / (2e-8 + 1e-5), rel=1e-12)
    assert weights(batch, gradient_of, eps=0)[0] == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("eps", [0, 1e-5])
def test_tnpo_stays_finite_where_powers_underflow(batches, eps):
    batch = batches.of(((1e-300, 1e-300),), ((1e-200, 1e-300),))
    assert torch.isfinite(tnpo(batch, eps=eps))
