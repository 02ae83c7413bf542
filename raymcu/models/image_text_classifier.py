"""Classifiers of a sentence and its images: ViLT, from scratch or opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, ViltConfig, ViltForImagesAndTextClassification

from raymcu.benchmarks import Classified
from raymcu.errors import ConfigError
from raymcu.models.causal_lm import DTYPES
from raymcu.models.class_scorer import ClassScorer
from raymcu.models.classifying import Classifiers, Item, batch_of, hub_options
from raymcu.models.encoding import Batch
from raymcu.models.heads import labelled
from raymcu.models.image_classifier import (
    decoded,
    measured,
    open_processor,
    processed,
    processor_of,
    with_channels,
)
from raymcu.models.text_classifier import TextEncoder, made_tokens, open_tokens, padded, sizes
from raymcu.study.scratch_classifiers import ScratchVilt
from raymcu.study.search_space import ModelSource


class ImageTextEncoder(TextEncoder):
    """Turns sentences and images into items and batches, as tokenizer and image processor say."""

    def __init__(self, tokenizer: Any, longest: int, processor: Any, num_images: int) -> None:
        super().__init__(tokenizer, longest)
        self.processor = processor
        self.num_images = num_images
        """Images of each sentence."""
        self.channels = len(processor.image_mean)

    def encode(self, example: Classified) -> Item:
        """Return the item of an example.

        Raises:
            ConfigError: If it has another number of images than the model takes.
        """
        if len(example.images) != self.num_images:
            raise ConfigError(
                f"model.path: takes {self.num_images} images a sentence, the benchmark has "
                f"{len(example.images)}, e.g. of {example.text[:60]!r}. Give a model of as many."
            )
        images = tuple(with_channels(image, self.channels) for image in example.images)
        return Item(example.key, example.label, super().encode(example).tokens, images)

    def collate(self, items: Sequence[Item], device: torch.device) -> Batch:
        """Return a batch: tokens and images, padded, with a mask each.

        Raises:
            ConfigError: If an image file does not decode, with its path.
        """
        images = [self._cut(image) for item in items for image in item.pixels]
        made = processed(self.processor, images)
        inputs = padded(items, self.tokenizer.pad_token_id)
        for name in ("pixel_values", "pixel_mask"):
            inputs[name] = made[name].unflatten(0, (len(items), self.num_images))
        return batch_of(inputs, items, device)

    def save(self, folder: Path) -> None:
        """Write the files of tokenizer and image processor."""
        super().save(folder)
        self.processor.save_pretrained(folder)

    def _cut(self, image: Any) -> np.ndarray:
        """Return an image that is not resized without what is beyond a multiple of the patches.

        No patch holds it; and padded, a patch would be half of it, and the image's scores others.
        """
        pixels = decoded(image, self.channels)
        if self.processor.do_resize:
            return pixels
        patch = self.processor.size_divisor
        height, width = (size // patch * patch for size in pixels.shape[:2])
        if not height or not width:
            where = image if isinstance(image, Path) else "an image"
            raise ConfigError(
                f"{where}: has {pixels.shape[0]} x {pixels.shape[1]} pixels, less than a patch of "
                f"{patch}. Set model.scratch.patch_size to less, or take its rows out of the data."
            )
        return pixels[:height, :width]


class ImageTextScorer(ClassScorer):
    """Scores sentences with their images."""

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the model; padded tokens and patches count for no layer's states.

        ViLT takes patches in random order, which changes the last bits: here always in the same.
        """
        masks: list[Tensor] = []

        def catch(module: nn.Module, given: Any, output: tuple[Tensor, Tensor]) -> None:
            del module, given
            masks.append(output[1])

        hook = self.model.vilt.embeddings.register_forward_hook(catch)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                self.model(**inputs)
        finally:
            hook.remove()
        return masks

    def sample(self) -> dict[str, Tensor]:
        """Return two short texts, one of them padded, with random images."""
        config = self.model.config
        ids, mask = torch.arange(4, 16).reshape(2, 6), torch.ones(2, 6, dtype=torch.long)
        mask[1, 4:] = 0
        size = config.image_size
        shape = (2, config.num_images, config.num_channels, size, size)
        values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": values.to(next(self.model.parameters()).dtype),
            "pixel_mask": torch.ones(2, config.num_images, size, size, dtype=torch.long),
        }


class ImageTextClassifiers(Classifiers):
    """Networks that `ViltForImagesAndTextClassification` opens; it has no Auto class."""

    told: ClassVar[str] = "a classifier of images and text"
    auto: ClassVar[Any] = ViltForImagesAndTextClassification
    ending: ClassVar[str] = "ForImagesAndTextClassification"
    Scorer: ClassVar[type[ClassScorer]] = ImageTextScorer

    def open_encoder(
        self, folder: str | Path, source: ModelSource | None = None
    ) -> ImageTextEncoder:
        """Open tokenizer and image processor of a checkpoint folder or hub id.

        Raises:
            OSError: Or ValueError, if one is not there.
        """
        tokenizer, longest = open_tokens(folder, source)
        config = AutoConfig.from_pretrained(str(folder), **hub_options(folder, source))
        processor = open_processor(folder, source)
        return ImageTextEncoder(tokenizer, longest, processor, config.num_images)

    def config_of(
        self, source: ModelSource, class_names: Sequence[str], examples: Sequence[Classified]
    ) -> tuple[Any, bool]:
        """Return a config; that of a base is for as many images a sentence as the examples have."""
        config, is_base = super().config_of(source, class_names, examples)
        if is_base:
            config.num_images = _number_of(examples)
        return config, is_base

    def paired(self, model: Any, source: ModelSource) -> tuple[Any, ImageTextEncoder]:
        """Return model and encoder for as many images; types that a base lacks are as its last."""
        number = model.config.num_images
        types = model.vilt.embeddings.token_type_embeddings  # of the text, and of each image
        lacking = number + 1 - types.num_embeddings
        if lacking > 0:
            rows = torch.cat([types.weight, types.weight[-1:].expand(lacking, -1)]).detach()
            model.vilt.embeddings.token_type_embeddings = nn.Embedding(
                number + 1, rows.shape[1], _weight=rows
            )
            model.config.modality_type_vocab_size = number + 1
        encoder = self.open_encoder(str(source.path), source)
        encoder.num_images = number
        return model, encoder

    def create(
        self,
        shape: ScratchVilt,
        examples: Sequence[Classified],
        class_names: Sequence[str],
        seed: int,
        dtype: str,
    ) -> tuple[Any, ImageTextEncoder]:
        """Make a small ViLT for as many images a sentence as the examples have, and its encoder.

        Raises:
            ConfigError: If the examples have no image, or not all as many.
        """
        number, patch = _number_of(examples), shape.patch_size
        mean, deviation, size = measured(examples)
        tokenizer = made_tokens(shape, [example.text for example in examples])
        processor = processor_of(
            "ViltImageProcessor",
            do_resize=False,
            size_divisor=patch,
            image_mean=mean,
            image_std=deviation,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViltForImagesAndTextClassification(
                ViltConfig(
                    **sizes(shape, tokenizer),
                    **labelled(class_names),
                    image_size=max(patch, max(size) // patch * patch),
                    patch_size=patch,
                    num_channels=len(mean),
                    num_images=number,
                    modality_type_vocab_size=number + 1,  # the text, and each image in its place
                )
            )
        encoder = ImageTextEncoder(tokenizer, shape.max_length, processor, number)
        return model.to(DTYPES[dtype]), encoder


def _number_of(examples: Sequence[Classified]) -> int:
    """Return how many images a sentence has; all must have as many."""
    numbers = sorted({len(example.images) for example in examples})
    if len(numbers) > 1:
        raise ConfigError(
            f"the training set has sentences with {numbers[0]} and with {numbers[-1]} images. "
            "A model takes the same number of all."
        )
    return numbers[0]
