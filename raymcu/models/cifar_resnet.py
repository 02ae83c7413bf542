"""ResNets for small images, as transformers opens them once this module is imported.

The networks of He et al. (arXiv:1512.03385) as papers on CIFAR use them: a 3 x 3 stem that keeps
the size, no max-pooling. Transformers' own ResNet begins with 7 x 7 and pooling, for large images.
"""

from typing import Any

import torch.nn.functional as F  # noqa: N812 - as torch's documentation calls it
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput

_BLOCKS = {8: (1, 1, 1), 10: (1, 1, 1, 1), 14: (2, 2, 2), 18: (2, 2, 2, 2)}
"""Blocks of each stage by depth; a block has two convolutions, stem and head are one layer each."""


class CifarResNetConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a CifarResNet."""

    model_type = "cifar_resnet"

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        num_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.depth = depth
        self.width = width
        self.num_channels = num_channels
        self.image_size = image_size


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is one of 1 x 1 where the shape changes."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or given != made:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)
            )

    def forward(self, states: Tensor) -> Tensor:
        """Return the states behind the block."""
        inner = F.relu(self.bn1(self.conv1(states)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(states))


class CifarResNetForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """A ResNet for small images with a linear head."""

    config_class = CifarResNetConfig
    main_input_name = "pixel_values"
    _no_split_modules = ["_Block"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: CifarResNetConfig) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(config.num_channels, config.width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(config.width)
        self.blocks = nn.ModuleList()
        given = config.width
        for stage, number in enumerate(_BLOCKS[config.depth]):
            made = config.width * 2**stage
            for index in range(number):
                self.blocks.append(_Block(given, made, 2 if stage and not index else 1))
                given = made
        self.classifier = nn.Linear(given, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw convolutions as He et al. do; all others begin as torch has them."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Return logits, (batch, classes), of images, (batch, channels, height, width)."""
        states = F.relu(self.norm(self.stem(pixel_values.to(self.stem.weight.dtype))))
        for block in self.blocks:
            states = block(states)
        return ImageClassifierOutput(logits=self.classifier(states.mean((2, 3))))


# A checkpoint carries this file: it opens without raymcu, too, with trust_remote_code=True.
CifarResNetConfig.register_for_auto_class()
CifarResNetForImageClassification.register_for_auto_class("AutoModelForImageClassification")
AutoConfig.register(CifarResNetConfig.model_type, CifarResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(
    CifarResNetConfig, CifarResNetForImageClassification, exist_ok=True
)
