"""Eigenvalues and traces of Hessians: of quadratics, by hand, and of a small Llama against all."""

import numpy as np
import pytest
import torch

from raymcu.measurement.sharpness import _product, sharpness, top_eigenvalue, trace
from raymcu.models.encoding import Encoded, collate
from raymcu.models.scorer import Scorer


def symmetric(eigenvalues, seed=0):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return turn @ np.diag(eigenvalues) @ turn.T


@pytest.mark.parametrize(
    "eigenvalues", [[5.0, 4.0, 1.0, -9.0], [-1.0, -2.0, -7.0], [3.0, 3.0, 3.0]]
)
def test_lanczos_finds_the_largest_eigenvalue_of_a_quadratic_with_its_sign(eigenvalues):
    values = [*eigenvalues, *np.linspace(min(eigenvalues), -0.0 + min(eigenvalues) / 2, 30)]
    values = [value for value in values if value <= max(eigenvalues)]
    matrix = symmetric(values)
    found = top_eigenvalue(lambda v: matrix @ v, len(matrix))
    assert found == pytest.approx(max(eigenvalues), rel=1e-3)


def test_hutchinson_is_exact_on_diagonals_and_near_within_its_error_elsewhere():
    diagonal = np.arange(1.0, 21.0)
    assert trace(lambda v: diagonal * v, 20, 3) == (210.0, 0.0)
    assert trace(lambda v: diagonal * v, 20, 1) == (210.0, None)
    matrix = symmetric(np.linspace(-1, 4, 60))
    mean, error = trace(lambda v: matrix @ v, 60, 400)
    assert abs(mean - 90) < 3 * error
    assert error < 0.05 * 90


class Quadratic(torch.nn.Module):
    """Two classes whose logits differ by w²/2 + 3u; a weight that nothing reads; another tied."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
        self.u = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
        self.unread = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.tied = self.w

    def forward(self, inputs, row, column):
        gap = self.w.square() / 2 + 3 * self.u
        return torch.stack([gap, torch.zeros_like(gap)], -1).expand(len(row), 2)

    def collate(self, rows):
        return collate(rows, 0, "cpu")


def test_of_a_softmax_of_a_quadratic_it_is_what_a_computation_by_hand_gives():
    """L = log(1 + exp(-g)): L'' = g'² p(1-p) - (1-p) g''; at 0 that is 9/4 of u, -1/2 of w."""
    model = Quadratic().requires_grad_(requires_grad=False)
    rows = [Encoded((1,), (0,)), Encoded((1, 1), (0, 0))]
    found = sharpness(model, rows, 5)
    assert found.top_eigenvalue == pytest.approx(9 / 4, rel=1e-3)
    assert (found.trace, found.trace_error) == (pytest.approx(9 / 4 - 1 / 2), pytest.approx(0))
    assert found.num_examples == 2
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())


def test_a_product_with_a_llamas_hessian_is_that_of_autograd(tiny_llama, encoder, authors):
    scorer = Scorer(tiny_llama.double())
    examples = authors.training_set("forget10")[:10]
    rows = [encoder.encode(x.question, x.answer) for x in examples]
    own = scorer.model.model.layers[0].self_attn.q_proj.weight
    others = [w for w in scorer.parameters() if w is not own]
    named = next(name for name, w in scorer.named_parameters() if w is own)

    def loss(weight):
        batch = scorer.collate(rows)
        values = (batch.inputs, batch.row, batch.column)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            logits = torch.func.functional_call(scorer, {named: weight}, values)
        return torch.nn.functional.cross_entropy(logits, batch.labels)

    direction = torch.randn(own.shape, generator=torch.Generator().manual_seed(0)).double()
    _, exact = torch.autograd.functional.hvp(loss, own.detach(), direction)

    weights = [own, *others]
    vector = np.zeros(sum(w.numel() for w in weights))
    vector[: own.numel()] = direction.flatten().numpy()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = _product(scorer, rows, weights, vector)
    expected = exact.flatten().numpy()
    apart = np.abs(found[: own.numel()] - expected).max()
    assert apart < 1e-4 * np.abs(expected).max()  # a Llama computes its norms in float32


def test_a_model_that_is_not_finite_has_no_value(tiny_llama, encoder):
    scorer = Scorer(tiny_llama)
    with torch.no_grad():
        next(scorer.parameters()).fill_(float("nan"))
    found = sharpness(scorer, [encoder.encode("Who?", "Ada.")], 2)
    assert (found.top_eigenvalue, found.note) == (None, "the Hessian is not finite")
