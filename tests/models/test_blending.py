import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raymcu.analysis.barriers import forget_barrier, retain_barrier
from raymcu.blend import Blend
from raymcu.curves._base import CURVES
from raymcu.errors import ConfigError, StoreError
from raymcu.models.blending import combine, load_weights, write_blend
from raymcu.models.causal_lm import create
from raymcu.study.search_space import ScratchModel


def random_like(weights, seed, dtype=None):
    """Other weights of the same names and shapes."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(w.shape, generator=random).to(dtype or w.dtype)
        for name, w in weights.items()
    }


@pytest.fixture
def weights(tiny_llama):
    """The resident model's weights, to be overwritten."""
    return {name: weight.data for name, weight in tiny_llama.named_parameters()}


@pytest.mark.parametrize("family", ["linear", "quadratic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ends_of_a_curve_are_the_end_points_bit_for_bit(weights, family, dtype):
    weights = {name: w.to(dtype) for name, w in weights.items()}
    controls = ["a", "b"] if family == "linear" else ["a", "bend", "b"]
    sources = {key: random_like(weights, seed) for seed, key in enumerate(controls)}
    for t, end in ((0.0, "a"), (1.0, "b")):
        coefficients = CURVES[family]().coefficients(t)
        blend = Blend.of(list(zip(controls, coefficients, strict=True)))
        assert blend.checkpoints == (end,)
        write_blend(weights, blend, sources)
        assert all(torch.equal(weights[name], sources[end][name]) for name in weights)


def test_blend_is_the_affine_combination(weights):
    sources = {key: random_like(weights, seed) for seed, key in enumerate("abc")}
    write_blend(weights, Blend.of({"a": 1.5, "b": -0.75, "c": 0.25}), sources)
    for name, found in weights.items():
        a, b, c = (sources[key][name].double() for key in "abc")
        assert torch.allclose(found.double(), 1.5 * a - 0.75 * b + 0.25 * c, atol=1e-6)


def test_blending_does_not_touch_its_sources(weights):
    sources = {key: random_like(weights, seed) for seed, key in enumerate("ab")}
    write_blend(weights, Blend.of({"a": 0.5, "b": 0.5}), sources)
    write_blend(weights, Blend.of({"b": 1.0}), sources)
    assert all(
        torch.equal(sources[key][name], random_like(weights, seed)[name])
        for seed, key in enumerate("ab")
        for name in weights
    )


def test_tied_weights_are_blended_once(tiny_llama, weights):
    head, embedding = tiny_llama.lm_head.weight, tiny_llama.model.embed_tokens.weight
    assert "lm_head.weight" not in weights
    sources = {key: random_like(weights, seed) for seed, key in enumerate("ab")}
    write_blend(weights, Blend.of({"a": 0.25, "b": 0.75}), sources)
    assert head.data_ptr() == embedding.data_ptr()
    a, b = (sources[key]["model.embed_tokens.weight"] for key in "ab")
    assert torch.allclose(head, 0.25 * a + 0.75 * b, atol=1e-6)


def test_integer_buffers_are_taken_from_the_first(weights):
    out = {"count": torch.zeros(2, dtype=torch.long)}
    sources = {"a": {"count": torch.tensor([3, 4])}, "b": {"count": torch.tensor([5, 6])}}
    write_blend(out, Blend.of({"a": 0.5, "b": 0.5}), sources)
    assert out["count"].tolist() == [3, 4]


def test_bfloat16_weights_are_added_up_in_float32():
    random = torch.Generator().manual_seed(0)
    terms = [
        (c, torch.randn(1000, generator=random).bfloat16())
        for c in (1.5, -1.25, 0.5, 0.375, -0.125)
    ]
    out = torch.empty(1000, dtype=torch.bfloat16)
    combine(out, terms)
    exact = sum(c * tensor.double() for c, tensor in terms).bfloat16()
    assert (out != exact).float().mean() < 0.01  # nothing but double rounding
    stepwise = torch.zeros(1000, dtype=torch.bfloat16)
    for c, tensor in terms:
        stepwise += c * tensor
    assert (stepwise != exact).float().mean() > 0.1


def test_a_blend_of_mixed_precision_keeps_the_finer_one():
    out = torch.empty(3, dtype=torch.float64)
    fine = torch.tensor([1 + 1e-12, 2, 3], dtype=torch.float64)
    combine(out, [(0.5, fine), (0.5, torch.ones(3))])
    assert out[0] == 1 + 0.5e-12


def test_layers_may_have_coefficients_of_their_own(weights):
    sources = {key: random_like(weights, seed) for seed, key in enumerate("ab")}
    blend = Blend.of(
        {"a": 1.0},
        {"model.layers.1.": {"b": 1.0}, "model.layers.1.mlp.": {"a": 0.5, "b": 0.5}},
    )
    write_blend(weights, blend, sources)
    for name, found in weights.items():
        a, b = sources["a"][name], sources["b"][name]
        if name.startswith("model.layers.1.mlp."):
            assert torch.allclose(found, (a + b) / 2, atol=1e-6)
        else:
            assert torch.equal(found, b if name.startswith("model.layers.1.") else a)


@pytest.mark.parametrize("total", [0.9, 1.1, math.nan, math.inf])
def test_coefficients_that_do_not_sum_to_one_are_refused(total):
    with pytest.raises(ConfigError, match="must"):
        Blend.of({"a": total})


@pytest.mark.parametrize("damage", ["missing", "misshapen"])
def test_a_checkpoint_that_does_not_fit_is_a_store_error(weights, damage):
    sources = {key: random_like(weights, seed) for seed, key in enumerate("ab")}
    if damage == "missing":
        del sources["b"]["model.norm.weight"]
    else:
        sources["b"]["model.norm.weight"] = torch.ones(7)
    with pytest.raises(StoreError, match=r"checkpoint b: weight 'model\.norm\.weight'"):
        write_blend(weights, Blend.of({"a": 0.5, "b": 0.5}), sources)


def test_weights_are_mapped_by_name(tmp_path, weights):
    save_file(random_like(weights, 0), tmp_path / "model.safetensors")
    found = load_weights(tmp_path)
    assert found.keys() == weights.keys()
    expected = random_like(weights, 0)
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "none"])
def test_damaged_weights_are_a_store_error(tmp_path, weights, damage):
    file = tmp_path / "model.safetensors"
    save_file(random_like(weights, 0), file)
    content = file.read_bytes()
    if damage == "none":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-9], "empty": b"", "garbage": b"\xff" * 64}[damage])
    with pytest.raises(StoreError, match=str(tmp_path)):
        load_weights(tmp_path)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 1.0])
def test_a_curve_through_two_models_is_their_interpolation(tiny_tokenizer, t):
    shape = ScratchModel(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64)
    models = [create(shape, tiny_tokenizer, seed, "float32") for seed in (0, 1, 2)]
    first, second, out = ({n: w.data for n, w in m.named_parameters()} for m in models)
    coefficients = CURVES["linear"]().coefficients(t)
    blend = Blend.of(list(zip("ab", coefficients, strict=True)))
    write_blend(out, blend, {"a": first, "b": second})
    for name, found in out.items():
        assert torch.allclose(found, torch.lerp(first[name], second[name], t), atol=1e-7)


def test_a_parabola_has_the_known_barriers():
    """L = theta^2 between -1 and 1: no wall for what is kept, a wall of 1 for what is forgotten."""
    sources = {"a": {"x": torch.tensor([-1.0])}, "b": {"x": torch.tensor([1.0])}}
    grid = np.linspace(0, 1, 17)
    losses = []
    for t in grid:
        out = {"x": torch.empty(1)}
        pairs = zip("ab", CURVES["linear"]().coefficients(float(t)), strict=True)
        write_blend(out, Blend.of(list(pairs)), sources)
        losses.append(float(out["x"]) ** 2)
    wall = forget_barrier(grid, np.array(losses))
    assert (wall.height, wall.t) == (pytest.approx(1.0), 0.5)
    assert retain_barrier(grid, np.array(losses)).height == pytest.approx(0)
