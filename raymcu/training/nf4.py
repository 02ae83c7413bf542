"""A model's linear layers in 4 bits (NF4), which adapters are trained beside: QLoRA.

Dettmers et al. 2023, arXiv:2305.14314, section 3, without double quantization: 4 bits a weight, and
a float32 scale for 64 of them. The values are those of bitsandbytes, to the bit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from raymcu.attacks.quantize import NF4

BLOCK = 64
"""Weights that share a scale."""


class Nf4Linear(nn.Linear):
    """A linear layer whose weight is made of 4 bits where it is used, and dropped again.

    Its gradient reaches what it is given, never the weight.
    """

    bias: nn.Parameter | None  # type: ignore[assignment]
    codes: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        held = linear.weight.detach()
        self.dtype, self.shape = held.dtype, held.shape
        wide = nn.functional.pad(held.float().flatten(), (0, -held.numel() % BLOCK)).view(-1, BLOCK)
        scales = wide.abs().amax(1, keepdim=True)
        known = torch.tensor(NF4, device=held.device)
        shares = wide * (1.0 / torch.where(scales == 0, torch.ones_like(scales), scales))
        found = torch.bucketize(shares, (known[:-1] + known[1:]) / 2).to(torch.uint8).flatten()
        self.register_buffer("codes", found[::2] << 4 | found[1::2], persistent=False)
        self.register_buffer("scales", scales[:, 0], persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight, in float32: what is computed with, but for its precision."""
        known = torch.tensor(NF4, device=self.codes.device)
        codes = torch.stack((self.codes >> 4, self.codes & 15), -1).view(-1, BLOCK)
        made: Tensor = known[codes.int()] * self.scales[:, None]
        return made.flatten()[: self.shape.numel()].view(self.shape)

    def forward(self, given: Tensor) -> Tensor:
        """Return the product with the weight, in the precision that the weight had."""
        make: Any = _Product.apply
        made: Tensor = make(given.to(self.dtype), self)
        return made if self.bias is None else made + self.bias


class _Product(torch.autograd.Function):
    """A product with a weight that is made twice, and kept never."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: Nf4Linear) -> Tensor:
        ctx.layer = layer
        return given @ layer.weight.to(layer.dtype).T

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (slope,) = slopes
        return slope @ ctx.layer.weight.to(ctx.layer.dtype), None


def quantize_base(model: Any) -> None:
    """Hold a model's linear layers in 4 bits, in place: all but its head, as bitsandbytes does."""
    head = model.get_output_embeddings()
    embedded = {id(weight) for weight in model.get_input_embeddings().parameters()}
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not head and id(module.weight) not in embedded
    ]
    for name in names:  # of which one is held twice at a time
        model.set_submodule(name, Nf4Linear(model.get_submodule(name)))


def made_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are held in 4 bits, made, by the names of a plain model's."""
    named = model.named_modules()
    return {f"{name}.weight": one.weight for name, one in named if isinstance(one, Nf4Linear)}
