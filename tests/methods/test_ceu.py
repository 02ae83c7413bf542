"""CE-U against the reference sheet, A.15."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS
from raymcu.methods._logits import Logits


def ceu(batch, ignore_first=0):
    return METHODS["ceu"](ignore_first=ignore_first).loss({FORGET: batch}).total


def one(batches, logits):
    return batches.replace(
        batches.table(),
        current=Logits.of(torch.tensor([logits], dtype=torch.float64).requires_grad_()),
        labels=torch.tensor([0]),
        sequence=torch.tensor([0]),
        num_sequences=1,
        total_positions=1,
        total_sequences=1,
    )


def pieces(batches, batch):
    """The batch's sequences, each a piece of its own."""
    for i in range(batch.num_sequences):
        own = batch.sequence == i
        yield batches.replace(
            batch,
            current=Logits.of(batch.logits[own]),
            labels=batch.labels[own],
            sequence=torch.zeros(int(own.sum()), dtype=torch.long),
            num_sequences=1,
        )


def test_ceu_has_the_known_value_and_gradient(batches, gradient_of):
    batch = one(batches, (2, 1, 0, -1))
    assert ceu(batch).item() == pytest.approx(1.8649793160, abs=5e-11)
    known = (0.6439143, -0.4283581, -0.1575842, -0.0579720)
    assert gradient_of(ceu(batch), batch)[0].tolist() == pytest.approx(known, abs=5e-8)


def test_ceu_is_the_mean_over_tokens(batches, gradient_of):
    table = batches.table()
    p = table.logits.detach().softmax(-1)
    label = p.gather(1, table.labels[:, None])
    q = (p / (1 - label)).scatter(1, table.labels[:, None], 0)
    entropy = -torch.special.xlogy(q, q).sum(-1)
    expected = (entropy - torch.log1p(-label[:, 0])).mean().item()
    assert ceu(table).item() == pytest.approx(expected, rel=1e-14)
    gradient = gradient_of(ceu(table), table)
    closed = (-p * label / (1 - label)).scatter(1, table.labels[:, None], label) / 3
    assert torch.allclose(gradient, closed, rtol=1e-12)
    assert torch.allclose(gradient.sum(-1), torch.zeros(3).double(), atol=1e-15)


@pytest.mark.parametrize("logit", [-800.0, 800.0])
def test_gradient_stays_bounded(batches, gradient_of, logit):
    batch = one(batches, (logit, 1, 0, -1))
    gradient = gradient_of(ceu(batch), batch)
    assert torch.isfinite(ceu(batch))
    assert gradient[0, 0].item() == pytest.approx(0 if logit < 0 else 1, abs=1e-15)
    assert gradient.abs().max() <= 1


def test_first_tokens_of_each_sequence_are_ignored(batches, gradient_of):
    batch = batches.table()
    batch = batches.replace(
        batch,
        current=Logits.of(
            torch.cat([batch.logits, batch.logits + torch.arange(4)]).detach().requires_grad_()
        ),
        labels=torch.tensor([0, 1, 3, 0, 1, 3]),
        sequence=torch.tensor([0, 0, 0, 0, 1, 1]),
        total_positions=6,
    )
    alone = batches.replace(batch, sequence=torch.arange(6), num_sequences=6)
    each = 6 * torch.stack([ceu(token) for token in pieces(batches, alone)])
    assert ceu(batch).item() == pytest.approx(each.mean().item(), rel=1e-14)
    loss = ceu(batch, ignore_first=1)
    assert loss.item() == pytest.approx(each[[1, 2, 3, 5]].mean().item(), rel=1e-14)
    assert gradient_of(loss, batch).any(-1).tolist() == [False, True, True, True, False, True]
    parts = torch.stack([ceu(piece, ignore_first=1) for piece in pieces(batches, batch)])
    assert parts.sum().item() == pytest.approx(loss.item(), rel=1e-14)


def test_a_batch_with_nothing_left_is_refused(batches):
    with pytest.raises(ValueError, match="ignore_first = 1 leaves out all 1 answer tokens"):
        ceu(one(batches, (2, 1, 0, -1)), ignore_first=1)


def test_the_first_answer_token_is_ignored_by_default():
    assert METHODS["ceu"]().ignore_first == 1
