"""Adapters beside a base of 4 bits: the training of adapters beside what the bits stand for."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from raymcu.attacks.quantize import NF4, by_block
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Lora
from raymcu.training.adapters import inject, is_adapter
from raymcu.training.nf4 import Nf4Linear, made_weights, quantize_base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6, 64), (10, 13)])
def test_a_layer_holds_the_values_of_bitsandbytes(shape, dtype):
    torch.manual_seed(0)
    linear = nn.Linear(shape[1], shape[0]).to(dtype)
    linear.weight.data[0] = 0
    layer = Nf4Linear(linear)
    expected = by_block(linear.weight.detach(), NF4, 64)
    assert torch.equal(layer.weight, expected)
    given = torch.randn(3, shape[1]).to(dtype).requires_grad_()
    found = layer(given)
    known = nn.functional.linear(given, expected.to(dtype), linear.bias)
    assert torch.allclose(found, known, atol=1e-6 if dtype == torch.float32 else 2e-2)
    slope = torch.randn_like(found)
    (one,) = torch.autograd.grad(found, given, slope)
    known = slope @ expected.to(dtype)
    assert torch.allclose(one, known, atol=1e-6 if dtype == torch.float32 else 5e-2)


def test_the_base_takes_five_bits_a_weight_or_less(tiny_llama):
    count = sum(
        module.weight.numel()
        for name, module in tiny_llama.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    )
    kept = {name for name, _ in tiny_llama.named_parameters()}
    head = tiny_llama.lm_head
    quantize_base(tiny_llama)
    assert tiny_llama.lm_head is head
    layers = [module for module in tiny_llama.modules() if isinstance(module, Nf4Linear)]
    held = sum(t.numel() * t.element_size() for one in layers for t in one.buffers())
    assert held / count == pytest.approx(0.5625)
    assert set(made_weights(tiny_llama)) == kept - {n for n, _ in tiny_llama.named_parameters()}
    assert not any(isinstance(w, Nf4Linear) for w in tiny_llama.parameters())
    Scorer(tiny_llama).check()


def test_adapters_have_the_gradients_of_those_beside_the_dequantized_base(tiny_llama):
    """In float32, to rounding: of A and of B, in every layer, the model's own layers between."""
    plain = copy.deepcopy(tiny_llama)
    for name, module in plain.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            module.weight.data = by_block(module.weight.detach(), NF4, 64)
    quantize_base(tiny_llama)
    tokens = torch.arange(24).view(2, 12)
    found = []
    for model in (tiny_llama, plain):
        inject(model, Lora(rank=4))
        adapters = {n: w for n, w in model.named_parameters() if is_adapter(n)}
        torch.manual_seed(1)
        for name in sorted(adapters):  # B starts at zero, where A has no gradient
            adapters[name].data.normal_(0, 0.1)
        model(input_ids=tokens, labels=tokens).loss.backward()
        found.append({name: weight.grad for name, weight in adapters.items()})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_trains_as_adapters_beside_the_dequantized_weights(
    study, store, recipes, lab, dtype, tmp_path
):
    """From a checkpoint of those weights, plain LoRA comes to the same; both begin at 0."""
    model = study.original.model.model_copy(update={"dtype": dtype})
    training = recipes.training(lora=recipes.lora(base="nf4"))
    recipe = recipes.unlearner(
        study.original, "npo", options={"retain": "kl"}, model=model, training=training
    )
    lab.train(store, recipe)
    first = lab.history(store, recipe)[0]
    assert first["retain_loss"] == pytest.approx(0, abs=0 if dtype == "bfloat16" else 1e-6)

    folder = store.local_dir(study.original.id)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    if dtype == "bfloat16":  # as it is opened beside adapters
        plain = plain.bfloat16().float()
    for name, module in plain.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            module.weight.data = by_block(module.weight.detach(), NF4, 64)
    (tmp_path / "other").mkdir()
    other = study.copy(tmp_path / "other", but=study.original)
    with other.writing(study.original.id, role="original", label="") as place:
        plain.save_pretrained(place)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (place / name).write_bytes((folder / name).read_bytes())
    same = recipes.unlearner(
        study.original, "npo", options={"retain": "kl"}, model=model,
        training=recipes.training(lora=recipes.lora()),
    )  # fmt: skip
    lab.train(other, same)
    losses = [
        [row["loss"] for row in lab.history(*one)] for one in ((store, recipe), (other, same))
    ]
    close = 1e-5 if dtype == "float32" else 2e-3
    assert losses[0] == pytest.approx(losses[1], rel=close)
    assert lab.distance(lab.weights(store, recipe), lab.weights(other, same)) < 10 * close
    assert recipe.id != same.id
