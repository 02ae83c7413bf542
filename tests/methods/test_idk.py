import pytest

from raymcu.methods._base import METHODS, REFUSED, RETAIN


@pytest.fixture
def step(batches):
    return {REFUSED: batches.of(((0.5, 0.25, 0.5, 0.1), (0.3,))), RETAIN: batches.known()}


def test_idk_is_the_sum_of_two_token_means(step):
    loss = METHODS["idk"]().loss(step)
    refused, retain = (step[part].nll.mean().item() for part in (REFUSED, RETAIN))
    assert loss.forget.item() == pytest.approx(refused, rel=1e-14)
    assert loss.retain.item() == pytest.approx(0.803477, abs=5e-7)
    assert loss.total.item() == pytest.approx(refused + retain, rel=1e-14)


def test_concatenated_idk_is_one_token_mean(step, batches):
    longer = {**step, REFUSED: batches.of(((0.5, 0.25, 0.5, 0.1), (0.3, 0.6, 0.2)))}
    loss = METHODS["idk"](mixing="concatenated").loss(longer).total
    both = longer[REFUSED].nll.sum() + longer[RETAIN].nll.sum()
    assert loss.item() == pytest.approx(both.item() / (7 + 5), rel=1e-14)


def test_idk_descends_on_the_refusals(step, gradient_of):
    gradient = gradient_of(METHODS["idk"](retain="none").loss(step).total, step[REFUSED])
    p = step[REFUSED].log_probs.exp()[:, 0]
    assert gradient[:, 0].tolist() == pytest.approx(((p - 1) / 5).tolist(), rel=1e-12)


def test_concatenated_idk_needs_the_retain_nll():
    with pytest.raises(ValueError, match=r"needs retain 'nll'.*retain is 'kl'"):
        METHODS["idk"](mixing="concatenated", retain="kl")
