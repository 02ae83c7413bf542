"""The classifiers that a search space can ask for from scratch, by their sizes."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from raymcu.study.table_kinds import Section


class ScratchResNet(Section):
    """A ResNet for small images: 3 x 3 stem, no pooling in front, batch normalisation."""

    architecture: Literal["cifar_resnet"] = "cifar_resnet"
    """Which kind of network."""
    depth: Literal[8, 10, 14, 18] = 18
    """Convolutions on the way, and the last layer. 10 and 18 have four stages, of one and of two
    blocks, as ResNet-18 in papers on CIFAR; 8 and 14 have three, as He et al.'s for CIFAR."""
    width: PositiveInt = 64
    """Channels of the first stage; each further stage has twice as many."""

    @property
    def num_parameters(self) -> int:
        """Weights for three channels and ten classes."""
        blocks, stages = (2 if self.depth in {14, 18} else 1), (4 if self.depth in {10, 18} else 3)
        total, inner = (9 * 3 + 2) * self.width, self.width
        for stage in range(stages):
            outer = self.width * 2**stage
            for block in range(blocks):
                before = inner if block == 0 else outer
                total += 9 * before * outer + 9 * outer**2 + 4 * outer
                total += before * outer + 2 * outer if before != outer else 0
            inner = outer
        return total + (inner + 1) * 10


class _Transformer(Section):
    hidden_size: PositiveInt = 64
    """Width; a multiple of ``num_heads``."""
    num_layers: PositiveInt = 2
    """Encoder layers."""
    num_heads: PositiveInt = 2
    """Attention heads of each layer."""
    intermediate_size: PositiveInt = 128
    """Width of a layer's MLP."""

    @property
    def num_parameters(self) -> int:
        """Weights of the layers, which are most of them."""
        per_layer = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        return self.num_layers * per_layer

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads, got {self.hidden_size} and "
                f"{self.num_heads}"
            )
        return self


class ScratchViT(_Transformer):
    """A small vision transformer."""

    architecture: Literal["vit"] = "vit"
    """Which kind of network."""
    patch_size: PositiveInt = 4
    """Edge of a patch in pixels; the images' height and width are multiples of it."""


class ScratchBert(_Transformer):
    """A small BERT, with a byte-level BPE of the benchmark's own texts."""

    architecture: Literal["bert"] = "bert"
    """Which kind of network."""
    vocab_size: Annotated[int, Field(ge=300)] = 4096
    """Tokens of the BPE, the 256 bytes included."""
    max_length: Annotated[int, Field(ge=3)] = 128
    """Longest text in tokens, the two at its ends included; what is longer is cut."""


class ScratchVilt(ScratchBert):
    """A small ViLT: a sentence and its images, with a byte-level BPE of the sentences."""

    architecture: Literal["vilt"] = "vilt"  # type: ignore[assignment]
    """Which kind of network."""
    patch_size: PositiveInt = 16
    """Edge of a patch in pixels; what an image has beyond a multiple of it is not seen."""
