"""Adapters beside a base of 4 bits: the training of adapters beside what the bits stand for."""

import copy
from itertools import chain

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.attacks.quantize import NF4, by_block
from raymcu.models import families
from raymcu.models.scorer import Scorer
from raymcu.models.shapes import of_config
from raymcu.planning.memory import peak
from raymcu.study.search_space import ModelSource
from raymcu.study.training_tables import Lora
from raymcu.training import opening
from raymcu.training.adapters import inject, is_adapter
from raymcu.training.nf4 import Nf4Linear, made_weights, quantize_base
from raymcu.training.opening import Models

from .simulated import Peak

DEEP = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 12, "vocab_size": 500,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
}  # fmt: skip


@pytest.fixture
def published(tmp_path, tiny_tokenizer):
    """Make a small model as a family publishes it. Returns its folder."""

    def made(family, **changes):
        config = families.tiny(AutoConfig.for_model(family))
        for key, value in changes.items():
            setattr(config, key, value)
        torch.manual_seed(0)
        folder = tmp_path / "published"
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return made


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


def kept(model):
    """All that a model holds, by name, tied weights by each of theirs."""
    named = model.named_parameters(remove_duplicate=False)
    return dict(chain(named, model.named_buffers(remove_duplicate=False)))


@pytest.mark.parametrize(
    ("family", "is_tied", "dtype"),
    [
        ("llama", True, "float32"),
        ("llama", False, "bfloat16"),
        ("qwen2", False, "bfloat16"),
        ("gemma3_text", True, "float32"),
    ],
)
def test_a_base_is_read_layer_by_layer_to_the_bits_of_one_that_is_opened_whole(
    published, study, store, recipes, family, is_tied, dtype
):
    """From the store or by a path: with biases, tied, scaled embeddings, tables in no file."""
    folder = published(family, tie_word_embeddings=is_tied)
    with store.writing("whole", role="original", label="") as place:
        for file in folder.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    training = recipes.training(lora=recipes.lora(base="nf4"))
    source = ModelSource(path=str(folder), dtype=dtype)
    asked = {"model": source, "model_fingerprint": "", "training": training}
    stored = recipes.unlearner(study.original, **{**asked, "parents": {"start": "whole"}})
    for recipe in (stored, recipes.original(**asked)):
        precision = torch.float32 if recipe.role == "original" else getattr(torch, dtype)
        known = AutoModelForCausalLM.from_pretrained(folder, dtype=precision).eval()
        quantize_base(known)
        model, _, scorer = Models(store).open(recipe)
        assert not model.training
        found, expected = kept(model), kept(known)
        assert list(found) == list(expected)
        for name, weight in found.items():
            assert torch.equal(weight, expected[name]), name
            assert (weight.dtype, weight.requires_grad) == (
                expected[name].dtype, expected[name].requires_grad
            ), name  # fmt: skip
        tokens = torch.arange(3, 27).view(2, 12)
        assert torch.equal(model(input_ids=tokens).logits, known(input_ids=tokens).logits)
        head = model.get_output_embeddings().weight
        assert (head is model.get_input_embeddings().weight) == is_tied
        scorer.check()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_opening_a_base_holds_it_and_one_layer(published, store, recipes, dtype, monkeypatch):
    """As planned; opened whole, it took what the weights take in their precision, and more."""
    folder = published("llama", tie_word_embeddings=True, **DEEP)
    lora = recipes.lora(base="nf4", rank=1, targets=("q_proj",))
    training = recipes.training(lora=lora, batch_size=1)
    source = ModelSource(path=str(folder), dtype=dtype)
    recipe = recipes.original(model=source, model_fingerprint="", training=training)
    read = opening.own_parts  # from mapped files, which are not seen: as if they were no such
    monkeypatch.setattr(opening, "own_parts", lambda *of: ((n, p.clone()) for n, p in read(*of)))
    with Peak([]) as found:
        model, _, _ = Models(store).open(recipe)
    held = sum(one.numel() * one.element_size() for one in kept(model).values())
    layer = max(one.shape.numel() for one in model.modules() if isinstance(one, Nf4Linear))
    assert found.most <= held + 14 * layer
    # Of a training with hardly any adapters, on texts of a token.
    told = peak(recipe, of_config(model.config.to_dict()), lambda part: (1, 1))
    assert told.total == pytest.approx(found.most, rel=0.15)
    whole = AutoModelForCausalLM.from_pretrained(folder)
    with Peak([*whole.parameters(), *whole.buffers()]) as before:
        quantize_base(whole)
    assert before.most > 3 * found.most
