"""The sizes of a causal LM, told without opening it: by its config, or by a hub model's name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from raymcu.study.search_space import ModelSource, ScratchModel

_UNGATED = (
    "biogpt", "bloom", "codegen", "ctrl", "falcon", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo",
    "gpt_neox", "gpt_neox_japanese", "gptj", "mpt", "nemotron", "openai-gpt", "opt", "persimmon",
    "phi", "starcoder2", "xglm",
)  # fmt: skip
"""Families of which a layer's MLP is two matrices with an activation between them."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "key_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_width": ("head_dim",),
    "vocabulary": ("vocab_size",),
    "longest": ("max_position_embeddings", "n_positions", "max_seq_len"),
}
"""What configs call a size."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder, by which its weights and what it computes of a token are counted."""

    hidden: int
    """Width of the states between layers."""
    inner: int
    """Width of a layer's MLP."""
    layers: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    is_tied: bool
    """Whether the output embedding is the input one."""
    is_gated: bool = True
    """Whether a layer is as Llama's: three matrices of an MLP, norms without a mean; or as
    GPT-2's: two, and LayerNorm."""
    longest: int | None = None
    """Tokens of the longest sequence that it takes."""
    others: int = 0
    """Weights besides: experts, biases, or all of a network of another kind, of which the rest is
    then 0."""

    @classmethod
    def unknown(cls, num_parameters: int) -> "Shape":
        """Return the shape of a network of which nothing is known but how many weights it has."""
        return cls(0, 0, 0, 0, 0, 0, 0, is_tied=False, others=num_parameters)

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the matrices of a layer, by the names that Llama has for them."""
        wide, narrow = self.heads * self.head_width, self.key_heads * self.head_width
        found = {
            "self_attn.q_proj": (wide, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, wide),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }
        if not self.is_gated:
            del found["mlp.gate_proj"]
        return found

    @property
    def block(self) -> int:
        """Weights of a layer."""
        return sum(map(prod, self.linear.values())) + 2 * self.hidden

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers of all layers."""
        return self.layers * sum(map(prod, self.linear.values()))

    @property
    def embedding(self) -> int:
        """Weights of one embedding, which is the largest weight of most models."""
        return self.vocabulary * self.hidden

    @property
    def root(self) -> int:
        """Weights that lie in no layer."""
        positions = 0 if self.is_gated else (self.longest or 0) * self.hidden
        return self.embedding * (1 if self.is_tied else 2) + positions + self.hidden

    @property
    def num_parameters(self) -> int:
        """All of its weights."""
        return self.layers * self.block + self.root + self.others


def _llama(*sizes: int, is_tied: bool = False, is_gated: bool = True) -> Shape:
    hidden, inner, layers, heads, key_heads, width, vocabulary, longest = sizes
    return Shape(
        hidden, inner, layers, heads, key_heads, width, vocabulary, is_tied, is_gated, longest
    )


_KNOWN = {
    "llama-2-7b": _llama(4096, 11008, 32, 32, 32, 128, 32000, 4096),
    "llama2-7b": _llama(4096, 11008, 32, 32, 32, 128, 32000, 4096),
    "muse-news": _llama(4096, 11008, 32, 32, 32, 128, 32000, 4096),
    "muse-books": _llama(4096, 11008, 32, 32, 32, 128, 32000, 4096),
    "llama-2-13b": _llama(5120, 13824, 40, 40, 40, 128, 32000, 4096),
    "llama-3-8b": _llama(4096, 14336, 32, 32, 8, 128, 128256, 8192),
    "llama-3.1-8b": _llama(4096, 14336, 32, 32, 8, 128, 128256, 131072),
    "llama-3.2-1b": _llama(2048, 8192, 16, 32, 8, 64, 128256, 131072, is_tied=True),
    "llama-3.2-3b": _llama(3072, 8192, 28, 24, 8, 128, 128256, 131072, is_tied=True),
    "mistral-7b": _llama(4096, 14336, 32, 32, 8, 128, 32000, 32768),
    "zephyr-7b": _llama(4096, 14336, 32, 32, 8, 128, 32000, 32768),
    "qwen2.5-0.5b": _llama(896, 4864, 24, 14, 2, 64, 151936, 32768, is_tied=True),
    "qwen2.5-1.5b": _llama(1536, 8960, 28, 12, 2, 128, 151936, 32768, is_tied=True),
    "qwen2.5-3b": _llama(2048, 11008, 36, 16, 2, 128, 151936, 32768, is_tied=True),
    "qwen2.5-7b": _llama(3584, 18944, 28, 28, 4, 128, 152064, 32768),
    "smollm2-135m": _llama(576, 1536, 30, 9, 3, 64, 49152, 8192, is_tied=True),
    "smollm2-360m": _llama(960, 2560, 32, 15, 5, 64, 49152, 8192, is_tied=True),
    "smollm2-1.7b": _llama(2048, 8192, 24, 32, 32, 64, 49152, 8192, is_tied=True),
    "phi-1_5": _llama(2048, 8192, 24, 32, 32, 64, 51200, 2048, is_gated=False),
}
"""By a part of a hub id: as their config.json says, which planning does not fetch."""


def shape_of(
    source: ModelSource, num_parameters: int | None, *, is_causal: bool = True
) -> Shape | None:
    """Return a model's sizes without opening it or the network; None where nothing tells them.

    Of a folder its config.json tells them, of a hub id its name: exactly if it is one of the common
    ones, else those of a Llama of about as many parameters.

    Args:
        source: The model.
        num_parameters: As `files.count_parameters` has it.
        is_causal: Whether it is a causal LM; of others it is known how many weights they have.
    """
    if not is_causal:
        return Shape.unknown(num_parameters) if num_parameters else None
    if source.path is None:
        return _of_scratch(source.scratch)
    config = Path(source.path) / "config.json"
    if config.exists():
        found = of_config(json.loads(config.read_text()))
    else:
        found = known_shape(source.path)
    if found is None:
        return _of_size(num_parameters) if num_parameters else None
    return replace(found, others=max(0, (num_parameters or 0) - found.num_parameters))


def known_shape(path: str) -> Shape | None:
    """Return the sizes of a common model of the hub, by a part of its name; None of others."""
    name = path.lower()
    return next((shape for part, shape in _KNOWN.items() if part in name), None)


def _of_size(num_parameters: int) -> Shape:
    heads = 1
    while (shape := _of_heads(heads)).num_parameters < num_parameters:
        heads += 1
    return shape


def _of_heads(heads: int) -> Shape:
    hidden = 128 * heads
    return _llama(hidden, 344 * heads, heads, heads, heads, 128, 32000, 4096)


def _of_scratch(scratch: Any) -> Shape | None:
    if not isinstance(scratch, ScratchModel):
        return None
    hidden, heads = scratch.hidden_size, scratch.num_heads
    sizes = (hidden, scratch.intermediate_size, scratch.num_layers, heads, heads, hidden // heads)
    return _llama(*sizes, scratch.vocab_size, scratch.max_length, is_tied=True)


def of_config(config: Mapping[str, Any]) -> Shape | None:
    """Read the sizes of a decoder from its config; None where it does not name them."""
    kind = config.get("model_type")
    config = config.get("text_config", config)
    found = {
        what: next((config[name] for name in names if isinstance(config.get(name), int)), None)
        for what, names in _NAMES.items()
    }
    hidden, layers, vocabulary = found["hidden"], found["layers"], found["vocabulary"]
    if not hidden or not layers or not vocabulary:
        return None
    heads = found["heads"] or 1
    return Shape(
        hidden=hidden,
        inner=found["inner"] or 4 * hidden,
        layers=layers,
        heads=heads,
        key_heads=found["key_heads"] or heads,
        head_width=found["head_width"] or hidden // heads,
        vocabulary=vocabulary,
        is_tied=config.get("tie_word_embeddings", kind in _UNGATED),
        is_gated=kind not in _UNGATED,
        longest=found["longest"],
    )
