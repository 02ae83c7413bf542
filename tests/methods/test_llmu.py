import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN, Needs, Part

MISMATCHED = Part("forget", "mismatched", count=5)


@pytest.fixture
def step(batches):
    wrong = ((0.5,), (0.2, 0.3), (0.1,), (0.7, 0.6, 0.4), (0.9,))
    return {
        FORGET: batches.known(),
        MISMATCHED: batches.of(wrong + wrong[::-1]),
        RETAIN: batches.table(),
    }


def test_llmu_is_half_ascent_and_random_answers_and_kl(step):
    method = METHODS["llmu"]()
    assert method.needs() == {
        FORGET: Needs(),
        MISMATCHED: Needs(),
        RETAIN: Needs(reference_logits=True),
    }
    loss = method.loss(step)
    expected = -0.5 * step[FORGET].nll.mean() + step[MISMATCHED].nll.mean()
    assert loss.forget.item() == pytest.approx(expected.item(), rel=1e-14)
    assert loss.retain.item() == pytest.approx(0.085512747, abs=5e-10)
    assert loss.total.item() == pytest.approx(expected.item() + 0.085512747, abs=1e-9)


def test_llmu_ascends_on_one_and_descends_on_the_other(step, gradient_of):
    method = METHODS["llmu"](ascent_weight=0.3, mismatch_weight=2.0)
    loss = method.forget_term(step)
    for part, weight in ((FORGET, -0.3), (MISMATCHED, 2.0)):
        expected = weight * gradient_of(step[part].nll.mean(), step[part])
        assert torch.allclose(gradient_of(loss, step[part]), expected, rtol=1e-12)


def test_llmu_without_random_answers_is_weighted_ascent(step):
    term = METHODS["llmu"](ascent_weight=1, mismatch_weight=0).forget_term(step)
    assert term.item() == pytest.approx(-0.803477, abs=5e-7)
