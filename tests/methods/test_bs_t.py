"""BS-T against the reference sheet, A.17."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS
from raymcu.methods.bs_t import bootstrap_term


@pytest.mark.parametrize(
    ("lam", "renormalize", "total"),
    [
        (0, False, -3.2777106968),
        (0, True, -3.2777106968),
        (0.2, False, -2.9606494918),
        (0.2, True, -3.0329684342),
        (0.5, False, -2.4850576842),
        (0.5, True, -2.6658550402),
    ],
)
def test_bs_t_has_the_known_value(batches, lam, renormalize, total):
    method = METHODS["bs_t"](lam=lam, k=2, renormalize=renormalize)
    loss = method.loss({FORGET: batches.table()}).total
    assert 2 * loss.item() == pytest.approx(total, abs=5e-11)  # two sequences


def test_lam_of_zero_is_ascent_on_sequence_sums(batches, gradient_of):
    batch = batches.known()
    own = bootstrap_term(batch, 0.0, 2, False)
    ascent = batch.sequence_mean(-batch.sequence_sum(batch.nll))
    assert own.item() == pytest.approx(ascent.item(), rel=1e-14)
    assert torch.allclose(gradient_of(own, batch), gradient_of(ascent, batch), rtol=1e-12)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("k", [4, 100])
def test_beliefs_over_the_whole_vocabulary_only_rescale_ascent(
    batches, gradient_of, renormalize, k
):
    table = batches.table()
    hot = torch.nn.functional.one_hot(table.labels, 4)
    expected = 0.7 * (hot - table.logits.detach().softmax(-1)) / 2
    own = gradient_of(bootstrap_term(table, 0.3, k, renormalize), table)
    assert torch.allclose(own, expected, rtol=1e-12)


@pytest.mark.parametrize("renormalize", [False, True])
def test_target_takes_no_gradient(batches, gradient_of, renormalize):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    values, tokens = p.topk(2)
    top = torch.zeros_like(p).scatter(1, tokens, values)
    if renormalize:
        top = top / top.sum(-1, keepdim=True)
    target = 0.7 * torch.nn.functional.one_hot(table.labels, 4) + 0.3 * top
    expected = (target - target.sum(-1, keepdim=True) * p) / 2
    own = gradient_of(bootstrap_term(table, 0.3, 2, renormalize), table)
    assert torch.allclose(own, expected, rtol=1e-12)
