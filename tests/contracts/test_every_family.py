"""What every family of models promises: it is trained, saved, blended, measured, read by layer.

Each is a tiny random model that goes through workshop and measurer as in a study, without Ray, and
is compared with plain transformers, one row at a time.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from raymcu.attacks.activation_noise import ActivationNoise
from raymcu.attacks.logit_lens import LogitLens
from raymcu.blend import Blend
from raymcu.measurement.measurer import Measurer
from raymcu.models import causal_lm, families
from raymcu.models.anatomy import mlp_outputs
from raymcu.models.files import TESTED
from raymcu.models.scorer import Scorer
from raymcu.models.trials import is_close
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import Measurement, ModelSource
from raymcu.training.workshop import Workshop

SHAPES = {
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 2, "mamba_n_heads": 8,
              "mamba_d_head": 8, "hidden_size": 32, "mamba_d_state": 8, "mamba_chunk_size": 16},
    "deepseek_v2": {"first_k_dense_replace": 1, "num_experts_per_tok": 2},
    "deepseek_v3": {"first_k_dense_replace": 1},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
                  "mamba_chunk_size": 16},
    "gpt_neo": {"window_size": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_offset": 0,
              "mamba_d_state": 8, "mamba_dt_rank": 4},
    "mamba2": {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2,
               "chunk_size": 16},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
}  # fmt: skip
"""What a tiny copy of a family's own defaults does not give it."""
QUICK = {
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "phi3", "olmo2", "gpt2",
    "gpt_neo", "gpt_neox", "gptj", "bloom", "falcon", "opt", "mpt", "stablelm", "starcoder2",
    "cohere", "granite", "mixtral", "qwen3_moe", "olmoe", "mamba",
}  # fmt: skip
"""The others are tested with what takes a minute and more."""
ASKED = Measurement(
    probes=("forget", "retain"),
    generate=("forget",),
    moments=("forget",),
    gradient_norms=("forget",),
    representations=("forget",),
    max_new_tokens=6,
    max_examples=2,
)
CPU = torch.device("cpu")
IDS = torch.arange(4, 12)[None]
each_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in QUICK else pytest.mark.long)
        for family in TESTED
        if family in CONFIG_MAPPING  # older releases know fewer
    ],
)


def config_of(family):
    """Return a config of two layers, with a short window where the family has one."""
    return families.tiny(AutoConfig.for_model(family, **SHAPES.get(family, {})))


def random_model(family):
    """Return a tiny model that heeds what it is told: as drawn, attention hardly matters."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family)).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data *= 3
    model.generation_config.eos_token_id = 2
    return model


def opened(folder):
    """Open a checkpoint with plain transformers; nothing may be missing or left over."""
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@torch.no_grad()
def logits_of(model):
    return model(input_ids=IDS).logits


@torch.no_grad()
def takes_embeddings(model):
    """The embeddings of tokens in place of tokens give the same states, as soft prompts need."""
    scorer = Scorer(model)
    embedded = model.get_input_embeddings()(IDS)
    states = scorer.body(inputs_embeds=embedded, use_cache=False).last_hidden_state
    assert torch.allclose(states, scorer.all_states(IDS), atol=1e-5)


def changed(store, one, other):
    first, second = (load_file(store.local_dir(r.id) / "model.safetensors") for r in (one, other))
    assert first.keys() == second.keys()
    return {name for name, weight in first.items() if not torch.equal(weight, second[name])}


@each_family
def test_family_goes_through_all_of_it(family, tmp_path, recipes, encoder):
    model = random_model(family)
    folder = tmp_path / "published"
    model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    source = ModelSource(path=str(folder))
    assert causal_lm.preflight(source, "model.path") is None
    assert families._tried(model.config) is None
    takes_embeddings(model)
    study = train(source, tmp_path / "store", recipes)
    assert torch.allclose(
        logits_of(opened(study.folder(study.original))), logits_of(model), atol=1e-5
    )
    is_of_layers = {name for name, _ in model.named_parameters() if name in mlp_outputs(model)}
    assert is_of_layers
    assert changed(study.store, study.original, study.rmu) == is_of_layers
    assert changed(study.store, study.original, study.lora)
    blend = Blend.of({study.plain.id: 0.3, study.rmu.id: 0.3, study.lora.id: 0.4})
    is_measured_as_by_hand(study, blend, encoder)
    layers_can_be_replaced(study, source)


@each_family
@torch.no_grad()
def test_a_layer_can_be_the_last_and_states_be_shaken(family):
    """Left off, a model is one whose list of layers ends there; shaken, it is so at once or not."""
    scorer = Scorer(random_model(family))
    number = len(scorer.layers)
    shorter = copy.deepcopy(scorer)
    owner, _, own = scorer.anatomy.layers.rpartition(".")
    setattr(shorter.model.get_submodule(owner), own, shorter.layers[: number - 1])
    shorter.model.config.get_text_config().num_hidden_layers = number - 1
    with LogitLens(depths=((number - 1) / number,)).applied(scorer):
        left_off, expected = scorer.all_states(IDS), shorter.all_states(IDS)
    assert torch.equal(left_off, expected)
    assert not torch.allclose(left_off, scorer.all_states(IDS), atol=1e-3)
    scorer.check()
    with ActivationNoise(scales=(0.5,)).applied(scorer):
        at_once = scorer.all_states(IDS)
        if scorer.longest_shared:
            place = torch.arange(IDS.shape[1])[None]
            tree = scorer.tree_states(IDS, place, torch.full_like(place, IDS.shape[1]))
            assert is_close(tree, at_once)
        if scorer.caching != "none":
            cache = scorer.new_cache()
            pieces = [scorer.extend(piece, cache) for piece in IDS.split((5, 1, 1, 1), 1)]
            assert is_close(torch.cat(pieces, 1), at_once)
    assert not torch.allclose(at_once, scorer.all_states(IDS), atol=1e-2)


def train(source, folder, recipes):
    """Copy the model, and make it forget in three ways of a few steps."""
    workshop = Workshop(CheckpointStore(str(folder)), save_every_s=1e9)
    few = recipes.few.model_copy(
        update={"epochs": 0.6, "learning_rate": 3e-3, "max_abs_loss": 1e12}
    )
    adapters = few.model_copy(update={"lora": recipes.lora(rank=2)})
    original = recipes.original(model=source, training=None, methods=(), train_sets=())
    made = {
        "original": original,
        "plain": recipes.unlearner(original, model=source, training=few),
        "rmu": recipes.unlearner(original, "rmu", options={"layer": 1}, model=source, training=few),
        "lora": recipes.unlearner(original, model=source, training=adapters),
    }
    for recipe in made.values():
        workshop.make(recipe, lambda *_: None)
    store = workshop.store
    return SimpleNamespace(store=store, folder=lambda r: store.local_dir(r.id), **made)


def is_measured_as_by_hand(study, blend, encoder):
    """Compare a blend's table with what plain transformers says, row by row."""
    measurer = Measurer(
        study.store, study.plain.benchmark, study.plain.model, ASKED, cuts_forget=True
    )
    table = measurer.measure("p", blend, "forget10").to_pylist()
    plain = opened(study.folder(study.plain))
    parts = [opened(study.folder(r)).state_dict() for r in (study.plain, study.rmu, study.lora)]
    mixed = {n: 0.3 * w + 0.3 * parts[1][n] + 0.4 * parts[2][n] for n, w in parts[0].items()
             if w.is_floating_point()}  # fmt: skip
    plain.load_state_dict(mixed, strict=False)
    rows = [row for probe in ASKED.probes for row in measurer._rows(probe, "forget10")]
    assert len(rows) == len(table) > 8
    for row, found in zip(rows, table, strict=True):
        tokens = row.tokens
        ids = torch.tensor([tokens.prompt + tokens.answer])
        for weight in plain.parameters():
            weight.grad = None
        logits = plain(input_ids=ids).logits[0, len(tokens.prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1)[range(len(tokens.answer)), tokens.answer]
        assert np.abs(np.array(found["logprobs"]) - logprobs.detach().numpy()).max() < 2e-3
        if found["gradient_norm"] is not None:
            (-logprobs.mean()).backward()
            norms = [w.grad.norm() for w in plain.parameters() if w.grad is not None]
            assert found["gradient_norm"] == pytest.approx(float(sum(norms) / len(norms)), rel=1e-2)
        if found["generation"] is not None:
            text, sure = by_hand(plain, tokens.prompt, encoder)
            assert found["generation"] == text or not sure
    assert any(row["generation_logprobs"] for row in table)
    alike = measurer.compare("p", blend, "forget10", {"original": Blend.of({study.original.id: 1})})
    layers = plain.config.get_text_config().num_hidden_layers
    assert alike["layer"].to_pylist() == list(range(layers + 1))
    assert all(0 < value < 1 for value in alike["cka"].to_pylist())


@torch.no_grad()
def by_hand(model, prompt, encoder):
    """Decode greedily, all of it anew for every token; say too whether no choice was close."""
    ids, sure = list(prompt), True
    for _ in range(ASKED.max_new_tokens):
        best = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2)
        sure &= bool(best.values[0] - best.values[1] > 1e-3)
        if best.indices[0] == encoder.eos:
            break
        ids.append(int(best.indices[0]))
    return encoder.decode(ids[len(prompt) :]), sure


def layers_can_be_replaced(study, source):
    """Put each layer of the unlearner into the original, as a walk over layers does."""
    names = causal_lm.layer_names(source)
    measurer = Measurer(study.store, study.plain.benchmark, study.plain.model, ASKED)
    original, plain = (Blend.of({one.id: 1.0}) for one in (study.original, study.plain))
    for number, name in enumerate(names):
        scorer, _ = measurer.place(original.with_layers(plain, [number], names))
        moved = changed(study.store, study.original, study.plain)
        held = {n: w.clone() for n, w in causal_lm.saved_weights(scorer.model).items()}
        measurer.place(original)
        now = causal_lm.saved_weights(scorer.model)
        differ = {n for n, weight in now.items() if not torch.equal(weight, held[n])}
        assert differ == {n for n in moved if n.startswith(name)} != set()
