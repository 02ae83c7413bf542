"""What is smallest goes, exactly so many."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.attacks.prune import Prune, cut
from raymcu.models.scorer import Scorer


def test_a_matrix_by_hand():
    weight = torch.tensor([[3.0, -1.0, 2.0], [-0.5, 4.0, 0.0]])
    cut([weight], 0.5)
    assert weight.tolist() == [[3.0, 0.0, 2.0], [0.0, 4.0, 0.0]]


def test_of_equal_ones_the_first_go():
    weights = [torch.tensor([[1.0, -1.0], [2.0, 1.0]]), torch.tensor([[-1.0, 1.0]])]
    cut(weights, 0.5)
    assert weights[0].tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert weights[1].tolist() == [[-1.0, 1.0]]
    cut(weights, 5 / 6)
    assert weights[0].tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert weights[1].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.999])
def test_it_is_what_sorting_says(share, dtype):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(30, n, generator=generator).to(dtype) for n in (20, 50)]
    flat = torch.cat([weight.flatten() for weight in weights])
    order = flat.abs().sort(stable=True).indices
    flat[order[: round(share * len(flat))]] = 0
    cut(weights, share)
    assert torch.equal(torch.cat([weight.flatten() for weight in weights]), flat)


def zeros(model):
    return {n: int((w == 0).sum()) / w.numel() for n, w in model.named_parameters()}


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_share_is_of_each_layer_or_of_all(scope, tiny_llama):
    tiny_llama.model.layers[1].mlp.up_proj.weight.data *= 10
    before = zeros(tiny_llama)  # the padding's embedding
    with Prune(shares=(0.3,), scope=scope).applied(Scorer(tiny_llama)):
        found = zeros(tiny_llama)
    linear = {name: share for name, share in found.items() if "proj" in name}
    assert {n: s for n, s in found.items() if n not in linear} == {
        n: s for n, s in before.items() if n not in linear
    }
    if scope == "layer":
        assert all(share == pytest.approx(0.3, abs=1e-3) for share in linear.values())
    else:
        sizes = {name: weight.numel() for name, weight in tiny_llama.named_parameters()}
        gone = sum(share * sizes[name] for name, share in linear.items())
        assert round(gone) == round(0.3 * sum(sizes[name] for name in linear))
        assert linear["model.layers.1.mlp.up_proj.weight"] < 0.1


@pytest.mark.parametrize(
    "options", [{"shares": (1.0,)}, {"shares": (-0.1,)}, {"shares": ()}, {"scope": "row"}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Prune(**options)
