"""What kinds of models there are, and what the rest of raymcu asks of each.

A modality is an encoder (example to item), a collator (items to tensors) and a scorer (tensors to
states and logits at labelled positions), with how models of the kind are opened, made and saved.
What an input looks like is known here and to the benchmarks only.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from raymcu.benchmarks._base import Benchmark
from raymcu.errors import ConfigError, StoreError
from raymcu.models import causal_lm
from raymcu.models.class_scorer import ClassScorer
from raymcu.models.classifying import Classifiers
from raymcu.models.empty import folder_of, open_empty
from raymcu.models.encoding import Encoder, train_tokenizer
from raymcu.models.image_classifier import ImageClassifiers
from raymcu.models.image_text_classifier import ImageTextClassifiers
from raymcu.models.scorer import Scorer
from raymcu.models.text_classifier import TextClassifiers
from raymcu.study.search_space import ModelSource, ScratchModel

_CHUNK = 2048
"""Longest piece of plain text in tokens (MUSE)."""


class Modality(Protocol):
    """A kind of model. Models are transformers' own; encoders know their tokenizer or processor."""

    def preflight(
        self, source: ModelSource, key: str, benchmark: Benchmark, *, is_trained: bool
    ) -> str | None:
        """Say why the model that ``key`` of a search space names cannot be used; None if it can.

        Some can only if all their weights are trained first (``is_trained``).
        """

    def start_from(self, source: ModelSource, device: torch.device) -> tuple[Any, Any]:
        """Open the model that a search space names by folder or hub id, and its encoder."""

    def adopt(
        self, source: ModelSource, benchmark: Benchmark, seed: int, device: torch.device
    ) -> tuple[Any, Any]:
        """Open such a model to be trained; what it lacks for the benchmark is drawn from a seed."""

    def redraw(self, source: ModelSource, benchmark: Benchmark, seed: int) -> tuple[Any, Any]:
        """Make a network of such a model's shape with random weights, on the CPU."""

    def open(
        self, folder: Path, source: ModelSource, dtype: str, device: torch.device
    ) -> tuple[Any, Any]:
        """Open a checkpoint of the store, and its encoder."""

    def empty(self, source: ModelSource, folder: Path | None, dtype: str) -> tuple[Any, Any] | None:
        """Open a checkpoint of the store, or the model that a search space names, without weights.

        None for kinds that are opened whole.
        """

    def create(
        self, source: ModelSource, benchmark: Benchmark, sets: Sequence[str], seed: int
    ) -> tuple[Any, Any]:
        """Make a model from scratch, in float32 on the CPU, and an encoder that fits these sets."""

    def save(
        self, model: Any, encoder: Any, folder: Path, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a folder that transformers opens; ``weights`` in place of the model's own."""

    def publish(self, model: Any, encoder: Any, folder: Path) -> None:
        """Write a folder for other tools too: weights go by the names they are published under."""

    def encode(self, model: Any, encoder: Any, examples: Sequence[Any]) -> list[Any]:
        """Return the items of a training set."""

    def scorer(self, model: Any, encoder: Any) -> Any:
        """Return what computes states and logits."""


class CausalLM:
    """Questions with answers, and plain texts, for `AutoModelForCausalLM`."""

    def preflight(
        self, source: ModelSource, key: str, benchmark: Benchmark, *, is_trained: bool
    ) -> str | None:
        """Say why a model cannot be used, from config and tokenizer; None if it can."""
        del benchmark, is_trained
        return causal_lm.preflight(source, key)

    def start_from(self, source: ModelSource, device: torch.device) -> tuple[Any, Encoder]:
        """Open the model and tokenizer that a search space names.

        Raises:
            ConfigError: If they cannot be found or read.
        """
        model, tokenizer = causal_lm.start_from(source, device)
        return model, Encoder(tokenizer, source.prompt)

    def adopt(
        self, source: ModelSource, benchmark: Benchmark, seed: int, device: torch.device
    ) -> tuple[Any, Encoder]:
        """Open a model to be trained, which lacks nothing. Raises as `start_from`."""
        del benchmark, seed
        return self.start_from(source, device)

    def redraw(self, source: ModelSource, benchmark: Benchmark, seed: int) -> tuple[Any, Encoder]:
        """Make a network of a model's shape with weights drawn from ``seed``."""
        del benchmark
        model, tokenizer = causal_lm.redraw(source, seed)
        return model, Encoder(tokenizer, source.prompt)

    def open(
        self, folder: Path, source: ModelSource, dtype: str, device: torch.device
    ) -> tuple[Any, Encoder]:
        """Open a checkpoint of the store.

        Raises:
            StoreError: If its files do not load.
        """
        trusts_code = source.trust_remote_code
        model = causal_lm.open_model(folder, dtype, device, trusts_code=trusts_code)
        return model, Encoder(causal_lm.open_tokenizer(folder, source), source.prompt)

    def empty(
        self, source: ModelSource, folder: Path | None, dtype: str
    ) -> tuple[Any, Encoder] | None:
        """Open a checkpoint of the store, or the model that a search space names, without weights.

        Raises:
            OSError, ValueError, RuntimeError: If its files do not load.
        """
        place = folder or folder_of(source)
        model = open_empty(place, dtype, trusts_code=source.trust_remote_code)
        tokenizer = (
            causal_lm.named_tokenizer(source)
            if folder is None
            else causal_lm.open_tokenizer(folder, source)
        )
        return model, Encoder(tokenizer, source.prompt)

    def create(
        self, source: ModelSource, benchmark: Benchmark, sets: Sequence[str], seed: int
    ) -> tuple[Any, Encoder]:
        """Make a small Llama, with a tokenizer trained on the texts of these sets."""
        assert isinstance(source.scratch, ScratchModel)  # noqa: S101 - the plan saw to it
        texts = [
            f"Question: {x.question}\nAnswer: {x.answer}" if x.question else x.answer
            for name in sets
            for x in benchmark.training_set(name)
        ]
        tokenizer = train_tokenizer(texts, source.scratch.vocab_size)
        model = causal_lm.create(source.scratch, tokenizer, seed, "float32")
        return model, Encoder(tokenizer, source.prompt)

    def save(
        self,
        model: Any,
        encoder: Encoder,
        folder: Path,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that ``AutoModelForCausalLM.from_pretrained`` opens."""
        causal_lm.save_checkpoint(model, encoder.tokenizer, folder, weights)

    def publish(self, model: Any, encoder: Encoder, folder: Path) -> None:
        """Write a folder whose weights have the names that the family is published under."""
        causal_lm.save_as_published(model, encoder.tokenizer, folder)

    def encode(self, model: Any, encoder: Encoder, examples: Sequence[Any]) -> list[Any]:
        """Tokenise a set; plain text, an example without a question, is cut into chunks."""
        if examples and not examples[0].question:
            limit = getattr(model.config, "max_position_embeddings", None)
            length = min(limit or _CHUNK, _CHUNK)
            return list(chain.from_iterable(encoder.chunks(x.answer, length) for x in examples))
        return [encoder.encode(x.question, x.answer) for x in examples]

    def scorer(self, model: Any, encoder: Encoder) -> Scorer:
        """Return what computes states and logits at chosen positions."""
        return Scorer(model, encoder.pad)


class Classifier:
    """Inputs with one of a few classes.

    Args:
        kind: How classifiers of what is looked at are opened, made, fed and saved.
    """

    def __init__(self, kind: Classifiers) -> None:
        self.kind = kind

    def preflight(
        self, source: ModelSource, key: str, benchmark: Benchmark, *, is_trained: bool
    ) -> str | None:
        """Say why a model cannot be used: no head, other classes, not to be read; or None."""
        return self.kind.preflight(source, key, benchmark.class_names, is_trained=is_trained)

    def start_from(self, source: ModelSource, device: torch.device) -> tuple[Any, Any]:
        """Open the model that a search space names, and its tokenizer or image processor.

        Raises:
            ConfigError: If they cannot be found or read.
        """
        with _reading(source):
            model = self.kind.open_model(str(source.path), source.dtype, device, source)
            return self.kind.paired(model, source)

    def adopt(
        self, source: ModelSource, benchmark: Benchmark, seed: int, device: torch.device
    ) -> tuple[Any, Any]:
        """Open a model to be trained; a base gets a head of classes. Raises as `start_from`."""
        with _reading(source):
            return self.kind.adopt(source, *_inputs(benchmark), seed, device)

    def redraw(self, source: ModelSource, benchmark: Benchmark, seed: int) -> tuple[Any, Any]:
        """Make a network of a model's shape with random weights. Raises as `start_from`."""
        with _reading(source):
            return self.kind.redraw(source, *_inputs(benchmark), seed)

    def open(
        self, folder: Path, source: ModelSource, dtype: str, device: torch.device
    ) -> tuple[Any, Any]:
        """Open a checkpoint of the store.

        Raises:
            StoreError: If its files do not load.
        """
        return self.kind.open_model(folder, dtype, device), self.kind.open_encoder(folder, source)

    def empty(self, source: ModelSource, folder: Path | None, dtype: str) -> tuple[Any, Any] | None:
        """Return None: classifiers are opened whole."""
        del source, folder, dtype
        return None

    def create(
        self, source: ModelSource, benchmark: Benchmark, sets: Sequence[str], seed: int
    ) -> tuple[Any, Any]:
        """Make a network for inputs like those of these sets."""
        examples = [x for name in sets for x in benchmark.training_set(name)]
        names = benchmark.class_names
        return self.kind.create(source.scratch, examples, names, seed, "float32")

    def save(
        self, model: Any, encoder: Any, folder: Path, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a folder that transformers opens."""
        self.kind.save(model, encoder, folder, weights)

    def publish(self, model: Any, encoder: Any, folder: Path) -> None:
        """Write a folder whose weights have the names that the family is published under."""
        self.kind.publish(model, encoder, folder)

    def encode(self, model: Any, encoder: Any, examples: Sequence[Any]) -> list[Any]:
        """Return the items of a training set."""
        del model
        return [encoder.encode(example) for example in examples]

    def scorer(self, model: Any, encoder: Any) -> ClassScorer:
        """Return what computes states and logits."""
        return self.kind.Scorer(model, encoder)


def _inputs(benchmark: Benchmark) -> tuple[tuple[str, ...], Sequence[Any]]:
    return benchmark.class_names, benchmark.training_set("full")


@contextmanager
def _reading(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except (StoreError, *causal_lm.UNREADABLE) as error:
        raise ConfigError(f"model.path: '{source.path}' cannot be opened ({error}).") from error


MODALITIES: dict[str, Modality] = {
    "causal_lm": CausalLM(),
    "image": Classifier(ImageClassifiers()),
    "text": Classifier(TextClassifiers()),
    "image_text": Classifier(ImageTextClassifiers()),
}
"""By `Benchmark.modality`."""
