import pytest

from raymcu.methods._base import FORGET, METHODS, REFUSED, RETAIN, Needs, Part


def test_altpo_is_dpo_of_sampled_answers_and_retain_nll(batches):
    forget, retain = batches.known(), batches.of(((0.5, 0.25), (0.5,)))
    other = batches.of(((0.3,), (0.6, 0.7, 0.1)), ((0.2,), (0.5, 0.8, 0.2)))
    method = METHODS["altpo"]()
    sampled = Part("forget", "sampled", pool=5, temperature=1.0)
    assert method.needs() == {
        FORGET: Needs(reference_nll=True),
        sampled: Needs(reference_nll=True),
        RETAIN: Needs(),
    }
    loss = method.loss({FORGET: forget, sampled: other, RETAIN: retain})
    dpo = METHODS["dpo"]().loss({FORGET: forget, REFUSED: other})
    assert loss.forget.item() == dpo.total.item()
    expected = dpo.total + retain.nll.mean()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-14)
