"""Blocks computed again in the backward pass: the same bits, and less that is kept."""

import copy
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.errors import WorkError
from raymcu.models import families
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import GEffects
from raymcu.study.training_tables import Training
from raymcu.training.group import Alone
from raymcu.training.recompute import recompute
from raymcu.training.refusals import refuse
from raymcu.training.workshop import Workshop

CPU = torch.device("cpu")
BLOCKS, NONE = (Training(recompute=how) for how in ("blocks", "none"))


def kept(model, forward):
    """Bytes that autograd keeps for the backward pass, each storage once, the model's left out."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    return sum(size for at, size in found.items() if at not in own), out


def passed(scorer, layer=None):
    """What autograd keeps, and gradients of a loss that reads logits, and states of a layer."""
    ids = torch.arange(4, 68).reshape(2, 32) % 400
    row, column = torch.arange(2).repeat_interleave(32), torch.arange(32).repeat(2)
    scorer.zero_grad()
    torch.manual_seed(0)
    size, found = kept(scorer, lambda: scorer(ids, row, column, layer))
    logits, states = (found, found.new_zeros(1)) if layer is None else found
    loss = 0.1 * logits.logsumexp(-1).sum() + states.square().sum()
    loss.backward()
    gradients = {n: w.grad for n, w in scorer.named_parameters() if w.grad is not None}
    return size, float(loss.detach()), copy.deepcopy(gradients)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {}),
        ("gpt2", {}),  # draws dropout of 0.1
        ("llama", {"attention_dropout": 0.3}),
        ("mixtral", {}),
        ("gemma2", {}),
        ("mamba", {}),
        ("bloom", {"hidden_dropout": 0.2}),
    ],
)
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_gradients_are_bit_equal(family, options, layer):
    torch.manual_seed(0)
    config = families.tiny(AutoConfig.for_model(family, **options))
    scorer = Scorer(AutoModelForCausalLM.from_config(config)).train()
    _, loss, plain = passed(scorer, layer)
    recompute(scorer, BLOCKS, CPU, 1)
    again = passed(scorer, layer)
    assert again[1] == loss
    assert again[2].keys() == plain.keys()
    assert [name for name in plain if not torch.equal(plain[name], again[2][name])] == []
    recompute(scorer, NONE, CPU, 1)
    assert not any("forward" in vars(module) for module in scorer.modules())


def test_of_a_block_its_input_alone_is_kept(tiny_llama):
    """At least 60% of what a block keeps is saved; here far more."""
    scorer = Scorer(tiny_llama).train()
    sizes = {}
    for how in (NONE, BLOCKS):
        recompute(scorer, how, CPU, 1)
        sizes[how.recompute], _, _ = passed(scorer)
    saved = (sizes["none"] - sizes["blocks"]) / len(scorer.layers)
    inputs = 64 * scorer.width * 4
    assert saved / (saved + inputs) > 0.8


def test_batch_normalisation_is_refused_by_name():
    model = nn.Sequential(nn.BatchNorm2d(2))
    with pytest.raises(WorkError, match=r"batch normalisation.*recompute = 'none'") as caught:
        refuse(SimpleNamespace(training=BLOCKS), model, Alone())
    assert caught.value.reason == "recomputed_batch_norm"
    refuse(SimpleNamespace(training=NONE), model, Alone())


def recipe_of(study, recipes, how, **changes):
    training = recipes.training(
        recompute=how, lora=recipes.lora(dropout=0.2) if changes.pop("lora", False) else None
    )
    return recipes.unlearner(study.original, training=training, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "npo", "lora": True},
        {
            "method": "rmu",
            "options": {"layer": 1, "variant": "ou"},
            "g_effects": GEffects(every=2, examples=3),
        },
        {"method": "grad_diff", "mask": True},
    ],
    ids=["lora", "rmu", "mask"],
)
def test_a_training_has_the_same_bits_and_id(study, recipes, lab, tmp_path, changes):
    if changes.get("mask"):
        changes = {**changes, "mask": recipes.choice("wagle", keep=0.3)}
    found = []
    for how in ("none", "blocks"):
        recipe = recipe_of(study, recipes, how, **changes)
        (tmp_path / how).mkdir()
        store = study.copy(tmp_path / how)
        lab.train(store, recipe)
        effects = store.local_dir(recipe.id) / "g_effects.parquet"
        told = pq.read_table(effects).to_pylist() if effects.exists() else []
        found.append((recipe.id, lab.weights(store, recipe), told))
    (one, plain, effects), (other, again, told) = found
    assert one == other
    assert lab.same_bits(plain, again)
    assert effects == told


def test_a_warm_model_forgets_that_it_was_asked(study, recipes, tmp_path):
    store = study.copy(tmp_path)
    workshop = Workshop(store, 1e9)
    for how, seed in (("blocks", 0), ("none", 1)):
        workshop.make(recipe_of(study, recipes, how, seed=seed), lambda *_: None)
        layers = Scorer(workshop.models._warm[1]).layers
        assert {"forward" in vars(layer) for layer in layers} == {how == "blocks"}
