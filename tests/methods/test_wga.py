"""WGA against the reference sheet, A.7."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS


def wga(batch, **options):
    return METHODS["wga"](**options).loss({FORGET: batch}).total


@pytest.mark.parametrize(("exponent", "loss"), [(1, -0.2576748136), (5, -0.0317727365)])
def test_wga_has_the_known_value(batches, exponent, loss):
    assert wga(batches.known(), exponent=exponent).item() == pytest.approx(loss, abs=5e-11)


def test_default_exponent_is_one(batches):
    assert wga(batches.known()).item() == wga(batches.known(), exponent=1).item()


def test_exponent_of_zero_is_gradient_ascent(batches, gradient_of):
    batch = batches.known()
    ascent = METHODS["grad_ascent"]().loss({FORGET: batch}).total
    assert wga(batch, exponent=0).item() == ascent.item()
    assert torch.equal(gradient_of(wga(batch, exponent=0), batch), gradient_of(ascent, batch))


@pytest.mark.parametrize("exponent", [0.5, 1, 5])
def test_weights_take_no_gradient(batches, gradient_of, exponent):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    hot = torch.nn.functional.one_hot(table.labels, 4)
    expected = (p * hot).sum(-1, keepdim=True) ** exponent * (hot - p) / 3
    assert torch.allclose(gradient_of(wga(table, exponent=exponent), table), expected, rtol=1e-12)


def test_forgotten_tokens_are_left_alone(batches, gradient_of):
    batch = batches.of(((0.5, 1e-200), (0.5,)))
    assert gradient_of(wga(batch), batch)[1].abs().max() < 1e-199
