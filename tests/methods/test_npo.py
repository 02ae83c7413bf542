"""NPO against the reference sheet, A.4: sequence SUMS, then the mean over sequences."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS


def npo(batch, **options):
    return METHODS["npo"](**options).loss({FORGET: batch}).total


def weights(batch, pulls_of, **options):
    return pulls_of(npo(batch, **options), batch)


@pytest.mark.parametrize(
    ("beta", "loss", "pulls"),
    [(0.1, 13.322890, (0.985617, 0.959476)), (1.0, 0.927341, (0.857143, 0.615385))],
)
def test_npo_has_the_known_value_and_weights(batches, pulls_of, beta, loss, pulls):
    batch = batches.known()
    assert npo(batch, beta=beta).item() == pytest.approx(loss, abs=5e-7)
    assert weights(batch, pulls_of, beta=beta) == pytest.approx(pulls, abs=5e-7)


@pytest.mark.parametrize(("beta", "loss"), [(0.1, 13.862944), (1.0, 2 * math.log(2))])
def test_npo_at_the_start_model_is_ascent_on_sequence_sums(batches, pulls_of, beta, loss):
    batch = batches.of(((0.9, 0.5, 0.2), (0.8, 0.25)), ((0.9, 0.5, 0.2), (0.8, 0.25)))
    assert npo(batch, beta=beta).item() == pytest.approx(loss, abs=5e-7)
    assert weights(batch, pulls_of, beta=beta) == pytest.approx([1, 1], abs=1e-12)


def test_npo_tends_to_ascent_as_beta_vanishes(batches, pulls_of):
    batch = batches.known()
    rest = npo(batch, beta=1e-6).item() - 2e6 * math.log(2)
    assert rest == pytest.approx(-0.549306052, abs=2e-8)
    limit = batch.sequence_mean(batch.sequence_sum(batch.reference_nll - batch.nll))
    assert limit.item() == pytest.approx(-0.549306144, abs=5e-10)
    assert weights(batch, pulls_of, beta=1e-6) == pytest.approx([1, 1], abs=1e-6)


def test_npo_pulls_less_the_less_likely_the_answer_has_become(batches, pulls_of):
    levels = (0.99, 0.7, 0.5, 0.1, 1e-3, 1e-9)
    pulls = [weights(batches.of(((p, p),), ((0.7, 0.7),)), pulls_of, beta=1.0)[0] for p in levels]
    assert pulls == sorted(pulls, reverse=True)
    assert 1 < pulls[0] < 2
    assert pulls[1] == pytest.approx(1)
    assert 0 < pulls[-1] < 1e-12


def test_npo_stays_finite_far_from_the_start_model(batches):
    batch = batches.of(((1e-300, 1e-300),), ((0.9, 0.9),))
    assert torch.isfinite(npo(batch, beta=10.0))


def test_npo_by_token_means_divides_each_sequence_by_its_length(batches):
    expected = 0.0
    for now, before in (((0.9, 0.5, 0.2), (0.6, 0.5, 0.4)), ((0.8, 0.25), (0.9, 0.5))):
        ratio = math.prod(p / q for p, q in zip(now, before, strict=True)) ** (1 / len(now))
        expected += 2 / 0.1 * math.log(1 + ratio**0.1) / 2
    assert npo(batches.known(), reduction="mean").item() == pytest.approx(expected, rel=1e-12)
