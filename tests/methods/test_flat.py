"""FLAT against the reference sheet, A.12, and its pairs against f-GAN's definitions."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, REFUSED
from raymcu.methods.flat import PAIRS

GENERATORS = {
    "total_variation": lambda u: (u - 1).abs() / 2,
    "kl": lambda u: u * u.log(),
    "reverse_kl": lambda u: -u.log(),
    "jeffrey": lambda u: (u - 1) * u.log(),
    "squared_hellinger": lambda u: (u.sqrt() - 1) ** 2,
    "pearson": lambda u: (u - 1) ** 2,
    "neyman": lambda u: (1 - u) ** 2 / u,
    "jensen_shannon": lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
}
"""f of each divergence: D(P || Q) is the mean of f(dP / dQ) under Q."""

LEVELS = torch.linspace(0, 1, 11, dtype=torch.float64)


def flat(batches, refused, forget, **options):
    step = {REFUSED: batches.of(refused), FORGET: batches.of(forget)}
    return METHODS["flat"](**options).loss(step).total


def test_total_variation_has_the_known_value(batches):
    loss = flat(batches, ((0.3, 0.3, 0.3),), ((0.7, 0.7),))
    assert loss.item() == pytest.approx(0.1565275823, abs=5e-11)


def test_probabilities_are_averaged_within_each_answer(batches):
    loss = flat(batches, ((0.3,), (0.2, 0.9)), ((0.9, 0.5, 0.2), (0.8, 0.25)))
    forget, refused = (1.6 / 3, 1.05 / 2), (0.3, 0.55)
    expected = sum(math.tanh(p) / 4 for p in forget) - sum(math.tanh(p) / 4 for p in refused)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("divergence", GENERATORS)
def test_second_function_is_the_conjugate_of_f_at_the_activation(divergence):
    u = torch.logspace(-6, 3, 900_001, dtype=torch.float64)
    activation, conjugate = PAIRS[divergence]
    values = GENERATORS[divergence](u)
    largest = [(u * t - values).max() for t in activation(LEVELS)]
    assert torch.allclose(conjugate(LEVELS), torch.stack(largest), atol=2e-6)


@pytest.mark.parametrize("divergence", GENERATORS)
def test_loss_falls_with_the_refusals_and_rises_with_the_forget_answers(
    batches, gradient_of, divergence
):
    refused, forget = batches.of(((0.3,), (0.2, 0.9))), batches.of(((0.9, 0.5, 0.2), (0.8, 0.25)))
    method = METHODS["flat"](divergence=divergence)
    loss = method.loss({REFUSED: refused, FORGET: forget}).total
    assert (gradient_of(loss, refused)[:, 0] < 0).all()
    assert (gradient_of(loss, forget)[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("divergence", "slopes"),
    [
        (
            "total_variation",
            lambda e, f: ((1 - math.tanh(e) ** 2) / 2, (1 - math.tanh(f) ** 2) / 2),
        ),
        ("kl", lambda e, f: (1, math.exp(f - 1))),
        ("reverse_kl", lambda e, f: (math.exp(-e), 1)),
        ("squared_hellinger", lambda e, f: (math.exp(-e), math.exp(f))),
        ("pearson", lambda e, f: (1, 1 + f / 2)),
        ("neyman", lambda e, f: (math.exp(-e), math.exp(-f / 2))),
        ("jensen_shannon", lambda e, f: (1 / (1 + math.exp(e)), 1 / (1 + math.exp(-f)))),
    ],
)
def test_gradient_is_that_of_the_probabilities_times_a_weight(
    batches, gradient_of, divergence, slopes
):
    refused, forget = batches.of(((0.3, 0.6),)), batches.of(((0.9, 0.5, 0.2),))
    loss = METHODS["flat"](divergence=divergence).loss({REFUSED: refused, FORGET: forget}).total
    e, f = slopes(0.45, 1.6 / 3)
    for part, weight in ((refused, -e), (forget, f)):
        p = part.log_probs.detach().exp()[:, 0]
        expected = weight * p * (1 - p) / len(p)
        assert gradient_of(loss, part)[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_jeffreys_slope_solves_its_equation():
    v = LEVELS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(PAIRS["jeffrey"][1](v).sum(), v)
    # f*'(t) is the u where f'(u) = ln u + 1 - 1/u is t
    assert torch.allclose(slope.log() + 1 - 1 / slope, LEVELS, atol=1e-12)
