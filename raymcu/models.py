"""Models and tokenizers: open, create, save; questions to tokens; hidden states to logits.

The only user of transformers' Auto classes.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from raymcu.encoding import Batch as Batch
from raymcu.encoding import Encoded as Encoded
from raymcu.encoding import Encoder as Encoder
from raymcu.encoding import collate as collate
from raymcu.encoding import train_tokenizer as train_tokenizer
from raymcu.errors import ConfigError, StoreError
from raymcu.search_space import ModelSource, ScratchModel
from raymcu.store import content_id

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
    """Open the tokenizer of a checkpoint folder or hub id."""
    extra: dict[str, Any] = (
        {} if source is None else {"trust_remote_code": source.trust_remote_code}
    )
    if source is not None and not Path(folder).exists():
        extra["revision"] = source.revision
    return AutoTokenizer.from_pretrained(str(folder), **extra)


def _tokenizer_of(source: ModelSource) -> Any:
    if source.tokenizer is None:
        return open_tokenizer(str(source.path), source)
    return open_tokenizer(source.tokenizer)


def open_model(folder: str | Path, dtype: str, device: torch.device) -> Any:
    """Open a checkpoint of the store.

    A model too large for the GPU is opened on empty weights and spread by accelerate over all GPUs
    of this process and, for the rest, the CPU; `resident_weights` gives its weights.

    Raises:
        StoreError: If its files do not load.
    """
    options: dict[str, Any] = {}
    if device.type == "cuda":
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
        if size > _SHARE_OF_WEIGHTS * torch.cuda.mem_get_info(device)[0]:
            options["device_map"] = "auto"
    try:
        model = _open(str(folder), dtype=DTYPES[dtype], **options)
    except UNREADABLE as error:
        raise StoreError(
            f"{folder}: the checkpoint does not open ({error}). Delete it and run again."
        ) from error
    return model.eval() if options else model.to(device).eval()


def resident_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that hold a model's weights, by name, tied weights once.

    Of a model that accelerate spread, the weights kept on the CPU are those it brings to the GPU
    for each use; what is written into them is used from then on.
    """
    modules = dict(model.named_modules())
    found: dict[int, tuple[str, Tensor]] = {}
    for name, weight in model.named_parameters():
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
        tokenizer = _tokenizer_of(source)
    except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise ConfigError(
            f"model.path: '{source.path}' cannot be opened as a causal LM ({error}). Give a "
            "folder with config.json, tokenizer and safetensors, or a hub id you can reach."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return model.to(device), tokenizer


def preflight(source: ModelSource, key: str) -> str | None:
    """Say why the model that ``key`` of a search space names cannot be used; None if it can.

    Reads config and tokenizer, not the weights.
    """
    path = str(source.path)
    if (path.startswith((".", "/", "~")) or path.count("/") > 1) and not Path(path).exists():
        return f"{key}: there is no folder '{path}'. Correct it, or give a hub id (owner/name)."
    try:
        AutoConfig.from_pretrained(
            path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
        Encoder(_tokenizer_of(source), source.prompt)
    except ConfigError as error:
        return str(error)
    except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
        reason = str(error).strip().split("\n")[0]
        return (
            f"{key}: '{path}' cannot be read ({reason}). Give a folder with config.json, tokenizer "
            "and safetensors, or a hub id you can reach."
        )
    return None


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


def count_parameters(source: ModelSource) -> int | None:
    """Return a model's size without opening it; None if it is on a hub."""
    if source.path is None:
        return source.scratch.num_parameters if source.scratch else None
    files = sorted(Path(source.path).glob("*.safetensors"))
    total = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                total += size
    return total if files else None


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


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Cached keys and values with room behind them: a new token is written, the old ones stay."""

    keys: Tensor
    values: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values, each (batch, heads, new, width); return all of them."""
        if self.is_initialized:
            self.keys = self._grown("keys", self.keys, key_states)
            self.values = self._grown("values", self.values, value_states)
        else:
            self.lazy_initialization(key_states, value_states)
            self.rooms: dict[str, Tensor] = {}
            self.keys, self.values = key_states, value_states
        return self.keys, self.values

    def _grown(self, name: str, held: Tensor, new: Tensor) -> Tensor:
        """Return ``held`` with ``new`` behind it, in place if it lies in a room large enough."""
        length, total = held.shape[-2], held.shape[-2] + new.shape[-2]
        room = self.rooms.get(name)
        if room is None or room.data_ptr() != held.data_ptr() or room.shape[-2] < total:
            room = held.new_empty(*held.shape[:-2], total + max(32, total // 4), held.shape[-1])
            room[..., :length, :] = held
            self.rooms[name] = room
        room[..., length:total, :] = new
        return room[..., :total, :]


class Scorer(nn.Module):
    """A causal LM that computes logits at chosen positions only.

    The product with the vocabulary is most of a small model's work, and only answer positions
    are scored. What an architecture does besides the product (scaling, soft-capping) is applied
    from its config; `check` compares with the model's own forward.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config = model.config.get_text_config()
        self.softcap = getattr(config, "final_logit_softcapping", None)
        self.scale = float(getattr(config, "logit_scale", None) or 1.0)
        self.scale /= float(getattr(config, "logits_scaling", None) or 1.0)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None = None,
        wants_logits: bool = True,
    ) -> Any:
        """Return the logits at (row, column): (positions, vocab).

        With a layer, return the pair of logits (or nothing: (positions, 0)) and that decoder
        layer's output at (row, column): (positions, hidden).
        """
        if layer is None:
            return self.logits(self.hidden(input_ids, row, column))
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            caught.append(output[0] if isinstance(output, tuple) else output)

        hook = self.layers[layer].register_forward_hook(catch)
        try:
            hidden = self.hidden(input_ids, row, column)
        finally:
            hook.remove()
        logits = self.logits(hidden) if wants_logits else hidden[:, :0]
        return logits, caught[0][row, column]

    @property
    def device(self) -> torch.device:
        """Where inputs go, also of a model that is spread over several devices."""
        embeddings = self.model.get_input_embeddings()
        hook = getattr(embeddings, "_hf_hook", None)
        placed = getattr(hook, "execution_device", None)
        return torch.device(embeddings.weight.device if placed is None else placed)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder's layers, first to last."""
        layers: nn.ModuleList = self.model.get_decoder().layers
        return layers

    def states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None,
    ) -> Float[Tensor, "positions hidden"]:
        """Return a decoder layer's output at (row, column)."""
        states: Tensor = self(input_ids, row, column, layer, False)[1]
        return states

    def hidden(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
    ) -> Float[Tensor, "positions hidden"]:
        """Return the final hidden states at (row, column)."""
        decoder = self.model.get_decoder()
        states: Tensor = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        return states[row.to(states.device), column.to(states.device)]

    def logits(
        self, hidden: Float[Tensor, "positions hidden"], head: nn.Module | None = None
    ) -> Float[Tensor, "positions vocab"]:
        """Return logits of final hidden states, by the model's own head or another."""
        head = head or self.model.get_output_embeddings()
        logits: Tensor = head(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def new_cache(self) -> Any:
        """Return an empty cache for `extend`; it can drop rows (``batch_select_indices``)."""
        cache = DynamicCache(config=self.model.config)
        cache.layers = [
            RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
        return cache

    @property
    def activation_bytes(self) -> int:
        """About how many bytes a token takes at once in a forward pass without gradients."""
        config = self.model.config.get_text_config()
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        itemsize = next(self.model.parameters()).element_size()
        return int((8 * config.hidden_size + 4 * inner) * itemsize)

    @property
    def cache_bytes(self) -> int:
        """About how many bytes a token takes in a cache."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        itemsize = next(self.model.parameters()).element_size()
        return int(2 * config.num_hidden_layers * heads * width * itemsize)

    def extend(
        self,
        ids: Int[Tensor, "batch new"],
        cache: Any,
        mask: Int[Tensor, "batch seq"] | None = None,
        position: Int[Tensor, "batch new"] | None = None,
    ) -> Float[Tensor, "batch new hidden"]:
        """Return the final states of tokens behind those of a cache, and keep them there.

        Args:
            ids: The tokens.
            cache: What came before.
            mask: 0 where a token, the cache's included, is padding; None if there is none.
            position: Of each token; None counts on from the cache's length.
        """
        states: Tensor = self.model.get_decoder()(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return states

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary: how many logits a position has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @torch.no_grad()
    def check(self) -> None:
        """Compare with the model's own forward on a few tokens.

        Raises:
            ConfigError: If they differ: the architecture does something this class does not know.
        """
        device = next(self.model.parameters()).device
        ids = torch.arange(4, 10, device=device)[None]
        row, column = (
            torch.zeros(6, dtype=torch.long, device=device),
            torch.arange(6, device=device),
        )
        own = self(ids, row, column).float()
        theirs = self.model(input_ids=ids).logits[0].float()
        if not (own - theirs).abs().max() <= 1e-2 * theirs.abs().max():
            raise ConfigError(
                f"model.path: {type(self.model).__name__} changes its logits in a way raymcu does "
                "not know; its scores would be wrong. Please report the architecture."
            )


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

    Args:
        model: Gives the config, and the weights if ``weights`` is None.
        tokenizer: Saved beside it.
        folder: Where to write.
        weights: Full state dict by name, for a model whose own weights are sharded.
    """
    state = None if weights is None else dict(weights)
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    if state:  # transformers noted the precision of the open model, not of what is saved
        model.config.dtype = next(iter(state.values())).dtype
        model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def same_family(configs: Mapping[str, Path]) -> list[str]:
    """Say why checkpoints cannot be blended: other architecture, shapes, or tokenizer.

    Args:
        configs: Folder of each checkpoint by a name for messages.
    """
    described = {name: _describe(folder) for name, folder in configs.items()}
    (first, known), *others = described.items()
    return [
        f"{name} and {first} cannot be blended: {what} differs ({found.get(what)!r} against "
        f"{known.get(what)!r})."
        for name, found in others
        for what in sorted(known.keys() | found.keys())
        if found.get(what) != known.get(what)
    ]


def _describe(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    told = {k: config.get(k) for k in ("model_type", "vocab_size", "tie_word_embeddings")}
    shapes: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                shapes[f"shape of {name}"] = tuple(tensors.get_slice(name).get_shape())
    vocabulary = folder / "tokenizer.json"
    if vocabulary.exists():
        told["tokenizer"] = content_id(json.loads(vocabulary.read_text())["model"].get("vocab"))
    return told | shapes
