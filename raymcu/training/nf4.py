"""A model's linear layers in 4 bits (NF4), which adapters are trained beside: QLoRA.

Dettmers et al. 2023, arXiv:2305.14314, section 3, without double quantization: 4 bits a weight, and
a float32 scale for 64 of them. The values are those of bitsandbytes, to the bit.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
        wide, short = held.float().flatten(), -held.numel() % BLOCK
        wide = (nn.functional.pad(wide, (0, short)) if short else wide).view(-1, BLOCK)
        scales = torch.linalg.vector_norm(wide, torch.inf, 1, keepdim=True)
        shares = wide * (1.0 / torch.where(scales == 0, torch.ones_like(scales), scales))
        del wide
        known = torch.tensor(NF4, device=held.device)
        bounds = (known[:-1] + known[1:]) / 2
        found = torch.bucketize(shares, bounds, out_int32=True).to(torch.uint8).flatten()
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
    for name in _linear_layers(model):  # of which one is held twice at a time
        model.set_submodule(name, Nf4Linear(model.get_submodule(name)))


@torch.no_grad()
def read_base(
    model: Any, parts: Iterable[tuple[str, Tensor]], twins: Mapping[str, str], device: torch.device
) -> None:
    """Give an empty model its weights, in place, as `quantize_base` leaves them.

    A linear layer goes into 4 bits as it is read: none but one is whole at a time.

    Args:
        model: Its parameters on the meta device, its buffers on the CPU.
        parts: Its weights by name, tied ones once.
        twins: Further names of tied weights, each with the one in ``parts``.
        device: Where it is to lie.
    """
    layers = set(_linear_layers(model))
    others = defaultdict(list)
    for twin, name in twins.items():
        others[name].append(twin)
    for name, part in parts:
        place, _, own = name.rpartition(".")
        module = model.get_submodule(place)
        held = getattr(module, own)
        if not held.is_meta:  # a buffer
            held.copy_(part)
            continue
        made = nn.Parameter(part.to(device, held.dtype), held.requires_grad)
        del part
        for one in (name, *others[name]):
            where, _, called = one.rpartition(".")
            model.get_submodule(where)._parameters[called] = made
        if place in layers and own == "weight":
            model.set_submodule(place, Nf4Linear(module))
        del made, module  # before the next is read
    model.to(device)


def _linear_layers(model: Any) -> list[str]:
    head = model.get_output_embeddings()
    embedded = {id(weight) for weight in model.get_input_embeddings().parameters()}
    return [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not head and id(module.weight) not in embedded
    ]


def made_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are held in 4 bits, made, by the names of a plain model's."""
    named = model.named_modules()
    return {f"{name}.weight": one.weight for name, one in named if isinstance(one, Nf4Linear)}
