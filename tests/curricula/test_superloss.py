"""SuperLoss against the sheet, Lambert's W against scipy and against exact arithmetic."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import lambertw

from raymcu.curricula._base import CURRICULA
from raymcu.curricula.superloss import lambert_w, tau


def weight_of(loss, mean, lam):
    curriculum = CURRICULA["superloss"](lam=lam)
    memory = curriculum.begin(torch.tensor([mean], dtype=torch.float64))
    return float(curriculum.weights(torch.tensor([loss], dtype=torch.float64), memory))


@pytest.mark.parametrize(
    ("loss", "mean", "lam", "expected"),
    [
        (2, 1, 1, 0.7034674225),
        (2, 1, 10, 0.9534461720),
        (3, 1, 0.25, 0.3005419683),
        (1, 1, 10, 1),
        (-1e6, 1, 1, math.e),
        (1 - 2 / math.e, 1, 1, math.e),
    ],
)
def test_weights_have_the_known_values(loss, mean, lam, expected):
    """The last loss is within rounding of the branch point, where W has an infinite slope."""
    tolerance = 1e-7 if loss == 1 - 2 / math.e else 1e-10
    assert weight_of(loss, mean, lam) == pytest.approx(expected, rel=tolerance)


def test_the_mean_loss_has_a_weight_of_exactly_one():
    assert weight_of(3.7, 3.7, 0.01) == 1


def test_w_is_scipys():
    x = np.concatenate([np.linspace(-0.36, 1, 500), np.logspace(-12, 6, 500), [0.0]])
    found = lambert_w(torch.from_numpy(x)).numpy()
    assert found == pytest.approx(lambertw(x).real, rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("exponent", [*range(1, 17), 1.3, 2.7, 3.4, 3.5, 3.6])
def test_w_is_exact_next_to_its_branch_point(exponent):
    """Newton's iteration in 50 digits, as doubles cancel there."""
    x = -math.exp(-1) + 10.0**-exponent
    with localcontext() as context:
        context.prec = 50
        target = Decimal(x)
        w = -1 + (2 * (Decimal(1).exp() * target + 1)).sqrt()
        for _ in range(60):
            w -= (w - target * (-w).exp()) / (1 + w)
        assert abs(w * w.exp() - target) < Decimal("1e-40")
    found = float(lambert_w(torch.tensor([x], dtype=torch.float64)))
    assert abs(found - float(w)) < 1e-13


def test_the_branch_point_itself_is_minus_one():
    found = lambert_w(torch.tensor([-math.exp(-1), -0.5 * (2 / math.e)], dtype=torch.float64))
    assert found.tolist() == [-1, -1]


def test_weights_are_constants_in_the_precision_of_the_losses():
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    curriculum = CURRICULA["superloss"]()
    found = curriculum.weights(losses, curriculum.begin(losses))
    assert (found.requires_grad, found.dtype) == (False, torch.float32)
    assert found[0] > 1 > found[1]


@pytest.mark.parametrize(
    ("mean", "expected"), [("corrected", [2, 2, 20 / 6]), ("reference", [2, 8 / 5, 20 / 7])]
)
def test_tau_is_the_mean_so_far(mean, expected):
    """Four losses of 2 whose weights sum to 5, then two losses that sum to 12, weights to 2."""
    curriculum = CURRICULA["superloss"](mean=mean)
    memories = [curriculum.begin(torch.full((4,), 2.0))]
    for loss_sum, weight_sum, count in ((8.0, 5.0, 4), (12.0, 2.0, 2)):
        memories.append(curriculum.remember(memories[-1], loss_sum, weight_sum, count))
    assert [tau(memory) for memory in memories] == pytest.approx(expected)
    assert {type(value) for memory in memories for value in memory.values()} == {float}


def test_lam_is_positive():
    with pytest.raises(ValidationError):
        CURRICULA["superloss"](lam=0)
    assert CURRICULA["superloss"]().lam == 10
