"""Models spread by accelerate, and blends written where their weights are."""

import accelerate
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raymcu.blend import Blend
from raymcu.models.blending import combine, write_blend
from raymcu.models.causal_lm import resident_weights
from raymcu.models.scorer import Scorer


def others(model, seed):
    made = torch.Generator().manual_seed(seed)
    return {n: torch.randn(w.shape, generator=made) / 10 for n, w in model.named_parameters()}


def test_a_blend_reaches_weights_that_accelerate_keeps_on_the_cpu(tiny_llama):
    """Those of a model too large for its device are brought for each use, and none is left out."""
    sources = {"a": others(tiny_llama, 0), "b": others(tiny_llama, 1)}
    blend = Blend.of({"a": 0.25, "b": 0.75})
    ids, where = torch.arange(4, 10)[None], (torch.zeros(6, dtype=torch.long), torch.arange(6))
    write_blend(resident_weights(tiny_llama), blend, sources)
    with torch.no_grad():
        expected = Scorer(tiny_llama)(ids, *where)
    write_blend(resident_weights(tiny_llama), Blend.of({"a": 1.0}), sources)
    accelerate.cpu_offload(tiny_llama, execution_device=torch.device("cpu"))
    assert {w.device.type for w in tiny_llama.parameters()} == {"meta"}
    write_blend(resident_weights(tiny_llama), blend, sources)
    scorer = Scorer(tiny_llama)
    assert scorer.device == torch.device("cpu")
    with torch.no_grad():
        assert torch.equal(scorer(ids, *where), expected)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that anything makes, in elements."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        held = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in held:
            self.most = max(self.most, out.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num", [2, 3])
def test_a_blend_makes_nothing_of_the_size_of_a_weight(dtype, num):
    shape = (3, 700_001)  # pieces of which the last is not whole
    tensors = [torch.randn(shape).to(dtype) for _ in range(num)]
    out = torch.empty(shape, dtype=dtype)
    with Largest() as seen:
        combine(out, [(1.0 - num / 2, tensors[0]), *((0.5, t) for t in tensors[1:])])
    assert seen.most < out.numel() / 4
    wide = (1.0 - num / 2) * tensors[0].double() + sum(0.5 * t.double() for t in tensors[1:])
    assert torch.allclose(out.double(), wide, atol=1e-6 if dtype == torch.float32 else 2e-2)


def test_weights_that_are_not_contiguous_are_blended_too():
    out = torch.empty(4, 6).T
    terms = [(0.5, torch.randn(6, 4)), (0.5, torch.randn(4, 6).T)]
    combine(out, terms)
    assert torch.allclose(out, sum(c * t for c, t in terms))


@pytest.mark.parametrize(
    "coefficients",
    [(0.02, 0.98), (1.7, -0.7), (-1.0, 2.0), (0.5, -0.5, 1.0), (0.25, 0.5, 0.25), (3.0, -2.9, 0.9)],
)
def test_the_fast_way_gives_the_same_blend(coefficients):
    tensors = [torch.randn(300_000) for _ in coefficients]
    out = torch.empty(300_000)
    combine(out, list(zip(coefficients, tensors, strict=True)), fast=True)
    wide = sum(c * tensor.double() for c, tensor in zip(coefficients, tensors, strict=True))
    assert (out.double() - wide).abs().max() < 1e-5
