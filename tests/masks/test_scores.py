"""Scores against the formulas of the sheet."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.masks._base import MASKS, UpdateMask

EACH = pytest.mark.parametrize("name", [entry.name for entry in MASKS])


def test_wagle_has_the_known_values():
    weight, forget, retain = (
        torch.tensor(values, dtype=torch.float64)
        for values in ([1.0, -2.0, 0.5, 3.0], [2.0, 1.0, -4.0, 0.0], [0.5, 0.0, 0.25, 1.0])
    )
    scores = MASKS["wagle"](mu=0.5).scores(weight, forget, retain)
    assert scores.tolist() == [0.0, 2.0, 0.0, 0.0]
    scores = MASKS["wagle"](mu=0.25).scores(weight, forget, retain)
    assert scores.tolist() == [2.0, 2.0, 2.0, 0.0]


def test_wagles_default_leaves_the_retain_term_to_dominate():
    torch.manual_seed(0)
    weight, forget, retain = torch.randn(3, 100, dtype=torch.float64)
    mask = MASKS["wagle"]()
    assert (mask.keep, mask.mu) == (0.95, 1e-6)
    scores = mask.scores(weight, forget, retain)
    assert torch.allclose(scores, ((weight - retain / 1e-6) * forget).abs(), rtol=1e-14)


def test_salun_ranks_by_the_forget_gradient_alone():
    mask = MASKS["salun"]()
    assert (mask.keep, mask.needs_retain, MASKS["wagle"].needs_retain) == (0.5, False, True)
    assert mask.scores(torch.ones(3), torch.tensor([-2.0, 0.0, 1.0]), None).tolist() == [2, 0, 1]


@EACH
def test_scores_are_not_negative_and_leave_their_arguments_alone(name):
    torch.manual_seed(0)
    given = [torch.randn(4, 3) for _ in range(3)]
    before = [tensor.clone() for tensor in given]
    scores = MASKS[name]().scores(*given)
    assert scores.shape == (4, 3)
    assert (scores >= 0).all()
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


@EACH
def test_a_shard_has_the_scores_of_that_part_of_the_whole(name):
    torch.manual_seed(0)
    weight, forget, retain = torch.randn(3, 7, 3)
    mask: UpdateMask = MASKS[name]()
    whole = mask.scores(weight, forget, retain)
    parts = [mask.scores(weight[i], forget[i], retain[i]) for i in range(7)]
    assert torch.equal(whole, torch.stack(parts))


def test_bfloat16_weights_are_scored_in_float32():
    half = torch.ones(2, dtype=torch.bfloat16)
    scores = MASKS["wagle"](mu=0.3).scores(half, half, half)
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([1 / 0.3 - 1] * 2, rel=1e-6)


@EACH
@pytest.mark.parametrize("keep", [0, -0.1, 1.1])
def test_what_is_kept_is_a_fraction(name, keep):
    with pytest.raises(ValidationError):
        MASKS[name](keep=keep)


def test_mu_is_positive():
    with pytest.raises(ValidationError):
        MASKS["wagle"](mu=0)
