"""SimNPO against the reference sheet, A.5: each sequence's own mean, then the mean over them."""

import pytest

from raymcu.methods._base import FORGET, METHODS, RETAIN


def simnpo(batch, **options):
    return METHODS["simnpo"](retain="none", forget_weight=1, **options).loss({FORGET: batch}).total


def weights(batch, pulls_of, **options):
    return pulls_of(simnpo(batch, **options), batch)


@pytest.mark.parametrize(
    ("beta", "margin", "loss", "pulls"),
    [
        (4.5, 0, 0.0117866727, (0.0175268, 0.0260527)),
        (2.5, 0.5, 0.3071411222, (0.2129202, 0.3182562)),
    ],
)
def test_simnpo_has_the_known_value_and_weights(batches, pulls_of, beta, margin, loss, pulls):
    batch = batches.known()
    assert simnpo(batch, beta=beta, margin=margin).item() == pytest.approx(loss, abs=5e-11)
    found = weights(batch, pulls_of, beta=beta, margin=margin)
    assert found == pytest.approx(pulls, abs=5e-8)


def test_simnpo_tends_to_ascent_on_sequence_means_as_beta_vanishes(batches, pulls_of):
    found = weights(batches.known(), pulls_of, beta=1e-9)
    assert found == pytest.approx([1 / 3, 1 / 2], abs=1e-8)


def test_simnpo_stops_pulling_far_past_the_margin(batches, gradient_of):
    batch = batches.of(((1e-300, 1e-300),))
    assert simnpo(batch).item() == 0
    assert not gradient_of(simnpo(batch), batch).any()


def test_published_weights_are_the_default(batches):
    forget, retain = batches.known(), batches.of(((0.5, 0.25), (0.5,)))
    loss = METHODS["simnpo"]().loss({FORGET: forget, RETAIN: retain})
    expected = 0.125 * 0.0117866727 + retain.nll.mean().item()
    assert loss.total.item() == pytest.approx(expected, abs=5e-11)
