"""UNDIAL against the reference sheet, A.14."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS
from raymcu.methods._logits import Logits


def undial(batch, **options):
    return METHODS["undial"](**options).loss({FORGET: batch}).total


@pytest.mark.parametrize(
    ("strength", "loss"), [(0, 1.0807782908), (3, 1.7072385657), (10, 1.8202652754)]
)
def test_undial_has_the_known_value(batches, strength, loss):
    assert undial(batches.table(), strength=strength).item() == pytest.approx(loss, abs=5e-11)


def test_default_strength_is_ten(batches):
    assert undial(batches.table()).item() == undial(batches.table(), strength=10).item()


@pytest.mark.parametrize("strength", [0, 3, 10])
def test_gradient_is_current_minus_target(batches, gradient_of, strength):
    table = batches.table()
    hot = torch.nn.functional.one_hot(table.labels, 4)
    target = (table.reference_logits - strength * hot).softmax(-1)
    expected = (table.logits.detach().softmax(-1) - target) / 3
    own = gradient_of(undial(table, strength=strength), table)
    assert torch.allclose(own, expected, rtol=1e-12, atol=1e-16)


def test_distilling_the_start_model_itself_has_no_gradient(batches, gradient_of):
    table = batches.table()
    table = batches.replace(
        table, reference=Logits.of(table.logits.detach() + 7)
    )  # a shift is none
    own = gradient_of(undial(table, strength=0), table)
    assert torch.allclose(own, torch.zeros_like(own), atol=1e-15)
