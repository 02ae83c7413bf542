"""Models and tokenizers: open, create, save; questions to tokens; hidden states to logits.

The only user of transformers' Auto classes.
"""

import logging
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging as transformers_logging

from raymcu.errors import ConfigError, StoreError
from raymcu.models import families, files
from raymcu.models.anatomy import Anatomy
from raymcu.models.encoding import Encoder
from raymcu.study.search_space import ModelSource, ScratchModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SHARE_OF_WEIGHTS = 0.8
"""Of a GPU's free memory, what a model's weights may take for it to be put there whole."""
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""What opening a damaged or missing checkpoint raises."""


def quiet() -> None:
    """Keep transformers' advice out of the terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def best_device() -> torch.device:
    """Return the accelerator if this process was given one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_tokenizer(folder: str | Path, source: ModelSource | None = None) -> Any:
    """Open the tokenizer of a checkpoint folder or hub id.

    Raises:
        ValueError: If none is there; early releases of transformers 5 make one that knows no word.
    """
    extra: dict[str, Any] = {"trust_remote_code": source is not None and source.trust_remote_code}
    if source is not None and not Path(folder).exists():
        extra["revision"] = source.revision
    tokenizer = AutoTokenizer.from_pretrained(str(folder), **extra)
    if set(tokenizer.encode("a")) <= set(tokenizer.all_special_ids):
        raise ValueError("there is no tokenizer")
    return tokenizer


def named_tokenizer(source: ModelSource) -> Any:
    """Open the tokenizer of a model that a search space names; without one it pads with its EOS."""
    named = source.tokenizer
    tokenizer = open_tokenizer(named or str(source.path), None if named else source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def open_model(
    folder: str | Path, dtype: str, device: torch.device, *, trusts_code: bool = False
) -> Any:
    """Open a checkpoint of the store; code that came with its model is run if that is trusted.

    A model too large for the GPU is opened on empty weights and spread by accelerate over all GPUs
    of this process and, for the rest, the CPU; `resident_weights` gives its weights.

    Raises:
        StoreError: If its files do not load.
    """
    options: dict[str, Any] = {}
    trusted = {"trust_remote_code": trusts_code}
    if device.type == "cuda":
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
        if size > _SHARE_OF_WEIGHTS * torch.cuda.mem_get_info(device)[0]:
            options["device_map"] = "auto"
    try:
        model = _open(str(folder), dtype=DTYPES[dtype], **trusted, **options)
    except UNREADABLE as error:
        raise StoreError(
            f"{folder}: the checkpoint does not open ({error}). Delete it and run again."
        ) from error
    return model.eval() if options else model.to(device).eval()


def saved_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint holds of a model: its weights, tied ones once, and its buffers."""
    kept = model.state_dict().keys()  # tied weights twice, passing buffers not at all
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: weight for name, weight in named if name in kept}


def resident_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that hold what a model's checkpoint has, by name, tied weights once.

    Of a model that accelerate spread, the weights kept on the CPU are those it brings to the GPU
    for each use; what is written into them is used from then on.
    """
    modules = dict(model.named_modules())
    found: dict[int, tuple[str, Tensor]] = {}
    for name, weight in saved_weights(model).items():
        owner, _, own = name.rpartition(".")
        is_kept = weight.device.type == "meta"
        held = modules[owner]._hf_hook.weights_map[own] if is_kept else weight.data
        found.setdefault(held.data_ptr(), (name, held))  # kept apart, tied weights look like two
    return dict(found.values())


def start_from(source: ModelSource, device: torch.device) -> tuple[Any, Any]:
    """Open the model and tokenizer that a search space names by folder or hub id.

    Raises:
        ConfigError: If they cannot be found or read.
    """
    try:
        model = _open(
            str(source.path),
            dtype=DTYPES[source.dtype],
            trust_remote_code=source.trust_remote_code,
            revision=source.revision,
        )
        tokenizer = named_tokenizer(source)
    except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise ConfigError(
            f"model.path: '{source.path}' cannot be opened as a causal LM ({error}). Give a "
            "folder with config.json, tokenizer and safetensors, or a hub id you can reach."
        ) from error
    return model.to(device), tokenizer


def redraw(source: ModelSource, seed: int) -> tuple[Any, Any]:
    """Make a network of a model's shape with weights drawn from ``seed``; open its tokenizer.

    Raises:
        ConfigError: If config or tokenizer cannot be found or read.
    """
    try:
        config, tokenizer = _config_of(source), named_tokenizer(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trusted = {"trust_remote_code": source.trust_remote_code}
            model = AutoModelForCausalLM.from_config(config, **trusted)
    except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise ConfigError(_unreadable(source, "model.path", error)) from error
    return model.to(DTYPES[source.dtype]).eval(), tokenizer


def preflight(source: ModelSource, key: str) -> str | None:
    """Say why the model that ``key`` of a search space names cannot be used; None if it can.

    Reads config and tokenizer, not the weights.
    """
    path = str(source.path)
    if (path.startswith((".", "/", "~")) or path.count("/") > 1) and not Path(path).exists():
        return f"{key}: there is no folder '{path}'. Correct it, or give a hub id (owner/name)."
    try:
        refused = families.refusal(_config_of(source), trusts_code=source.trust_remote_code)
        Encoder(named_tokenizer(source), source.prompt)
    except ConfigError as error:
        return str(error)
    except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
        return _unreadable(source, key, error)
    return refused and f"{key}: '{path}' {refused}"


def refused_family(source: ModelSource, key: str) -> str | None:
    """Say why a model in a folder here is of no family that can be used; None if it is, or a hub's.

    What cannot be read is left to `preflight`.
    """
    if source.path is None or not (Path(source.path) / "config.json").exists():
        return None
    try:
        refused = families.refusal(_config_of(source), trusts_code=source.trust_remote_code)
    except UNREADABLE as error:
        return _unreadable(source, key, error)
    return refused and f"{key}: '{source.path}' {refused}"


def _config_of(source: ModelSource) -> Any:
    return AutoConfig.from_pretrained(
        str(source.path), revision=source.revision, trust_remote_code=source.trust_remote_code
    )


def _unreadable(source: ModelSource, key: str, error: Exception) -> str:
    said = str(error)
    reason, advice = (
        said.strip().split("\n")[0],
        "Give a folder with config.json, tokenizer and safetensors, or a hub id you can reach.",
    )
    if "trust_remote_code" in said:
        reason = "its code comes with it, and transformers has none of its own"
        advice = "Read that code and set model.trust_remote_code = true, or use another model."
    elif "does not recognize this architecture" in said:
        reason += f" (it is {transformers.__version__})"
        advice = "Use another model, or a transformers that knows it."
    return f"{key}: '{source.path}' cannot be read ({reason}). {advice}"


def _open(name: str, **options: Any) -> Any:
    """Open a causal LM; a weight that its files lack would silently be drawn at random."""
    model, found = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options)
    if found["missing_keys"]:
        raise ValueError(f"its files lack {', '.join(sorted(found['missing_keys']))}")
    return model


def create(shape: ScratchModel, tokenizer: Any, seed: int, dtype: str) -> Any:
    """Make a small Llama with random weights drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            max_position_embeddings=shape.max_length,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return LlamaForCausalLM(config).to(DTYPES[dtype])


def layer_names(source: ModelSource) -> tuple[str, ...]:
    """Return the beginnings of the weight names of each decoder layer of a model in a folder.

    They are told from a copy without weights: files may have names of the family's own.
    """
    trusted = {"trust_remote_code": source.trust_remote_code}
    model = families.empty(_config_of(source), **trusted)
    stem = Anatomy.of(model).layers
    return tuple(f"{stem}.{layer}." for layer in range(len(model.get_submodule(stem))))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the model's weights by name, tied weights once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def local(weight: Tensor) -> Tensor:
    """Return the shard of a weight that this worker holds; the weight itself if it is whole."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def save_checkpoint(
    model: Any, tokenizer: Any, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write a Hugging Face folder that ``AutoModelForCausalLM.from_pretrained`` opens.

    Weights go by the names of the model's modules, as blends know them, also where a family is
    published under others (Mixtral's experts one by one); transformers takes both.

    Args:
        model: Gives the config, and the weights if ``weights`` is None.
        tokenizer: Saved beside it.
        folder: Where to write.
        weights: Full state dict by name, for a model whose own weights are sharded.
    """
    state = None if weights is None else dict(weights)  # which transformers empties
    model.save_pretrained(
        folder, state_dict=state, safe_serialization=True, save_original_format=False
    )
    if weights:  # transformers noted the precision of the open model, not of what is saved
        model.config.dtype = next(iter(weights.values())).dtype
        model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_as_published(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a Hugging Face folder whose weights have the names that the family is published under.

    Other tools than transformers know those only.
    """
    plain = families.empty_like(model)  # one that was opened is saved by the names it came with
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder, state_dict=saved_weights(model), safe_serialization=True)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_SHAPING = (
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "intermediate_size", "tie_word_embeddings"),
)
"""What of a config decides names and shapes of weights."""


def strangers(family: ModelSource, others: Mapping[str, ModelSource]) -> list[str]:
    """Say which models are of another architecture, shapes or tokenizer than a search space's.

    Reads configs, and of folders what their files say of themselves; not the weights.

    Args:
        family: The search space's model.
        others: Models by their keys in it.
    """
    known, faults = _family(family), []
    for key, source in others.items():
        found = _family(source)
        differ = [what for what in known if what in found and known[what] != found[what]]
        if differ:
            what, other = differ[0], family.path or "model.scratch"
            told = f"{what} is {found[what]}, not {known[what]}"
            if what == "tokenizer":
                told = "tokenizer has another vocabulary"
            more = f", and {len(differ) - 1} more differ" if len(differ) > 1 else ""
            faults.append(
                f"{key}: '{source.path}' cannot be in one study with '{other}': its {told}{more}. "
                "The models of a study share architecture, shapes and tokenizer. Give it a study, "
                "or a `raymcu evaluate`, of its own."
            )
    return faults


def _family(source: ModelSource) -> dict[str, Any]:
    """Return what models whose weights are added must share, as far as it can be told."""
    if source.path is None:
        shape = source.scratch
        assert isinstance(shape, ScratchModel)  # noqa: S101 - a causal LM's
        return {
            "model_type": "llama",
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "intermediate_size": shape.intermediate_size,
        }
    config = AutoConfig.from_pretrained(
        source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
    ).to_dict()
    told = {key: config[key] for key in _SHAPING if key in config}
    folder = Path(source.path)
    more = files.describe(folder) if (folder / "config.json").exists() else {}
    return told | {key: value for key, value in more.items() if key not in told}
