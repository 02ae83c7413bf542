"""Adapters are trained, and plain models saved."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from raymcu.errors import WorkError
from raymcu.models import causal_lm, files
from raymcu.training.adapters import inject, merge


@pytest.fixture
def unlearner(recipes, study):
    def build(seed=0, epochs=1.0, **lora):
        training = recipes.training(lora=recipes.lora(**lora), epochs=epochs, learning_rate=1e-2)
        return recipes.unlearner(study.original, "npo", training=training, seed=seed)

    return build


def changed(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_the_checkpoint_is_a_plain_model(study, store, lab, unlearner):
    recipe = unlearner()
    lab.train(store, recipe)
    folder = store.local_dir(recipe.id)
    assert not list(folder.glob("adapter*"))
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    start, found = (lab.weights(store, one) for one in (study.original, recipe))
    assert {n: (w.shape, w.dtype) for n, w in found.items()} == {
        n: (w.shape, w.dtype) for n, w in start.items()
    }
    assert all(torch.equal(weight, found[name]) for name, weight in model.named_parameters())
    folders = {"start": store.local_dir(study.original.id), "unlearner": folder}
    assert files.same_family(folders) == []


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_only_targets_differ_from_the_start(study, store, lab, unlearner, targets):
    recipe = unlearner(rank=2, targets=targets)
    lab.train(store, recipe)
    start, found = (lab.weights(store, one) for one in (study.original, recipe))
    linear = {name for name in start if "_proj" in name}
    assert len(linear) == 14
    wanted = (
        linear if targets == "all-linear" else {n for n in linear if n.split(".")[-2] in targets}
    )
    assert changed(start, found) == wanted
    for name in wanted:
        assert torch.linalg.matrix_rank(found[name] - start[name], rtol=1e-3) <= 2


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_the_merge_is_pefts(tiny_llama, recipes):
    lora = recipes.lora(rank=3, alpha=7.0)
    start = {name: weight.clone() for name, weight in tiny_llama.state_dict().items()}
    inject(tiny_llama, lora)
    torch.manual_seed(0)
    adapters = {}
    for name, weight in causal_lm.trainable(tiny_llama).items():
        weight.data.normal_()
        adapters[name] = weight.detach().clone()
    assert len(adapters) == 28
    whole = {name: weight.detach() for name, weight in tiny_llama.named_parameters()}
    own = merge(whole, lora)
    fresh = type(tiny_llama)(tiny_llama.config)
    fresh.load_state_dict(start)
    config = LoraConfig(r=3, lora_alpha=7, target_modules="all-linear")
    wrapped = get_peft_model(fresh, config)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data.copy_(adapters[name.removeprefix("base_model.model.")])
    theirs = dict(wrapped.merge_and_unload().named_parameters())
    assert own.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.allclose(own[name], weight, rtol=1e-6, atol=1e-6), name


def test_the_saved_weights_are_the_merge_of_the_trained_adapters(study, store, lab, unlearner):
    """Caught one step before the end, and by hand: W + alpha/rank · B·A."""
    recipe = unlearner(rank=4, alpha=2.0)
    lab.train(store, recipe, save_every_s=0, stop_after=2)
    partial = load_file(store.local_dir(f".partial/{recipe.id}") / "weights.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in partial)
    start = lab.weights(store, study.original)
    expected = dict(start)
    for name, up in partial.items():
        if ".lora_B." in name:
            plain = name.replace(".lora_B.default", "")
            expected[plain] = start[plain] + 0.5 * up @ partial[name.replace("_B.", "_A.")]
    lab.train(store, recipe)
    found = lab.weights(store, recipe)
    last = max(float((found[n] - expected[n]).abs().max()) for n in found)
    whole = max(float((found[n] - start[n]).abs().max()) for n in found)
    assert 0 < last < whole


def test_adapters_begin_as_the_start_model(study, store, lab, unlearner, recipes):
    recipe = unlearner(epochs=0.1)
    lab.train(store, recipe)
    full = recipes.unlearner(study.original, "npo", training=recipes.training(epochs=0.1))
    lab.train(store, full)
    losses = [lab.history(store, one)[0]["loss"] for one in (recipe, full)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_bend_between_adapted_unlearners_trains(study, store, lab, unlearner, recipes):
    ends = [unlearner(seed=seed) for seed in (0, 1)]
    bend = recipes.bend(*ends, study.original)
    lab.train(store, *ends, bend)
    start, first, second, found = (lab.weights(store, one) for one in (study.original, *ends, bend))
    assert not lab.same_bits(first, second)
    middle = {name: (first[name] + second[name]) / 2 for name in first}
    assert 0 < lab.distance(found, middle) < 0.05
    assert found.keys() == start.keys()


def test_weights_that_carry_adapters_have_no_master_copy(tiny_llama, recipes):
    """In bfloat16 only the adapters are float32, and what is merged is rounded once."""
    half = tiny_llama.bfloat16()
    inject(half, recipes.lora(rank=2))
    dtypes = {"lora_" in name: weight.dtype for name, weight in half.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    torch.manual_seed(0)
    for weight in causal_lm.trainable(half).values():
        weight.data.normal_()
    whole = {name: weight.detach() for name, weight in half.named_parameters()}
    found = merge(whole, recipes.lora(rank=2), torch.bfloat16)
    name = "model.layers.0.mlp.up_proj"
    update = whole[f"{name}.lora_B.default.weight"] @ whole[f"{name}.lora_A.default.weight"]
    expected = whole[f"{name}.base_layer.weight"].float() + update * 16 / 2
    assert torch.equal(found[f"{name}.weight"], expected.bfloat16())
    assert torch.equal(merge(whole, recipes.lora(rank=2))[f"{name}.weight"], expected)
    ids = torch.arange(6)[None]
    assert torch.isfinite(half(input_ids=ids).logits).all()


def test_a_bfloat16_study_trains_adapters(study, store, lab, recipes):
    training = recipes.training(lora=recipes.lora(), epochs=1.0, learning_rate=1e-2)
    source = study.original.model.model_copy(update={"dtype": "bfloat16"})
    recipe = recipes.unlearner(study.original, "npo", training=training, model=source)
    lab.train(store, recipe)
    history = lab.history(store, recipe)
    assert history[-1]["loss"] < history[0]["loss"]
    assert {w.dtype for w in lab.weights(store, recipe).values()} == {torch.bfloat16}


def test_a_tied_output_embedding_takes_no_adapter(tiny_llama, recipes):
    with pytest.raises(WorkError, match="lm_head") as caught:
        inject(tiny_llama, recipes.lora(targets=("q_proj", "lm_head")))
    assert caught.value.reason == "tied_target"
