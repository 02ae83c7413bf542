"""What classifiers share, whatever they look at: items, batches, scores, files.

A classifier's item has one labelled position: its class. What an input looks like is known to one
encoder a modality (`text_classifier`, `image_classifier`, `image_text_classifier`).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig

from raymcu.benchmarks import Classified
from raymcu.errors import ConfigError, StoreError
from raymcu.models import families
from raymcu.models.causal_lm import DTYPES, UNREADABLE, saved_weights
from raymcu.models.encoding import Batch
from raymcu.study.search_space import ModelSource


@dataclass(frozen=True)
class Item:
    """An input as a model takes it, and its class."""

    key: str
    """Which input this is."""
    label: int
    tokens: tuple[int, ...] = ()
    pixels: Any = field(default=None, compare=False, repr=False)
    """Its images, unprocessed: uint8 arrays (height, width, channels), or the paths of files, which
    are read when a batch is made."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """What comes before the label."""
        return self.tokens

    @property
    def answer(self) -> tuple[int, ...]:
        """The label."""
        return (self.label,)

    def __len__(self) -> int:
        return 1


def batch_of(inputs: Mapping[str, Tensor], items: Sequence[Item], device: torch.device) -> Batch:
    """Put inputs and the items' labels on a device: one labelled position each."""
    row = torch.arange(len(items), device=device)
    labels = torch.tensor([item.label for item in items], device=device)
    there = {name: tensor.to(device) for name, tensor in inputs.items()}
    return Batch(there, row, torch.zeros_like(row), labels)


class ClassScorer(nn.Module):
    """A classifier that gives logits, what its last linear layer reads, and a layer's states."""

    def __init__(self, model: Any, encoder: Any = None) -> None:
        super().__init__()
        self.model = model
        self.encoder = encoder
        self.train(model.training)  # as an open model is not
        number = int(model.config.num_labels)
        self._head = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == number
        ][-1:]
        if not self._head:
            raise ConfigError(
                f"model.path: {type(model).__name__} does not end with a linear layer of {number} "
                "outputs, one a class. Choose another model."
            )

    def forward(  # noqa: PLR0913, PLR0917 - as the scorer of causal LMs
        self,
        inputs: Mapping[str, Tensor],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None = None,
        wants_logits: bool = True,
        mask: Tensor | None = None,
        final_norm: bool = False,
    ) -> Any:
        """Return the logits of the inputs that ``row`` names: (positions, classes).

        Without ``wants_logits`` it is what the head reads. With a layer, return the pair of either
        and that layer's output, its mean over the input's tokens, patches or places: (positions,
        its width); with ``final_norm`` the last layer's is what the head reads.
        """
        if layer is None:
            hidden = self.hidden(inputs, row, column, mask)
            return self.logits(hidden) if wants_logits else hidden
        caught: list[Tensor] = []

        def catch(module: nn.Module, given: Any, output: Any) -> None:
            del module, given
            caught.append(output[0] if isinstance(output, tuple) else output)

        hook = self.layers[layer].register_forward_hook(catch)
        try:
            hidden, masks = self._read(inputs)
        finally:
            hook.remove()
        logits = self.logits(hidden[row]) if wants_logits else hidden[row]
        if final_norm and layer == len(self.layers) - 1:
            return logits, hidden[row]
        seen: Sequence[Tensor | None] = masks or [None] * len(caught)
        pooled = [_mean(states, places) for states, places in zip(caught, seen, strict=True)]
        return logits, torch.stack(pooled).mean(0)[row]

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, "positions hidden"]:
        """Return what the last linear layer reads."""
        del column, mask
        return self._read(inputs)[0][row]

    def logits(
        self, hidden: Float[Tensor, "positions hidden"], head: nn.Module | None = None
    ) -> Float[Tensor, "positions classes"]:
        """Return logits of what the last layer reads, by the model's own or another."""
        logits: Tensor = (head or self.head)(hidden)
        return logits

    def collate(self, items: Sequence[Item], **how: Any) -> Batch:
        """Put items where the model is.

        Args:
            items: What to look at.
            how: Which positions to read, as `encoding.collate` has it: there is only one.
        """
        del how
        batch: Batch = self.encoder.collate(items, self.device)
        return batch

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        head: nn.Linear = self.model.get_submodule(self._head[0])
        return head

    @property
    def num_tokens(self) -> int:
        """How many logits an input has: its classes."""
        return self.head.out_features

    @property
    def width(self) -> int:
        """How many numbers the head reads."""
        return self.head.in_features

    @property
    def layers(self) -> nn.ModuleList:
        """Blocks of the network, first to last: the list that holds the most weights."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        if not lists:
            raise ConfigError(f"model.path: {type(self.model).__name__} has no list of layers.")
        return max(lists, key=lambda one: sum(weight.numel() for weight in one.parameters()))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @torch.no_grad()
    def check(self) -> None:
        """Compare with the model's own forward on two made-up inputs.

        Raises:
            ConfigError: If they differ: the architecture does something this class does not know.
        """
        inputs = {name: tensor.to(self.device) for name, tensor in self.sample().items()}
        was_training = self.model.training
        self.model.eval()  # no batch of a training leaves its mark on made-up inputs
        try:
            both = torch.arange(2, device=self.device)
            own = self(inputs, both, both).float()
            theirs = self.model(**inputs).logits.float()
        finally:
            self.model.train(was_training)
        if own.shape != theirs.shape or not (own - theirs).abs().max() <= 1e-2 * theirs.abs().max():
            raise ConfigError(
                f"model.path: {type(self.model).__name__} changes its logits behind its last "
                "linear layer; its scores would be wrong. Please report the architecture."
            )

    def sample(self) -> dict[str, Tensor]:
        """Return two inputs of the kind the model takes, for `check`."""
        raise NotImplementedError

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the model; return which tokens its layers saw, 1 or 0, for each time they ran.

        Nothing where all they saw counts.
        """
        self.model(**inputs)
        return []

    def _read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        caught: list[Tensor] = []

        def catch(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            del module
            caught.append(given[0])

        hook = self.head.register_forward_pre_hook(catch)
        try:
            masks = self.run(inputs)
        finally:
            hook.remove()
        return caught[-1], masks


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over tokens, (batch, tokens, width), or places, (batch, width, …)."""
    if states.dim() > 3:
        return states.flatten(2).mean(2)
    if mask is None:
        return states.mean(1)
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1)


class Classifiers(ABC):
    """How classifiers of one modality are opened, made, fed, read and saved."""

    told: ClassVar[str]
    """For messages: ``an image classifier``."""
    auto: ClassVar[Any]
    """Transformers' class that opens one."""
    ending: ClassVar[str]
    """How the names of its architectures end."""
    Scorer: ClassVar[type[ClassScorer]]

    @abstractmethod
    def open_encoder(self, folder: str | Path, source: ModelSource | None = None) -> Any:
        """Open what makes items and batches, of a checkpoint folder or hub id.

        Raises:
            OSError: Or ValueError, if it is not there.
        """

    @abstractmethod
    def create(
        self,
        shape: Any,
        examples: Sequence[Classified],
        class_names: Sequence[str],
        seed: int,
        dtype: str,
    ) -> tuple[Any, Any]:
        """Make a model with random weights drawn from ``seed``, and its encoder of the examples.

        Raises:
            ConfigError: If the examples do not fit the shape.
        """

    def open_model(
        self,
        folder: str | Path,
        dtype: str,
        device: torch.device,
        source: ModelSource | None = None,
    ) -> Any:
        """Open a checkpoint of the store, or with its ``source`` a hub id.

        Raises:
            StoreError: If its files do not load.
        """
        extra: dict[str, Any] = {}
        if source is not None:
            extra["trust_remote_code"] = source.trust_remote_code
            if not Path(folder).exists():
                extra["revision"] = source.revision
        try:
            model, found = self.auto.from_pretrained(
                str(folder), output_loading_info=True, dtype=DTYPES[dtype], **extra
            )
            if found["missing_keys"]:  # they would silently be drawn at random
                raise ValueError(f"its files lack {', '.join(sorted(found['missing_keys']))}")
        except UNREADABLE as error:
            raise StoreError(
                f"{folder}: the checkpoint does not open ({error}). Delete it and run again."
            ) from error
        return model.to(device).eval()

    def save(
        self, model: Any, encoder: Any, folder: Path, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a Hugging Face folder that the modality's Auto class opens.

        Weights go by the names of the model's modules, as blends know them, also where a family is
        published under others (ViT's); transformers takes both.

        Args:
            model: Gives the config with the classes' names, and what is no weight: the statistics
                of batch normalisation; the weights too if ``weights`` is None.
            encoder: Its tokenizer or image processor is saved beside it.
            folder: Where to write.
            weights: By name, for a model whose own weights are sharded.
        """
        if weights is None:
            model.save_pretrained(folder, save_original_format=False)
        else:
            own = {name for name, _ in model.named_parameters()}
            buffers = {name: held for name, held in model.state_dict().items() if name not in own}
            model.save_pretrained(
                folder, state_dict={**buffers, **weights}, save_original_format=False
            )
            # transformers noted the precision of the open model, not of what is saved
            model.config.dtype = next(iter(weights.values())).dtype
            model.config.save_pretrained(folder)
        encoder.save(folder)

    def publish(self, model: Any, encoder: Any, folder: Path) -> None:
        """Write a Hugging Face folder whose weights have the names a family is published under."""
        plain = families.empty_like(model)  # one that was opened is saved by the names it came with
        plain.save_pretrained(folder, state_dict=saved_weights(model))
        model.config.save_pretrained(folder)
        encoder.save(folder)

    def preflight(self, source: ModelSource, key: str, class_names: Sequence[str]) -> str | None:
        """Say why the model that ``key`` of a search space names cannot be used; None if it can.

        Reads config, tokenizer and image processor, not the weights.
        """
        path = str(source.path)
        if (path.startswith((".", "/", "~")) or path.count("/") > 1) and not Path(path).exists():
            return f"{key}: there is no folder '{path}'. Correct it, or give a hub id (owner/name)."
        try:
            config = AutoConfig.from_pretrained(
                path, revision=source.revision, trust_remote_code=source.trust_remote_code
            )
            named = list(config.architectures or ())
            if not any(name.endswith(self.ending) for name in named):
                known = ", ".join(named) or "model without architecture"
                return (
                    f"{key}: '{path}' is a {known}, which has no head of classes. "
                    f"Give {self.told} (…{self.ending})."
                )
            if fault := _labels_differ(config, class_names):
                return f"{key}: '{path}' {fault}"
            self.open_encoder(path, source)
        except (*UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled) as error:
            reason = str(error).strip().split("\n")[0]
            return (
                f"{key}: '{path}' cannot be read as {self.told} ({reason}). Give a folder with "
                "config.json, safetensors and the files of its tokenizer or image processor, or a "
                "hub id you can reach."
            )
        return None


def labelled(class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a config says of the classes."""
    names = dict(enumerate(class_names))
    return {"id2label": names, "label2id": {name: label for label, name in names.items()}}


def _labels_differ(config: Any, class_names: Sequence[str]) -> str | None:
    """Say how a model's classes differ from the benchmark's; LABEL_0 and so on are no names."""
    if config.num_labels != len(class_names):
        return (
            f"has {config.num_labels} classes, the benchmark {len(class_names)}. Give a model of "
            "these classes."
        )
    for label, name in enumerate(class_names):
        known = str(config.id2label[label])
        if _plain(known) not in {_plain(name), f"label {label}"}:
            return (
                f"calls its class {label} {known!r}, the benchmark {name!r}. The order must be the "
                "same; correct id2label in its config.json if only names differ."
            )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
