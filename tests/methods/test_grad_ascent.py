import pytest
import torch

from raymcu.methods._base import FORGET, METHODS


def test_grad_ascent_is_minus_the_token_mean(batches):
    table = batches.table()
    loss = METHODS["grad_ascent"]().loss({FORGET: table})
    assert loss.total.item() == pytest.approx(-3.2777106968 / 3, abs=1e-10)
    assert loss.forget is not None
    assert loss.retain is None


def test_grad_ascent_has_gradient_onehot_minus_p_over_n(batches, gradient_of):
    table = batches.table()
    loss = METHODS["grad_ascent"]().loss({FORGET: table}).total
    onehot = torch.nn.functional.one_hot(table.labels, 4)
    expected = (onehot - table.logits.softmax(-1)) / 3
    assert torch.allclose(gradient_of(loss, table), expected, atol=1e-15)


def test_forget_weight_scales_the_term(batches):
    table = batches.table()
    plain, tripled = (METHODS["grad_ascent"](forget_weight=w).loss({FORGET: table}) for w in (1, 3))
    assert tripled.total.item() == pytest.approx(3 * plain.total.item(), rel=1e-15)
    assert tripled.forget.item() == plain.forget.item()
