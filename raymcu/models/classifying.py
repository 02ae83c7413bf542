"""What classifiers share, whatever they look at: items, batches, files.

A classifier's item has one labelled position: its class. What an input looks like is known to one
encoder a modality (`text_classifier`, `image_classifier`, `image_text_classifier`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from torch import Tensor
from transformers import AutoConfig

from raymcu.benchmarks import Classified
from raymcu.errors import StoreError
from raymcu.models import families
from raymcu.models.causal_lm import DTYPES, UNREADABLE, saved_weights
from raymcu.models.class_scorer import ClassScorer
from raymcu.models.encoding import Batch
from raymcu.models.heads import has_head, is_of_head, labelled, labels_differ, not_a_base
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


def hub_options(folder: str | Path, source: ModelSource | None) -> dict[str, Any]:
    """Return what a search space says of opening a model; a folder has no revision."""
    if source is None:
        return {}
    told: dict[str, Any] = {"trust_remote_code": source.trust_remote_code}
    return told if Path(folder).exists() else {**told, "revision": source.revision}


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
        config: Any = None,
    ) -> Any:
        """Open a checkpoint of the store, or with its ``source`` what a search space names.

        Args:
            folder: Where it is.
            dtype: Of its weights.
            device: Where they go.
            source: What a search space says of it.
            config: In place of its own, of a base with a head to be drawn at random (`config_of`).

        Raises:
            StoreError: If its files do not load.
        """
        extra = hub_options(folder, source)
        if config is not None:
            extra["config"] = config
        try:
            model, found = self.auto.from_pretrained(
                str(folder), output_loading_info=True, dtype=DTYPES[dtype], **extra
            )
            lacking = found["missing_keys"]  # they would silently be drawn at random
            if config is not None:
                lacking = [name for name in lacking if not is_of_head(name, model)]
            if lacking:
                raise ValueError(f"its files lack {', '.join(sorted(lacking))}")
        except UNREADABLE as error:
            raise StoreError(
                f"{folder}: the checkpoint does not open ({error}). Delete it and run again."
            ) from error
        return model.to(device).eval()

    def config_of(
        self, source: ModelSource, class_names: Sequence[str], examples: Sequence[Classified]
    ) -> tuple[Any, bool]:
        """Return the config of the model that a search space names, and whether it is a base.

        A base, which has no head of classes, is given one of these classes.
        """
        del examples
        path = str(source.path)
        config = AutoConfig.from_pretrained(path, **hub_options(path, source))
        is_base = not has_head(config, self.ending)
        if is_base:
            config.update(labelled(class_names))
        return config, is_base

    def adopt(
        self,
        source: ModelSource,
        class_names: Sequence[str],
        examples: Sequence[Classified],
        seed: int,
        device: torch.device,
    ) -> tuple[Any, Any]:
        """Open a model to be trained; a base gets a head of these classes, drawn from ``seed``.

        Raises:
            StoreError: If its files do not load.
        """
        config, is_base = self.config_of(source, class_names, examples)
        given = (str(source.path), source.dtype, device, source, config if is_base else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.open_model(*given)
        return self.paired(model, source)

    def redraw(
        self,
        source: ModelSource,
        class_names: Sequence[str],
        examples: Sequence[Classified],
        seed: int,
    ) -> tuple[Any, Any]:
        """Make a network of the shape of a model, all its weights drawn from ``seed``."""
        config, _ = self.config_of(source, class_names, examples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if not hasattr(self.auto, "from_config"):  # one network, no Auto class
                model = self.auto(config)
            else:
                trusted = {"trust_remote_code": source.trust_remote_code}
                model = self.auto.from_config(config, **trusted)
        return self.paired(model.to(DTYPES[source.dtype]).eval(), source)

    def paired(self, model: Any, source: ModelSource) -> tuple[Any, Any]:
        """Return a model that a search space names with its tokenizer or image processor."""
        return model, self.open_encoder(str(source.path), source)

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

    def preflight(
        self, source: ModelSource, key: str, class_names: Sequence[str], *, is_trained: bool
    ) -> str | None:
        """Say why the model that ``key`` of a search space names cannot be used; None if it can.

        Reads config, tokenizer and image processor, not the weights. A base needs a training of
        the whole of it (``is_trained``), which begins with a head drawn at random.
        """
        path = str(source.path)
        if (path.startswith((".", "/", "~")) or path.count("/") > 1) and not Path(path).exists():
            return f"{key}: there is no folder '{path}'. Correct it, or give a hub id (owner/name)."
        try:
            config = AutoConfig.from_pretrained(path, **hub_options(path, source))
            if has_head(config, self.ending):
                fault = labels_differ(config, class_names)
            elif fault := not_a_base(config, self.auto):
                fault += f". Give {self.told} (…{self.ending}), or a base for one."
            elif not is_trained:
                fault = (
                    f"is a {config.architectures[0]}, which has no head of classes, and a new one "
                    f"would know nothing. Give {self.told} (…{self.ending}), or name it as "
                    "model.path and train the original from it, without lora."
                )
            if fault:
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
