"""The two rules that join the logits of two models, by hand."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.attacks._base import ATTACKS

EXACT = {"rtol": 0.0, "atol": 1e-12}


def logits(*values):
    return torch.tensor(values, dtype=torch.float64)


def whp(alpha=1.0):
    return ATTACKS["whp"](alpha=(alpha,))


def guided(weight=2.0, **options):
    return ATTACKS["guided"](weight=(weight,), **options)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(1.0, (-1, 2, 0.5)), (0.5, (0, 2, 0.5)), (2.0, (-3, 2, 0.5))]
)
def test_what_the_reinforced_model_raises_is_lowered(alpha, expected):
    reinforced, original = logits(3, 1, 0.5), logits(1, 2, 0.5)
    assert whp(alpha).joined(reinforced, original).tolist() == list(expected)


def test_a_point_is_guided_towards_the_original_and_beyond():
    point, original = logits(0.5, 0.25, 0.25).log(), logits(0.25, 0.5, 0.25).log()
    by_hand = {
        0.0: (0.5, 0.25, 0.25),
        1.0: (0.25, 0.5, 0.25),
        2.0: (1 / 11, 8 / 11, 2 / 11),  # original² / point = .125, 1, .25
        3.0: (1 / 37, 32 / 37, 4 / 37),  # original³ / point² = 1/16, 2, 1/4
    }
    for weight, expected in by_hand.items():
        found = guided(weight).joined(point, original).softmax(-1)
        torch.testing.assert_close(found, logits(*expected), **EXACT)


def test_constants_added_to_logits_do_not_change_what_is_guided():
    point, original = torch.randn(2, 3, 9, dtype=torch.float64)
    one = guided(3.0).joined(point, original).softmax(-1)
    other = guided(3.0).joined(point + 5, original - 7).softmax(-1)
    torch.testing.assert_close(one, other, **EXACT)


def test_tokens_far_below_the_originals_likeliest_are_not_said():
    point, original = logits(0.0, 0, -9, -20), logits(4.0, 3, -1.5, -2)
    plain = guided(2.0).joined(point, original)
    assert plain.tolist() == [8, 6, 6, 16]
    found = guided(2.0, within=5.0).joined(point, original)
    assert found.tolist() == [8, 6, -92, -92]
    assert guided(2.0, within=5.6).joined(point, original).tolist() == [8, 6, 6, -92]
    assert guided(2.0, within=7.0).joined(point, original).tolist() == [8, 6, 6, 16]


@pytest.mark.parametrize("attack", [whp(0.1), guided(0.1)], ids=["whp", "guided"])
def test_logits_are_joined_in_float32_at_least(attack):
    own = torch.tensor([3.0], dtype=torch.bfloat16)
    found = attack.joined(own, torch.ones_like(own))
    assert found.dtype == torch.float32
    assert attack.joined(own.double(), own.double()).dtype == torch.float64


def test_no_guidance_is_what_the_model_says_itself():
    own = torch.randn(3, 9, dtype=torch.bfloat16)
    assert guided(0.0, within=1.0).joined(own, own + 1) is own
    assert guided(3.0).joined(own, own).equal(own.float())
    assert whp(3.0).joined(own, own).equal(own.float())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("whp", {"alpha": (0.0,)}),
        ("whp", {"alpha": ()}),
        ("whp", {"alpha": (float("nan"),)}),
        ("guided", {"weight": (-1.0,)}),
        ("guided", {"within": 0.0}),
    ],
)
def test_strengths_that_mean_nothing_are_refused(name, options):
    with pytest.raises(ValidationError):
        ATTACKS[name](**options)
