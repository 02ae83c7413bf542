"""Which families of models work: those that are tested, and a trial of any other before its use."""

from typing import Any

import torch
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedConfig

from raymcu.errors import ConfigError
from raymcu.models.anatomy import Anatomy
from raymcu.models.files import TESTED
from raymcu.models.scorer import Scorer
from raymcu.models.trials import REFUSALS, short

_SIZES = {
    48: "intermediate_size decoder_ffn_dim ffn_dim ffn_hidden_size n_inner",
    32: "hidden_size d_model lru_width word_embed_proj_dim embedding_size",
    16: "q_lora_rank kv_lora_rank qk_head_dim moe_intermediate_size expert_ffn_hidden_size "
    "shared_expert_intermediate_size shared_intermediate_size",
    8: "head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim rotary_dim linear_key_head_dim "
    "linear_value_head_dim hidden_size_per_layer_input",
    4: "num_attention_heads num_experts num_local_experts n_routed_experts moe_num_experts "
    "linear_num_value_heads",
    2: "num_experts_per_tok num_experts_per_token moe_k moe_topk linear_num_key_heads",
    1: "n_group topk_group",
}
"""Sizes of a tiny copy, and what configs call them."""
_TINY_VOCABULARY = 400
_TRIED_AT_MOST = 20_000_000
"""Weights of a tiny copy; where it has more, its sizes go by words that are not known here."""


def empty(config: Any, **options: Any) -> Any:
    """Return a causal LM without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, **options)


def tiny(config: Any) -> Any:
    """Return a config of the same architecture with two layers and small sizes.

    Of what is set layer by layer it has the first two kinds, so that both of a mixture are there.
    """
    told, words = config.to_dict(), getattr(type(config), "attribute_map", {})
    sizes = {words.get(n, n): size for size, names in _SIZES.items() for n in names.split()}
    sizes[words.get("vocab_size", "vocab_size")] = _TINY_VOCABULARY
    layers = getattr(config, "num_hidden_layers", None)
    found: dict[str, Any] = {words.get("num_hidden_layers", "num_hidden_layers"): 2}
    for word, value in told.items():
        if isinstance(inner := getattr(config, word, None), PreTrainedConfig):
            found[word] = tiny(inner).to_dict()
        elif isinstance(value, list | tuple) and len(value) == layers:
            found[word] = [value[0], next((v for v in value if v != value[0]), value[0])]
        elif isinstance(value, int) and not isinstance(value, bool):
            if word in sizes:
                found[word] = min(value, sizes[word])
            elif word.endswith("_token_id") and value >= _TINY_VOCABULARY:
                found[word] = 2
    heads, shared = (words.get(w, w) for w in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(told.get(shared), int) and heads in found:
        found[shared] = found[heads] if told[shared] == told[heads] else min(told[shared], 2)
    return type(config).from_dict({**told, **found})


def empty_like(model: Any) -> Any:
    """Return a model of the same class and config without weights."""
    with torch.device("meta"):
        return type(model)(model.config)


def refusal(config: Any, *, trusts_code: bool = False) -> str | None:
    """Say why models of a config cannot be used, in words that follow a name; None if they can.

    A family that is not tested is tried: built without weights, then as a tiny random copy where
    the config's sizes can be made small. That takes a second or two.
    """
    name = config.model_type
    if config.is_encoder_decoder:
        return (
            f"is an encoder-decoder ({name}), and raymcu compares causal LMs, which read question "
            "and answer as one text. Give a causal LM."
        )
    is_coded = trusts_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not is_coded:
        return (
            f"is of the family '{name}', of which transformers {transformers.__version__} has no "
            "causal LM. Give a causal LM."
        )
    if name in TESTED and not is_coded:
        return None
    return _tried(config, trust_remote_code=is_coded)


def _tried(config: Any, **options: Any) -> str | None:
    try:
        Anatomy.of(empty(config, **options))
        model = _random_copy(config, **options)
        if model is not None:
            Scorer(model).check()
    except ConfigError as error:
        why = str(error).removeprefix("model.path: ")
        return f"is of the family '{config.model_type}', which raymcu cannot use: {why}"
    except (*REFUSALS, ImportError) as error:
        return f"is of the family '{config.model_type}', which cannot be built ({short(error)})."
    return None


def _random_copy(config: Any, **options: Any) -> Any:
    """Return a tiny copy of random weights that runs; None if the sizes cannot be made small."""
    try:
        small = tiny(config)
        if sum(weight.numel() for weight in empty(small, **options).parameters()) > _TRIED_AT_MOST:
            return None
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(small, **options).float().eval()
            model(input_ids=torch.arange(4, 10)[None])
    except Exception:  # noqa: BLE001 - configs refuse sizes each in a way of its own
        return None
    return model
