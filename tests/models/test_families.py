"""Models that cannot work are refused by name; how any other is built is told from its modules."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.errors import ConfigError, WorkError
from raymcu.models import causal_lm, families
from raymcu.models.anatomy import Anatomy, mlp_outputs
from raymcu.models.files import TESTED
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import ModelSource
from raymcu.training.adapters import inject, inputs_first, merge

IDS = torch.arange(4, 10)[None]
CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class TidalConfig(LlamaConfig):
    model_type = "tidal"
class TidalForCausalLM(LlamaForCausalLM):
    config_class = TidalConfig
"""


def made(family, **options):
    torch.manual_seed(0)
    config = families.tiny(AutoConfig.for_model(family, **options))
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("t5", r"is an encoder-decoder \(t5\)"),
        ("bart", r"is an encoder-decoder \(bart\)"),
        ("bert", "BertLMHeadModel sees tokens that come later"),
        ("vit", "of the family 'vit', of which transformers .* has no causal LM"),
        ("electra", "changes its logits"),
        ("git", "its layers cannot be read"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(family, why):
    assert re.search(why, families.refusal(AutoConfig.for_model(family)) or "nothing")


def test_a_bert_that_decodes_is_a_causal_lm():
    assert families.refusal(AutoConfig.for_model("bert", is_decoder=True)) is None


def test_a_tested_family_costs_no_trial(monkeypatch):
    monkeypatch.setattr(families, "_tried", lambda *_, **__: pytest.fail("it was tried"))
    assert families.refusal(AutoConfig.for_model("llama")) is None


def test_layers_that_share_weights_are_refused(tiny_llama):
    tiny_llama.model.layers[1].mlp = tiny_llama.model.layers[0].mlp
    with pytest.raises(ConfigError, match="layers of LlamaForCausalLM share weights"):
        Scorer(tiny_llama).check()


@pytest.fixture
def folder(tmp_path, tiny_llama, tiny_tokenizer):
    """A tiny Llama, and how to write other things into its config."""
    causal_lm.save_checkpoint(tiny_llama, tiny_tokenizer, tmp_path)

    def rewrite(**changes):
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        return tmp_path

    return rewrite


@pytest.mark.parametrize("check", [causal_lm.preflight, causal_lm.refused_family])
def test_a_family_that_transformers_does_not_know_is_named(folder, check):
    said = check(ModelSource(path=str(folder(model_type="tidal"))), "original.path")
    assert said.startswith("original.path: '")
    assert "`tidal`" in said
    assert "a transformers that knows it" in said


def test_code_that_comes_with_a_model_is_run_only_where_it_is_trusted(folder):
    path = folder(
        model_type="tidal",
        architectures=["TidalForCausalLM"],
        auto_map={
            "AutoConfig": "tidal.TidalConfig",
            "AutoModelForCausalLM": "tidal.TidalForCausalLM",
        },
    )
    (path / "tidal.py").write_text(CODE)
    source = ModelSource(path=str(path))
    for check in (causal_lm.preflight, causal_lm.refused_family):
        assert "set model.trust_remote_code = true" in check(source, "model.path")
    trusted = source.model_copy(update={"trust_remote_code": True})
    assert causal_lm.preflight(trusted, "model.path") is None
    assert causal_lm.layer_names(trusted) == ("model.layers.0.", "model.layers.1.")
    cpu = torch.device("cpu")
    model, tokenizer = causal_lm.start_from(trusted, cpu)
    causal_lm.save_checkpoint(model, tokenizer, path / "copy")
    again = causal_lm.open_model(path / "copy", "float32", cpu, trusts_code=True)
    assert type(again).__name__ == "TidalForCausalLM"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", Anatomy("model", "model.layers", "lm_head")),
        ("gpt2", Anatomy("transformer", "transformer.h", "lm_head")),
        ("gpt_neox", Anatomy("gpt_neox", "gpt_neox.layers", "lm_head")),
        ("opt", Anatomy("model.decoder", "model.decoder.layers", "lm_head")),
        ("mpt", Anatomy("transformer", "transformer.blocks", "lm_head")),
        ("mamba", Anatomy("backbone", "backbone.layers", "lm_head")),
        ("bert", Anatomy("bert", "bert.encoder.layer", "cls")),
    ],
)
def test_body_layers_and_head_are_found(family, expected):
    assert Anatomy.of(families.empty(families.tiny(AutoConfig.for_model(family)))) == expected


@pytest.mark.parametrize(
    ("family", "first"),
    [
        ("llama", {"mlp.down_proj.weight"}),
        ("gpt2", {"mlp.c_proj.weight"}),
        ("opt", {"fc2.weight"}),
        ("falcon", {"mlp.dense_4h_to_h.weight"}),
        ("mixtral", {"mlp.experts.down_proj"}),
        ("gpt_oss", {"mlp.experts.down_proj"}),
        ("qwen2_moe", {"mlp.experts.down_proj", "mlp.shared_expert.down_proj.weight"}),
        ("falcon_h1", {"feed_forward.down_proj.weight"}),
        ("mamba", {"mixer.out_proj.weight"}),
    ],
)
def test_what_an_mlp_writes_through_is_found(family, first):
    model = families.empty(families.tiny(AutoConfig.for_model(family)))
    stem = f"{Anatomy.of(model).layers}.0."
    found = {name: llama for name, llama in mlp_outputs(model).items() if name.startswith(stem)}
    assert found == dict.fromkeys(
        (f"{stem}{name}" for name in first), "model.layers.0.mlp.down_proj.weight"
    )


@pytest.mark.parametrize(
    ("family", "shares", "caching"),
    [
        ("llama", True, "padded"),
        ("gpt2", True, "padded"),
        ("bloom", False, "padded"),
        ("gpt_neo", False, "padded"),
        ("mamba", False, "alone"),
        ("qwen3_next", False, "alone"),
        ("minimax", False, "none"),
    ],
)
def test_a_model_is_given_what_it_takes(family, shares, caching):
    model = made(family)
    for weight in model.parameters():
        weight.data *= 3 if weight.ndim > 1 else 1
    scorer = Scorer(model)
    scorer.check()
    assert (scorer.longest_shared > 0, scorer.caching) == (shares, caching)


@pytest.mark.parametrize("family", ["gpt2", "falcon", "mixtral", "glm4_moe", "mamba"])
def test_adapters_merge_into_what_they_did(family, recipes):
    model, lora = made(family), recipes.lora(rank=3, alpha=7.0)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    inject(model, lora)
    adapters = causal_lm.trainable(model)
    assert all(re.search(r"\.lora_[AB]\.default\.weight$", name) for name in adapters)
    for weight in adapters.values():
        weight.data.normal_(std=0.2)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        merged = merge(causal_lm.saved_weights(model), lora, transposed=inputs_first(model))
        plain = made(family)
        plain.load_state_dict({**start, **merged})
        plain.tie_weights()
        assert torch.allclose(plain(input_ids=IDS).logits, expected, atol=1e-4)
    assert merged.keys() == causal_lm.saved_weights(plain).keys()


def test_targets_that_are_no_linear_layer_are_refused(recipes):
    with pytest.raises(WorkError, match=r"The model has .*c_attn.* Choose among them"):
        inject(made("gpt2"), recipes.lora(targets=("q_proj",)))


def test_dropout_stays_off_where_it_was_off():
    model = made("gpt2")
    scorer = Scorer(model)
    scorer.check()
    assert not scorer.training
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("family", ["mixtral", "gpt_neox", "glm4_moe"])
def test_names_in_the_store_are_the_modules_and_an_export_has_the_published(
    family, tmp_path, tiny_tokenizer
):
    model, cpu = made(family), torch.device("cpu")
    model.save_pretrained(tmp_path / "published")
    causal_lm.save_checkpoint(model, tiny_tokenizer, tmp_path / "own")
    opened = causal_lm.open_model(tmp_path / "own", "float32", cpu)
    causal_lm.save_as_published(opened, tiny_tokenizer, tmp_path / "out")
    published, own, out = (
        load_file(tmp_path / name / "model.safetensors") for name in ("published", "own", "out")
    )
    assert own.keys() == causal_lm.saved_weights(model).keys() == causal_lm.resident_weights(
        opened
    ).keys()  # fmt: skip
    assert out.keys() == published.keys() != own.keys()
    assert all(torch.equal(weight, published[name]) for name, weight in out.items())
    again = causal_lm.open_model(tmp_path / "out", "float32", cpu)
    with torch.no_grad():
        assert torch.allclose(again(input_ids=IDS).logits, model(input_ids=IDS).logits, atol=1e-5)


def test_the_readme_says_how_many_families_are_tested():
    readme = Path(__file__).parents[2] / "README.md"
    assert f"[{len(TESTED)} families]" in readme.read_text("utf-8")
