"""States against the model's own, and CKA against numbers worked out by hand."""

import math

import pytest
import torch

from raymcu.measurement.representations import compare, debiased_cka, linear_cka, representations
from raymcu.models.scorer import Scorer

BOTH = pytest.mark.parametrize("cka", [linear_cka, debiased_cka])


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed=9):
    return torch.linalg.qr(normal(d, d, seed))[0]


# states


def by_the_model(model, rows):
    """Every layer's states at all answer positions, one row at a time, from the model's own."""
    found = []
    for row in rows:
        ids = torch.tensor([row.prompt + row.answer])
        with torch.no_grad():
            out = model(input_ids=ids, output_hidden_states=True)
        places = slice(len(row.prompt) - 1, len(row) - 1)
        # transformers puts the embeddings first, and the normed states in the last layer's place
        found.append([states[0, places] for states in out.hidden_states[1:]])
    return [torch.cat(layer) for layer in zip(*found, strict=True)]


def test_states_are_the_models_own(knowing, rows):
    scorer = knowing["half"]
    found = representations(scorer, rows, 512, 10**6)
    expected = by_the_model(scorer.model, rows)
    assert len(found) == 3  # two layers, and the final states
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert torch.allclose(found[2], expected[1], atol=1e-5)
    normed = scorer.model.model.norm(found[1])
    assert torch.allclose(normed, found[2], atol=1e-5)
    assert {states.dtype for states in found} == {torch.float32}
    assert len({len(row.answer) for row in rows}) > 3


@pytest.mark.parametrize("batch_tokens", [1, 200, 10**6])
def test_batches_do_not_change_the_states(knowing, rows, batch_tokens):
    plain, other = (
        representations(knowing["half"], rows, size, 25) for size in (512, batch_tokens)
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize("count", [1, 7, 30])
def test_a_cap_takes_evenly_spaced_positions(knowing, rows, count):
    scorer = knowing["half"]
    whole = representations(scorer, rows, 512, 10**6)
    total = len(whole[0])
    assert total == sum(len(row.answer) for row in rows) > 60
    expected = [place * total // count for place in range(count)]
    for some, layer in zip(representations(scorer, rows, 512, count), whole, strict=True):
        assert torch.allclose(some, layer[expected], atol=1e-5)


def test_equal_rows_count_once(knowing, rows):
    scorer = knowing["nothing"]
    once, twice = (representations(scorer, r, 512, 40) for r in (rows, [*rows, rows[0]]))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


def test_states_of_half_precision_are_kept_in_float32(tiny_llama, rows):
    scorer = Scorer(tiny_llama.bfloat16()).train()
    found = representations(scorer, rows[:2], 512, 5)
    assert {(layer.dtype, layer.shape) for layer in found} == {(torch.float32, (5, 32))}
    assert scorer.training
    assert not any(layer._forward_hooks for layer in scorer.layers)


# CKA


@BOTH
def test_equal_states_are_alike(cka):
    x = normal(20, 5, 0)
    assert cka(x, x.clone()) == pytest.approx(1, abs=1e-12)


@BOTH
@pytest.mark.parametrize(("n", "d"), [(12, 40), (40, 12)])
def test_rotation_scale_and_shift_do_not_matter(cka, n, d):
    x = normal(n, d, 0)
    y = x + 0.7 * normal(n, d, 1)
    plain = cka(x, y)
    assert 0.2 < plain < 0.98
    assert cka(x @ rotation(d), y) == pytest.approx(plain, abs=1e-10)
    assert cka(1e4 * x + 3, -1e-3 * y) == pytest.approx(plain, abs=1e-10)
    assert cka(y, x) == pytest.approx(plain, abs=1e-12)


@BOTH
def test_stretching_one_direction_does_matter(cka):
    x = normal(30, 4, 0)
    stretched = x * torch.tensor([30.0, 1, 1, 1])
    assert cka(x, stretched) < 0.9


def test_linear_cka_by_hand():
    """X'X = diag(2, 2), Y'Y = (2), Y'X = (2, 0): 4 / (8^.5 · 2) = 2^-.5."""
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    y = torch.tensor([[1.0], [-1], [0], [0]])
    assert linear_cka(x, y) == pytest.approx(2**-0.5, rel=1e-14)
    assert linear_cka(x, x[:, [1, 0]]) == pytest.approx(1, rel=1e-14)


def test_unrelated_directions_have_no_likeness_by_hand():
    x = torch.tensor([[1.0], [-1], [1], [-1]])
    y = torch.tensor([[1.0], [1], [-1], [-1]])
    assert linear_cka(x, y) == 0


def test_debiased_cka_is_the_definition_with_gram_matrices():
    """HSIC_1 of Song et al. written out with n x n matrices; features of unlike number."""

    def hsic(k, m):
        n, k, m = len(k), k - k.diag().diag(), m - m.diag().diag()
        mean = k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (k * m).sum() + mean - 2 / (n - 2) * (k @ m).sum()

    for n, d in ((9, 3), (9, 20), (4, 2)):
        x, y = normal(n, d, 2), normal(n, d + 1, 3)
        k, m = x @ x.T, y @ y.T
        expected = float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())
        assert debiased_cka(x, y) == pytest.approx(expected, abs=1e-10)


def test_debiased_cka_by_hand():
    """Points 0, 0, 1, 1 on a line, against 0, 1, 0, 1.

    Centred without their diagonals, the Gram matrices have rows that sum to 0. By the pairs
    (12)(34), (13)(24), (14)(23) they are (p, q, q) and (q, p, q), so p = -2q, and the ratio is
    (2pq + q²) / (p² + 2q²) = -3 / 6.
    """
    x, y = torch.tensor([[0.0], [0], [1], [1]]), torch.tensor([[0.0], [1], [0], [1]])
    assert debiased_cka(x, y) == pytest.approx(-0.5, rel=1e-12)
    assert linear_cka(x, y) == 0


def test_few_states_of_many_features_inflate_the_plain_one_only():
    pairs = [(normal(20, 400, seed), normal(20, 400, seed + 100)) for seed in range(8)]
    plain = [linear_cka(x, y) for x, y in pairs]
    debiased = [debiased_cka(x, y) for x, y in pairs]
    assert min(plain) > 0.9
    assert abs(sum(debiased) / 8) < 0.05
    assert max(map(abs, debiased)) < 0.25


def test_both_agree_where_there_are_many_states():
    x = normal(4000, 5, 0)
    y = x + 0.5 * normal(4000, 5, 1)
    assert debiased_cka(x, y) == pytest.approx(linear_cka(x, y), abs=2e-3)


# what has no value


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_constant_states_have_no_likeness_and_say_so(constant):
    x, y = torch.full((10, 3), constant), normal(10, 3, 0).float()
    for one, other in ((x, y), (y, x), (x, x)):
        found = compare(one, other)
        assert (found.cka, found.cka_debiased, found.num_states) == (None, None, 10)
        assert found.note == "the states are the same at all positions"


def test_states_that_are_not_finite_have_none_and_say_so():
    x = normal(10, 3, 0)
    y = x.clone()
    y[3, 1] = math.nan
    assert compare(x, y).note == "states are not finite"
    assert compare(y, x).cka is None


def test_too_few_states_have_only_the_plain_one():
    x = normal(3, 5, 0)
    found = compare(x, x)
    assert found.cka == pytest.approx(1)
    assert found.cka_debiased is None
    assert found.note == "unbiased estimates need 4 states that differ, there are 3"
    assert compare(x[:1], x[:1]).cka is None


def test_states_along_one_direction_but_for_one_have_no_debiased_value():
    """All but one equal: nothing is left once the Gram matrix is centred without its diagonal."""
    x = torch.zeros(8, 3)
    x[0, 1] = 1.0
    found = compare(x, x)
    assert found.cka == pytest.approx(1)
    assert found.cka_debiased is None


def test_a_comparison_of_other_states_has_both_values_and_no_note():
    x, y = normal(50, 4, 0), normal(50, 4, 1)
    found = compare(x, y)
    assert (found.cka, found.cka_debiased) == (linear_cka(x, y), debiased_cka(x, y))
    assert found.note is None
