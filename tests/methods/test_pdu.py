"""PDU against the reference sheet, A.16."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.methods._logits import Logits

PDU = METHODS["pdu"]


def after(method, retains, epoch=100):
    """Lambda before each step, epochs having so many of them."""
    memory, found = method.begin({}, num_steps=100), []
    for i, retain in enumerate(retains, 1):
        found.append(memory["lambda"])
        memory = method.remember(memory, retain, is_epoch_end=i % epoch == 0)
    return [*found, memory["lambda"]]


def test_forget_term_has_the_known_value_and_gradient(batches, gradient_of):
    table = batches.table()
    term = PDU().forget_term({FORGET: table})
    assert term.item() == pytest.approx(2.4166667, abs=5e-8)
    hot = torch.nn.functional.one_hot(table.logits.argmax(-1), 4)
    expected = 2 * torch.tensor([[1.5], [2], [1]]) * (hot - 0.25) / 3
    assert torch.allclose(gradient_of(term, table), expected.double(), rtol=1e-12)


def test_uniform_logits_are_forgotten(batches):
    table = batches.replace(batches.table(), current=Logits.of(torch.full((3, 4), 7.0).double()))
    assert PDU().forget_term({FORGET: table}).item() == 0


def test_loss_is_the_lagrangian(batches, gradient_of):
    forget, retain = batches.table(), batches.known()
    method = PDU(eps=0.3, forget_weight=2, retain_weight=50)
    loss = method.loss({FORGET: forget, RETAIN: retain}, method.begin({}, num_steps=100))
    expected = 2 * loss.forget.item() + 50 * (loss.retain.item() - 0.3)
    assert loss.total.item() == pytest.approx(expected, rel=1e-14)
    assert loss.retain.item() == pytest.approx(0.803477, abs=5e-7)
    alone = gradient_of(50 * retain.token_mean(retain.nll), retain)
    assert torch.allclose(gradient_of(loss.total, retain), alone, rtol=1e-12)


def test_pieces_share_the_bound(batches):
    table, known = batches.table(), batches.known()
    method = PDU(eps=0.3)
    memory = method.begin({}, num_steps=100)
    whole = method.loss({FORGET: table, RETAIN: known}, memory).total.item()
    total = 0.0
    for i in range(2):
        step = {}
        for part, batch in ((FORGET, table), (RETAIN, known)):
            own = batch.sequence == i
            step[part] = batches.replace(
                batch,
                current=Logits.of(batch.logits[own]),
                labels=batch.labels[own],
                sequence=batch.sequence[own] - i,
                num_sequences=1,
            )
        total += method.loss(step, memory).total.item()
    assert total == pytest.approx(whole, rel=1e-14)


def test_bound_is_the_start_models_retain_loss_unless_given():
    assert PDU().begin({RETAIN: 0.7}, num_steps=100)["eps"] == 0.7
    assert PDU(eps=0.2).begin({RETAIN: 0.7}, num_steps=100)["eps"] == 0.2
    assert PDU().needs()[RETAIN].reference_nll
    assert not PDU(eps=0.2).needs()[RETAIN].reference_nll


def test_lambda_grows_by_eta_times_the_excess():
    method = PDU(eps=0.5, eta=2, warmup_epochs=0, retain_weight=3)
    assert after(method, [0.75, 1.0]) == pytest.approx([3, 3.5, 4.5])


def test_lambda_never_falls_below_zero():
    method = PDU(eps=0.5, eta=10, warmup_epochs=0)
    assert after(method, [0.25, 0.25, 1.0]) == pytest.approx([1, 0, 0, 5])


def test_lambda_rests_during_the_warmup():
    by_step = PDU(eps=0, warmup_epochs=2)
    assert after(by_step, [1] * 6, epoch=2) == pytest.approx([1, 1, 1, 1, 1, 2, 3])
    by_epoch = PDU(eps=0, warmup_epochs=2, cadence="epoch")
    assert after(by_epoch, [1, 1, 1, 3, 2, 4], epoch=2) == pytest.approx([1, 1, 1, 1, 3, 3, 6])
