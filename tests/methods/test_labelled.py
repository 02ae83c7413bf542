"""Means and sums over sequences of unequal length (reference sheet A.0)."""

import pytest
import torch

from raymcu.methods._logits import Logits


def test_token_mean_weighs_every_token_alike(batches):
    batch = batches.known()
    assert batch.token_mean(batch.nll).item() == pytest.approx(0.803477, abs=5e-7)


def test_sequence_sums_add_up_each_answer(batches):
    batch = batches.known()
    sums = batch.sequence_sum(batch.nll).tolist()
    assert sums == pytest.approx([2.407946, 1.609438], abs=5e-7)


def test_mean_of_sequence_means_is_another_number(batches):
    batch = batches.known()
    means = batch.sequence_sum(batch.nll) / torch.tensor([3, 2])
    assert batch.sequence_mean(means).item() == pytest.approx(0.803684, abs=5e-7)


def test_nll_is_computed_in_float32_at_least(batches):
    batch = batches.known()
    assert batch.nll.dtype == torch.float64
    half = batches.replace(batch, current=Logits.of(batch.logits.detach().bfloat16()))
    assert half.nll.dtype == torch.float32
