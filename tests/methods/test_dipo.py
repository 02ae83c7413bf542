"""DiPO as we read it: preference between two distributions at every position."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS
from raymcu.methods._logits import Logits

OPTIONS = {"k": 1, "shift": 1.5}


def dipo(batch, **options):
    return METHODS["dipo"](**{**OPTIONS, **options}).loss({FORGET: batch}).total


def pair(logits):
    """The two distributions, built by hand."""
    raised = 1.5 * (logits == logits.amax(-1, keepdim=True))
    return (logits - raised).softmax(-1), (logits + raised).softmax(-1)


def kl(p, q):
    return (p * (p.log() - q.log())).sum(-1)


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("pairs_from", ["start", "current"])
def test_dipo_is_dpo_with_divergences_for_rewards(batches, beta, pairs_from):
    table = batches.table()
    start, now = table.reference_logits.softmax(-1), table.logits.detach().softmax(-1)
    made = table.reference_logits if pairs_from == "start" else table.logits.detach()
    preferred, other = pair(made)
    reward = kl(preferred, start) - kl(preferred, now) - kl(other, start) + kl(other, now)
    margins = (reward[0] + reward[1]).item(), reward[2].item()
    expected = sum(math.log(1 + math.exp(-beta * m)) for m in margins) / beta
    loss = dipo(table, beta=beta, pairs_from=pairs_from)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dipo_at_the_start_model_moves_from_one_distribution_to_the_other(
    batches, gradient_of, beta
):
    table = batches.table()
    same = batches.replace(table, reference=Logits.of(table.logits.detach()))
    loss = dipo(same, beta=beta)
    assert loss.item() == pytest.approx(2 / beta * math.log(2), rel=1e-12)
    preferred, other = pair(same.reference_logits)
    assert torch.allclose(gradient_of(loss, same), (other - preferred) / 2, atol=1e-14)


def test_dipo_lowers_confident_tokens_and_fades_once_they_have_fallen(batches, gradient_of):
    table = batches.table()
    top = torch.zeros_like(table.logits).scatter(-1, table.reference_logits.topk(2).indices, 1.0)
    sizes = []
    for fall in (0.0, 5.0, 50.0):
        logits = (table.reference_logits - fall * top).requires_grad_()
        moved = batches.replace(table, current=Logits.of(logits))
        gradient = gradient_of(dipo(moved, beta=1.0, k=2), moved)
        assert (gradient[top.bool()] >= 0).all()
        sizes.append(gradient.abs().max().item())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-6


def test_dipo_takes_the_whole_vocabulary_for_k_at_most(batches, gradient_of):
    table = batches.table()
    loss = dipo(table, k=99)
    assert loss.item() == pytest.approx(20 * math.log(2), rel=1e-12)
    assert gradient_of(loss, table).abs().max() < 1e-15
