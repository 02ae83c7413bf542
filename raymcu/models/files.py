"""What a model's files tell without opening it: size, layers, content, and what fits together."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from raymcu.models.shapes import Shape, known_shape, of_config
from raymcu.store.ids import content_id
from raymcu.study.search_space import ModelSource, ScratchModel

TESTED = (
    "afmoe", "apertus", "apertus1p5_text", "arcee", "aria_text", "axk1", "bamba", "beam",
    "biogpt", "bitnet", "bloom", "codegen", "cohere", "cohere2", "cohere2_moe", "ctrl", "cwm",
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "diffllama", "doge", "ernie4_5", "ernie4_5_moe",
    "exaone", "exaone4", "exaone_moe", "falcon", "falcon_h1", "falcon_mamba", "flex_olmo",
    "flint", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite",
    "glm_moe_dsa", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese",
    "gpt_oss", "gptj", "granite", "granite_swa", "granitemoe", "granitemoe_swa",
    "granitemoeshared", "helium", "hunyuan_v1_dense", "hy_v3", "hyperclovax", "internlm3",
    "iquestcoder", "jais2", "jamba", "jetmoe", "kolibri1", "laguna", "lara_mini", "lfm2", "lfm3",
    "llama", "llama4_text", "mamba", "mamba2", "mellum", "mimo_v2_flash", "minicpm3", "minimax",
    "minimax_m2", "minimax_m3_vl_text", "ministral", "ministral3", "mistral", "mixtral", "moshi",
    "mpt", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "openai-gpt",
    "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3",
    "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next",
    "sarvam_mla", "sarvam_moe", "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2",
    "vaultgemma", "xglm", "youtu", "zaya",
)  # fmt: skip
"""Families, as config.json's ``model_type`` has them, that go through all of raymcu in a test."""


def is_of_tested_family(path: str) -> bool:
    """Whether a model is of a family that is known to work; a hub's is not looked at."""
    config = Path(path) / "config.json"
    try:
        return not config.exists() or json.loads(config.read_text()).get("model_type") in TESTED
    except ValueError:  # whoever opens it says so
        return False


def count_parameters(source: ModelSource) -> int | None:
    """Return a model's size without opening it; of one on a hub what its name says, or None.

    A folder without weights is counted by its config.json, as far as that tells. A common one is known; of others ``1B`` is a thousand million: near enough for estimates.
    """
    if source.path is None:
        return getattr(source.scratch, "num_parameters", None)
    if shapes := _shapes(source.path):
        return sum(map(prod, shapes.values()))
    if (known := _told_by_config(source.path) or known_shape(source.path)) is not None:
        return known.num_parameters
    said = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z])", source.path.lower())
    return int(float(said[-1][0]) * {"m": 1e6, "b": 1e9}[said[-1][1]]) if said else None


def _told_by_config(path: str) -> Shape | None:
    config = Path(path) / "config.json"
    return of_config(json.loads(config.read_text())) if config.exists() else None


def layer_names(source: ModelSource) -> tuple[str, ...]:
    """Return the beginnings of the weight names of each decoder layer.

    They are told from the names alone: the numbered part that holds the most weights. Of a model on
    a hub as many as ``model.num_layers`` says.
    """
    if source.path is None:
        number = source.scratch.num_layers if isinstance(source.scratch, ScratchModel) else 0
        return tuple(f"model.layers.{layer}." for layer in range(number))
    found: dict[str, Counter[int]] = {}
    for name in _shapes(source.path):
        if match := re.match(r"(.*?\.)(\d+)\.", name):
            found.setdefault(match[1], Counter())[int(match[2])] += 1
    if not found:
        return tuple(f"model.layers.{layer}." for layer in range(source.num_layers or 0))
    stem = max(found, key=lambda stem: found[stem].total())
    return tuple(f"{stem}{layer}." for layer in sorted(found[stem]))


def fingerprint(path: str, revision: str) -> str:
    """Name a model's content: ``id@revision`` of a hub id, a hash of a folder's files.

    Of each weight file the size and the first and last MiB are hashed, which tells checkpoints
    apart without reading all of them.
    """
    folder = Path(path)
    if not folder.exists():
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in {".safetensors", ".json", ".model", ".txt", ".jinja"}:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as content:
                digest.update(content.read(2**20))
                content.seek(max(0, size - 2**20))
                digest.update(content.read(2**20))
    return digest.hexdigest()[:16]


def same_family(configs: Mapping[str, Path]) -> list[str]:
    """Say why checkpoints cannot be blended: other architecture, shapes, or tokenizer.

    Args:
        configs: Folder of each checkpoint by a name for messages.
    """
    described = {name: describe(folder) for name, folder in configs.items()}
    (first, known), *others = described.items()
    return [
        f"{name} and {first} cannot be blended: {what} differs ({found.get(what)!r} against "
        f"{known.get(what)!r})."
        for name, found in others
        for what in sorted(known.keys() | found.keys())
        if found.get(what) != known.get(what)
    ]


def describe(folder: Path) -> dict[str, Any]:
    """Return what checkpoints that are blended must share, as their files say it."""
    config = json.loads((folder / "config.json").read_text())
    told = {k: config.get(k) for k in ("model_type", "vocab_size", "tie_word_embeddings")}
    vocabulary = folder / "tokenizer.json"
    if vocabulary.exists():
        told["tokenizer"] = content_id(json.loads(vocabulary.read_text())["model"].get("vocab"))
    return told | {f"shape of {name}": shape for name, shape in _shapes(folder).items()}


def _shapes(folder: str | Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name, from the heads of a folder's files."""
    found = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                found[name] = tuple(tensors.get_slice(name).get_shape())
    return found
