"""Causal LMs opened without their weights, which are filled in as far as they are held."""

from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from raymcu.models.causal_lm import DTYPES
from raymcu.study.search_space import ModelSource


def open_empty(folder: Path, dtype: str, *, trusts_code: bool = False) -> Any:
    """Open a model but for its weights, which are empty (meta); what sizes determine is real.

    Rotary tables are in no file: emptied, they would be filled with nothing.

    Raises:
        OSError, ValueError, RuntimeError: If its files do not load.
    """
    trusted = {"trust_remote_code": trusts_code}
    config = AutoConfig.from_pretrained(str(folder), **trusted)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], **trusted)
    if (folder / GENERATION_CONFIG_NAME).exists():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    model.tie_weights()
    return model.eval()


def twins_of(model: nn.Module) -> dict[str, str]:
    """Return further names of tied weights, each with the first, which is that of the weight."""
    first: dict[int, str] = {}
    found = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(weight), name) != name:
            found[name] = first[id(weight)]
    return found


def folder_of(source: ModelSource) -> Path:
    """Return the folder of a model that a search space names, brought from the hub if it is there.

    Raises:
        OSError: If it cannot be brought.
    """
    path = Path(str(source.path))
    if path.exists():
        return path
    files = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]
    return Path(snapshot_download(str(path), revision=source.revision, allow_patterns=files))
