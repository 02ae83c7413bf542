import pytest

from raymcu.methods._base import FORGET, METHODS, RETAIN


def test_grad_diff_is_retain_loss_minus_forget_loss(batches):
    forget, retain = batches.known(), batches.of(((0.5, 0.25), (0.5, 0.125, 0.5)))
    loss = METHODS["grad_diff"]().loss({FORGET: forget, RETAIN: retain})
    forget_loss, retain_loss = forget.nll.mean().item(), retain.nll.mean().item()
    assert loss.total.item() == pytest.approx(retain_loss - forget_loss, rel=1e-14)
    assert loss.forget.item() == pytest.approx(-0.803477, abs=5e-7)
    assert loss.retain.item() == pytest.approx(retain_loss, rel=1e-14)


def test_weights_scale_both_terms(batches):
    forget, retain = batches.known(), batches.of(((0.5, 0.25), (0.5,)))
    method = METHODS["grad_diff"](forget_weight=0.3, retain_weight=2)
    loss = method.loss({FORGET: forget, RETAIN: retain})
    expected = -0.3 * forget.nll.mean().item() + 2 * retain.nll.mean().item()
    assert loss.total.item() == pytest.approx(expected, rel=1e-14)
