"""What is cached of the start model equals a second model in the loop."""

import copy

import pytest
import torch

from raymcu import models
from raymcu.training.reference import Reference, ask_hidden, ask_nll

CPU = torch.device("cpu")


@pytest.fixture
def rows(authors, encoder):
    return [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")]


def second_model(scorer, rows):
    """Logits and labels of rows in one batch, by a frozen second model."""
    batch = models.collate(rows, 0, CPU)
    with torch.no_grad():
        return scorer(batch.input_ids, batch.row, batch.column), batch.labels


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_cached_nll_is_the_second_models(tiny_llama, rows, batch):
    scorer = models.Scorer(tiny_llama)
    reference = Reference(nll=ask_nll(scorer, rows, 0, batch))
    chosen = [7, 0, 13]
    logits, labels = second_model(scorer, [rows[row] for row in chosen])
    naive = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(reference.nll_of(chosen, CPU), naive, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_cached_hidden_states_give_the_second_models_logits(tiny_llama, rows, batch):
    start = copy.deepcopy(tiny_llama)
    scorer = models.Scorer(tiny_llama)
    wanted = [13, 0, 7, 2]
    hidden, head = ask_hidden(scorer, wanted, rows, 0, batch)
    reference = Reference(hidden=hidden, head=head)
    for weight in tiny_llama.parameters():  # training moves on, the reference must not
        weight.data.add_(0.1)
    chosen = [7, 0, 13]
    naive, _ = second_model(models.Scorer(start), [rows[row] for row in chosen])
    assert torch.allclose(reference.logits_of(chosen, scorer, CPU), naive, atol=1e-6)


def test_the_cached_head_takes_no_gradient(tiny_llama, rows):
    _, head = ask_hidden(models.Scorer(tiny_llama), [0], rows, 0, 1)
    assert not any(weight.requires_grad for weight in head.parameters())
    assert all(weight.requires_grad for weight in tiny_llama.parameters())


def test_an_empty_reference_has_nothing_to_say(tiny_llama):
    reference = Reference()
    assert reference.nll_of([0], CPU) is None
    assert reference.logits_of([0], models.Scorer(tiny_llama), CPU) is None


def test_asking_leaves_the_mode_of_the_model_alone(tiny_llama, rows):
    scorer = models.Scorer(tiny_llama).train()
    ask_nll(scorer, rows[:2], 0, 1)
    assert scorer.training
    scorer.eval()
    ask_hidden(scorer, [0], rows, 0, 1)
    assert not scorer.training
