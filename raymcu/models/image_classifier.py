"""Image classifiers: pixels to batches, from scratch (ResNet, ViT) or opened."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from raymcu.benchmarks import Classified
from raymcu.errors import ConfigError
from raymcu.models.batch_norm import layers_of
from raymcu.models.causal_lm import DTYPES
from raymcu.models.cifar_resnet import CifarResNetConfig, CifarResNetForImageClassification
from raymcu.models.class_scorer import ClassScorer
from raymcu.models.classifying import Classifiers, Item, batch_of, hub_options
from raymcu.models.encoding import Batch
from raymcu.models.heads import labelled
from raymcu.study.scratch_classifiers import ScratchResNet, ScratchViT
from raymcu.study.search_space import ModelSource
from raymcu.study.training_tables import Augmentation

_CHANNELS_LAST = ("cuda",)
"""Devices on which weights and images of convolutional networks lie channel by channel, for tensor
cores; a CPU has them as they are."""
_MOST_FILES = 2000
"""Image files whose pixels are read for mean and deviation: as many, evenly spread."""


class ImageEncoder:
    """Turns images into items and batches, as its image processor says."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        mean = getattr(processor, "image_mean", None)
        self.channels = len(mean) if isinstance(mean, list | tuple) else 3

    def encode(self, example: Classified) -> Item:
        """Return the item of an example of one image."""
        images = tuple(with_channels(image, self.channels) for image in example.images)
        return Item(example.key, example.label, pixels=images)

    def augmented(self, item: Item, how: Augmentation, draws: Sequence[float]) -> Item:
        """Return an item with a changed image of the same size: cropped, and maybe mirrored.

        Args:
            item: Of one image.
            how: The margin it is cropped out of, and whether half of all are mirrored.
            draws: Three numbers in [0, 1): how far down and to the right the crop is, and the side.

        Raises:
            ConfigError: If an image file does not decode, with its path.
        """
        image = decoded(item.pixels[0], self.channels)
        height, width, channels = image.shape
        margin = how.padding
        top, left = (int(draw * (2 * margin + 1)) for draw in draws[:2])
        wide = np.zeros((height + 2 * margin, width + 2 * margin, channels), image.dtype)
        wide[margin : margin + height, margin : margin + width] = image
        cut = wide[top : top + height, left : left + width]
        return replace(item, pixels=(cut[:, ::-1] if how.flips and draws[2] < 0.5 else cut,))

    def collate(self, items: Sequence[Item], device: torch.device) -> Batch:
        """Return a batch.

        Raises:
            ConfigError: If an image file does not decode, with its path.
        """
        images = [decoded(item.pixels[0], self.channels) for item in items]
        return batch_of({"pixel_values": self._processed(images, device)}, items, device)

    def save(self, folder: Path) -> None:
        """Write the image processor's file."""
        self.processor.save_pretrained(folder)

    def _processed(self, images: Sequence[np.ndarray], device: torch.device) -> Tensor:
        if not is_plain(self.processor) or len({image.shape for image in images}) > 1:
            found: Tensor = processed(self.processor, images)["pixel_values"]
            return found
        pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
        mean, deviation = (
            torch.tensor(value, device=device)[:, None, None]
            for value in (self.processor.image_mean, self.processor.image_std)
        )
        normal: Tensor = (pixels * self.processor.rescale_factor - mean) / deviation
        return normal


def is_plain(processor: Any) -> bool:
    """Say whether a processor only scales and normalises: for a batch at once, then."""
    is_known = type(processor).__name__ in {"ViTImageProcessor", "ViTImageProcessorPil"}
    return is_known and not processor.do_resize and processor.do_rescale and processor.do_normalize


def processed(processor: Any, images: Sequence[np.ndarray]) -> Any:
    """Return what an image processor makes of images (height, width, channels)."""
    return processor(list(images), return_tensors="pt", input_data_format="channels_last")


def open_processor(folder: str | Path, source: ModelSource | None = None) -> Any:
    """Open an image processor that computes as Pillow does, on every machine."""
    # Early releases of transformers 5 have no backends.
    by_pillow = {"backend": "pil"} if _has_backends() else {"use_fast": False}
    return AutoImageProcessor.from_pretrained(
        str(folder), **by_pillow, **hub_options(folder, source)
    )


def processor_of(name: str, **options: Any) -> Any:
    """Make an image processor of transformers that needs Pillow only."""
    return getattr(transformers, f"{name}Pil" if _has_backends() else name)(**options)


def _has_backends() -> bool:
    return hasattr(transformers, "ViTImageProcessorPil")


def with_channels(image: Any, channels: int) -> Any:
    """Return an array as (height, width, channels); a path as it is."""
    if isinstance(image, Path):
        return image
    image = image if image.ndim == 3 else image[:, :, None]
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image[:, :, :1], 3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def decoded(image: Any, channels: int) -> np.ndarray:
    """Return an image as uint8 (height, width, channels), read if it is a path.

    Raises:
        ConfigError: If the file does not decode.
    """
    if not isinstance(image, Path):
        return np.asarray(image)
    try:
        with Image.open(image) as opened:
            pixels = np.asarray(opened.convert("RGB" if channels == 3 else "L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"{image}: cannot be decoded as an image ({error}). Replace the file, or take its rows "
            "out of the data."
        ) from error
    return pixels if channels == 3 else pixels[:, :, None]


def measured(examples: Sequence[Classified]) -> tuple[list[float], list[float], tuple[int, int]]:
    """Return mean and deviation of each channel, in 0 to 1, and the size of the first image.

    Of files about 2,000 are read, of arrays all.
    """
    images = [image for example in examples for image in example.images]
    if not images:
        raise ConfigError("the training set has no image to make a model for.")
    first = images[0]
    channels = 3 if isinstance(first, Path) or first.ndim == 3 else 1
    if isinstance(first, Path):
        images = images[:: -(-len(images) // _MOST_FILES)]
    size = decoded(first, channels).shape[:2]
    number, total, squares = 0, np.zeros(channels), np.zeros(channels)
    for image in images:
        pixels = decoded(with_channels(image, channels), channels).reshape(-1, channels) / 255
        number += len(pixels)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    mean = total / number
    deviation = np.sqrt(np.maximum(squares / number - mean**2, 1 / 255**2))
    return mean.tolist(), deviation.tolist(), (int(size[0]), int(size[1]))


class ImageScorer(ClassScorer):
    """Scores images."""

    def __init__(self, model: Any, encoder: Any = None) -> None:
        super().__init__(model, encoder)
        # Not for all that has a convolution: shards of a transformer have to be contiguous.
        if self.device.type in _CHANNELS_LAST and layers_of(model):
            model.to(memory_format=torch.channels_last)

    def sample(self) -> dict[str, Tensor]:
        """Return two random images of the size that the config says."""
        config = self.model.config
        size = getattr(config, "image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        shape = (2, getattr(config, "num_channels", 3), height, width)
        values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return {"pixel_values": values.to(next(self.model.parameters()).dtype)}


class ImageClassifiers(Classifiers):
    """Networks that `AutoModelForImageClassification` opens."""

    told: ClassVar[str] = "an image classifier"
    auto: ClassVar[Any] = AutoModelForImageClassification
    ending: ClassVar[str] = "ForImageClassification"
    Scorer: ClassVar[type[ClassScorer]] = ImageScorer

    def open_encoder(self, folder: str | Path, source: ModelSource | None = None) -> ImageEncoder:
        """Open the image processor of a checkpoint folder or hub id.

        Raises:
            OSError: Or ValueError, if it is not there.
        """
        return ImageEncoder(open_processor(folder, source))

    def create(
        self,
        shape: ScratchResNet | ScratchViT,
        examples: Sequence[Classified],
        class_names: Sequence[str],
        seed: int,
        dtype: str,
    ) -> tuple[Any, ImageEncoder]:
        """Make a model for images of the examples' size, and what normalises them by their mean.

        Raises:
            ConfigError: If the examples have no image, or the size is no multiple of the patches.
        """
        mean, deviation, size = measured(examples)
        processor = processor_of(
            "ViTImageProcessor", do_resize=False, image_mean=mean, image_std=deviation
        )
        sized: dict[str, Any] = {
            "image_size": size[0] if size[0] == size[1] else list(size),
            "num_channels": len(mean),
            **labelled(class_names),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(shape, ScratchResNet):
                config = CifarResNetConfig(depth=shape.depth, width=shape.width, **sized)
                model = CifarResNetForImageClassification(config)
            else:
                _check_patches(shape.patch_size, size)
                model = ViTForImageClassification(
                    ViTConfig(
                        hidden_size=shape.hidden_size,
                        num_hidden_layers=shape.num_layers,
                        num_attention_heads=shape.num_heads,
                        intermediate_size=shape.intermediate_size,
                        patch_size=shape.patch_size,
                        **sized,
                    )
                )
        return model.to(DTYPES[dtype]), ImageEncoder(processor)


def _check_patches(patch: int, size: tuple[int, int]) -> None:
    if size[0] % patch or size[1] % patch:
        common = [n for n in range(1, min(size) + 1) if not size[0] % n and not size[1] % n]
        raise ConfigError(
            f"model.scratch.patch_size: is {patch}, which does not divide images of {size[0]} x "
            f"{size[1]} pixels. Choose one of {', '.join(map(str, common))}."
        )
