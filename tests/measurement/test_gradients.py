"""Gradient norms against plain autograd, and what must be left alone."""

import copy
import statistics

import pytest
import torch

from raymcu.measurement.gradients import gradient_norms
from raymcu.models.encoding import Encoded, collate
from raymcu.models.scorer import Scorer


@pytest.fixture
def double(tiny_llama):
    """A random Llama in float64."""
    return Scorer(tiny_llama.double())


@pytest.fixture
def asked(encoder, authors):
    """Two rows of unequal lengths."""
    first, second = authors.training_set("forget10")[:2]
    found = [encoder.encode(x.question, x.answer) for x in (first, second)]
    assert len(found[0].answer) != len(found[1].answer)
    return found


def plain(model, row):
    """By the textbook: the model's own forward, backward, and the mean of its weights' norms."""
    model = copy.deepcopy(model).requires_grad_(True)
    logits = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0]
    first = len(row.prompt) - 1
    said = logits[first : first + len(row.answer)].log_softmax(-1)
    (-said[torch.arange(len(row.answer)), torch.tensor(row.answer)].mean()).backward()
    return statistics.fmean(float(weight.grad.norm()) for weight in model.parameters())


def test_norms_are_those_of_plain_autograd(double, asked):
    found = gradient_norms(double, asked)
    assert found == pytest.approx([plain(double.model, row) for row in asked], rel=1e-10)
    assert found[0] != pytest.approx(found[1], rel=1e-3)


class Bigrams(torch.nn.Module):
    """Two tokens; their logits are a row of a table and a bias, all zero at first."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
        self.bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

    def collate(self, rows):
        return collate(rows, 0, torch.device("cpu"))

    def forward(self, input_ids, row, column):
        return self.table[input_ids[row, column]] + self.bias


def test_norms_by_hand():
    """Each token's gradient is p - y = ±(.5, -.5), over the answer's tokens."""
    found = gradient_norms(Bigrams(), [Encoded((0,), (1, 1)), Encoded((0,), (1,))])
    # two tokens: a fourth in each cell of the table, halves in the bias; one token: halves in both
    assert found == pytest.approx([(0.5 + 0.5**0.5) / 2, 0.5**0.5], rel=1e-14)


def test_equal_rows_have_one_pass(double, asked):
    calls = []
    double.register_forward_hook(lambda *_: calls.append(1))
    found = gradient_norms(double, [asked[1], asked[0], asked[1]])
    assert found[0] == found[2] != found[1]
    assert len(calls) == 2


@pytest.mark.parametrize("is_open", [True, False])
def test_weights_gradients_and_modes_are_left_as_found(double, asked, is_open):
    weights = list(double.parameters())
    before = [weight.detach().clone() for weight in weights]
    weights[0].requires_grad_(is_open)
    for weight in weights[1:]:
        weight.requires_grad_(not is_open)
    weights[1].grad = torch.ones_like(weights[1])
    expected = [plain(double.model, row) for row in asked]
    double.train(is_open)
    with torch.no_grad():
        found = gradient_norms(double, asked)
    assert found == pytest.approx(expected, rel=1e-10)
    assert [weight.requires_grad for weight in weights] == [is_open] + [not is_open] * (
        len(weights) - 1
    )
    assert torch.equal(weights[1].grad, torch.ones_like(weights[1]))
    assert all(weight.grad is None for weight in [weights[0], *weights[2:]])
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    assert double.training == is_open


def test_what_is_open_is_closed_again_when_a_pass_fails(double, asked):
    double.requires_grad_(False)
    double.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError):
        gradient_norms(double, asked)
    assert not any(weight.requires_grad for weight in double.parameters())


def test_half_precision_norms_are_taken_in_float32(tiny_llama, asked):
    exact = gradient_norms(Scorer(tiny_llama), asked)
    rough = gradient_norms(Scorer(tiny_llama.bfloat16()), asked)
    assert rough == pytest.approx(exact, rel=0.05)
    assert rough != exact


def test_a_learned_answer_has_a_smaller_gradient(knowing, rows):
    known = gradient_norms(knowing["all"], rows[:6])
    unknown = gradient_norms(knowing["all"], rows[6:])
    assert max(known) < min(unknown)
