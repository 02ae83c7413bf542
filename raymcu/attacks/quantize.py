"""Quantization: weights are rounded to few bits and back, as tools that compress models do."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.attacks._parts import matrices
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from jaxtyping import Float
    from torch import Tensor

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)  # fmt: skip
"""Quantiles of a normal distribution with an exact 0, as QLoRA's code has them."""
_FP4_TWELFTHS = (0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
FP4 = (*(-x / 12 for x in _FP4_TWELFTHS[:0:-1]), *(x / 12 for x in _FP4_TWELFTHS))
"""One bit of sign, two of exponent, one of fraction."""
CODES = {"nf4": NF4, "fp4": FP4}
_BITS = {"int8": 8, "nf4": 4, "fp4": 4, "rtn": 4}
_GROUPS = {"nf4": 64, "fp4": 64, "rtn": 128}
_PLAIN = 16
"""Bits of a weight that is not quantized."""

Bits = Annotated[int, Field(ge=2, le=_PLAIN)]


@ATTACKS.register(
    "quantize",
    source="Zhang et al. 2024, arXiv:2410.16454; schemes: LLM.int8(), arXiv:2208.07339; "
    "QLoRA, arXiv:2305.14314, sec. 3; AWQ, arXiv:2306.00978",
)
class Quantize(Treatment):
    """Round the weights of linear layers to few bits and back.

    Unlearning with a small rate may move weights by less than a step of the rounding, which then
    gives the original's back. Linear layers are those that bitsandbytes takes: not the head, not
    embeddings. Only weights are rounded; activations stay. Biases, norms and experts that lie in
    one tensor stay, too.
    """

    strength: ClassVar[str | None] = "bits"
    modalities: ClassVar[tuple[str, ...]] = ("causal_lm", "image", "text", "image_text")
    none: ClassVar[float | None] = _PLAIN

    scheme: Literal["int8", "nf4", "fp4", "rtn"]
    """``int8``: the weights of bitsandbytes' 8 bits (LLM.int8()), rounded to float16 and then to
    127ths of each output's largest; its threshold of outliers concerns activations only. ``nf4``,
    ``fp4``: bitsandbytes' 4 bits, the nearest of 16 values times the largest of 64 neighbours;
    transformers' ``load_in_4bit=True`` alone is ``fp4``, papers mostly mean ``nf4``. ``rtn``: round
    to nearest, in equal steps between the least and the largest of a group of each output's
    weights."""
    bits: Annotated[tuple[Bits, ...], Field(min_length=1)] | None = None
    """Bits of a weight; 16 is the point itself. None: those of the scheme; ``rtn`` 4. Only
    ``rtn`` has a choice: 2 to 8."""
    group: PositiveInt | None = None
    """Neighbouring weights that share a scale. None: 64 of the flattened matrix for ``nf4`` and
    ``fp4``, 128 inputs of an output for ``rtn``; ``int8`` has one scale an output."""
    symmetric: bool = False
    """``rtn``: steps from minus the largest magnitude to the largest, with 0 in the middle;
    otherwise from the least weight to the largest, with 0 among them."""
    double: bool = False
    """``nf4``, ``fp4``: the scales are rounded to 8 bits themselves, 256 at a time (bitsandbytes'
    double quantization)."""
    convolutions: bool = False
    """Round convolutions, too, as a matrix of all that goes into each output; bitsandbytes does
    not. A ResNet has nothing else to round."""

    @model_validator(mode="after")
    def _fits_scheme(self) -> Self:
        known = range(2, 9) if self.scheme == "rtn" else (_BITS[self.scheme],)
        for bits in self.bits or ():
            if bits not in known and bits != _PLAIN:
                has = "2 to 8" if self.scheme == "rtn" else str(_BITS[self.scheme])
                raise ValueError(
                    f"bits: scheme '{self.scheme}' has {has} bits, and {_PLAIN} is no rounding; "
                    f"got {bits}"
                )
        for option, schemes in (
            ("group", ("nf4", "fp4", "rtn")),
            ("symmetric", ("rtn",)),
            ("double", ("nf4", "fp4")),
        ):
            if getattr(self, option) and self.scheme not in schemes:
                raise ValueError(
                    f"{option}: is an option of {' and '.join(schemes)}, not of '{self.scheme}'. "
                    "Leave it out"
                )
        return self

    def strengths(self) -> tuple[float | None, ...]:
        """Return the bits."""
        return self.bits or (_BITS[self.scheme],)

    def of_strength(self, value: float | None) -> Quantize:
        """Return the attack of so many bits, with the group that its scheme has."""
        group = self.group or _GROUPS.get(self.scheme)
        return self.model_copy(update={"bits": (value,), "group": group})

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Round in place.

        Raises:
            WorkError: ``no_target`` if the model has no linear layer but its head.
        """
        (bits,) = self.strengths()
        if bits != _PLAIN:
            for matrix in matrices(model, convolutions=self.convolutions).values():
                matrix.copy_(self.rounded(matrix, int(bits or 0)))
        yield

    def rounded(
        self, weight: Float[Tensor, "outputs inputs"], bits: int
    ) -> Float[Tensor, "outputs inputs"]:
        """Return a matrix as it comes back from so many bits, in float32 at least."""
        group = self.group or _GROUPS.get(self.scheme, 0)
        if self.scheme == "int8":
            return by_output(weight)
        if self.scheme == "rtn":
            return by_group(weight, bits, group, symmetric=self.symmetric)
        return by_block(weight, CODES[self.scheme], group, double=self.double)


def by_output(weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
    """Round to 127ths of each output's largest magnitude, as bitsandbytes stores 8 bits."""
    half = weight.to(torch.float16)
    largest = half.abs().amax(1, keepdim=True).float()
    steps = (half * (127.0 / _but_zero(largest))).round()
    return steps * largest * (1 / 127)


def by_block(
    weight: Float[Tensor, "outputs inputs"],
    code: tuple[float, ...],
    block: int,
    *,
    double: bool = False,
) -> Float[Tensor, "outputs inputs"]:
    """Round to a code's nearest value times the largest magnitude of a block.

    Args:
        weight: Taken row by row, so that a block may begin in one and end in the next.
        code: From -1 to 1, ascending; between two of them the middle goes to the lower.
        block: Neighbours that share a scale; the last block may be shorter.
        double: Whether the scales are rounded, too.
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32)).flatten()
    padded = torch.nn.functional.pad(wide, (0, -len(wide) % block)).view(-1, block)
    largest = padded.abs().amax(1, keepdim=True)
    scale = _rounded_scales(largest) if double else largest
    found = _nearest(padded * (1.0 / _but_zero(largest)), code) * scale
    return found.flatten()[: len(wide)].view(weight.shape)


def _rounded_scales(scales: Float[Tensor, "blocks 1"]) -> Float[Tensor, "blocks 1"]:
    """Round what the scales are beside their mean to 8 bits of a dynamic exponent."""
    mean = scales.mean()
    return by_block(scales - mean, _dynamic_code(), 256) + mean


def _nearest(values: Tensor, code: tuple[float, ...]) -> Tensor:
    known = torch.tensor(code, dtype=values.dtype, device=values.device)
    return known[torch.bucketize(values, (known[:-1] + known[1:]) / 2, out_int32=True)]


@cache
def _dynamic_code() -> tuple[float, ...]:
    """Return the 256 values of bitsandbytes' dynamic map: 7 powers of 10, finer the larger."""
    positive = [
        10.0 ** (power - 6) * (low + high) / 2
        for power in range(7)
        for low, high in pairwise(0.1 + 0.9 * step / 2**power for step in range(2**power + 1))
    ]
    return (*(-value for value in reversed(positive)), 0.0, *positive, 1.0)


def by_group(
    weight: Float[Tensor, "outputs inputs"], bits: int, group: int, *, symmetric: bool
) -> Float[Tensor, "outputs inputs"]:
    """Round in equal steps between the least and the largest weight of each group of inputs.

    Args:
        weight: A scale is of ``group`` neighbours of one row; the last ones may be fewer.
        bits: 2 to the power of it are the values that a weight can have.
        group: Neighbours that share a scale.
        symmetric: From minus the largest magnitude to the largest; else from the least to the
            largest, moved so that 0 is a step.
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    outputs, inputs = wide.shape
    groups = torch.nn.functional.pad(wide, (0, -inputs % group)).view(outputs, -1, group)
    if symmetric:
        most = 2 ** (bits - 1) - 1
        step = _but_zero(groups.abs().amax(-1, keepdim=True) / most)
        found = (groups / step).round().clamp(-most - 1, most) * step
    else:
        low = groups.amin(-1, keepdim=True).clamp(max=0)
        high = groups.amax(-1, keepdim=True).clamp(min=0)
        step = _but_zero((high - low) / (2**bits - 1))
        zero = (-low / step).round()
        found = (((groups / step).round() + zero).clamp(0, 2**bits - 1) - zero) * step
    return found.flatten(1)[:, :inputs]


def _but_zero(scale: Tensor) -> Tensor:
    """Return a scale to divide by: weights that are all 0 stay 0."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)
