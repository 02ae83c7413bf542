import pytest

from raymcu.methods._base import METHODS, RETAIN, Needs, Part


@pytest.mark.parametrize("redraw", [False, True])
def test_random_labels_descends_on_wrong_answers(batches, gradient_of, redraw):
    part = Part("forget", "mismatched", redraw=redraw)
    method = METHODS["random_labels"](redraw=redraw)
    assert method.needs() == {part: Needs(), RETAIN: Needs()}
    wrong, retain = batches.known(), batches.of(((0.5, 0.25), (0.5,)))
    loss = method.loss({part: wrong, RETAIN: retain})
    assert loss.forget.item() == pytest.approx(0.803477, abs=5e-7)
    assert loss.total.item() == pytest.approx(0.803477 + retain.nll.mean().item(), abs=5e-7)
    expected = (wrong.log_probs.exp()[:, 0] - 1) / 5
    found = gradient_of(loss.total, wrong)[:, 0]
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_labels_stay_unless_asked_to_be_drawn_again():
    assert [part.redraw for part in METHODS["random_labels"]().forget_needs()] == [False]
