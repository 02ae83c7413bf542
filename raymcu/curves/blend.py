"""Writing a blend into a model in place.

An affine combination is elementwise, so sharded weights blend shard by shard: the caller hands in
local shards of every weight and of every source, and nothing is gathered.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from raymcu.errors import StoreError
from raymcu.models import UNREADABLE
from raymcu.plan import Blend


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Map a checkpoint's weights into memory by name.

    The pages are shared by all processes of a node and copied on write: treat them as read-only.

    Raises:
        StoreError: If a file is damaged.
    """
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            weights |= load_file(file)
        except UNREADABLE as error:
            raise StoreError(
                f"{file}: is damaged ({error}). Delete {folder} and run again to train it anew."
            ) from error
    if not weights:
        raise StoreError(f"{folder}: holds no .safetensors file. Delete it and run again.")
    return weights


@torch.no_grad()
def combine(out: Tensor, terms: Sequence[tuple[float, Tensor]]) -> None:
    """Write the affine combination of tensors into ``out``.

    A single term of coefficient 1 is copied bit for bit. Low-precision weights are added up in
    float32 at least. Integer tensors cannot be combined: the first term's is taken.
    """
    terms = [(c, tensor) for c, tensor in terms if c != 0]
    (c0, first), *others = terms
    if (c0 == 1 and not others) or not out.is_floating_point():
        out.copy_(first)
    elif out.dtype.itemsize < 4 or any(tensor.dtype != out.dtype for _, tensor in terms):
        wide = torch.promote_types(out.dtype, torch.float32)
        total = first.to(out.device, wide) * c0
        for c, tensor in others:
            total.add_(tensor.to(out.device, wide), alpha=c)
        out.copy_(total)
    else:
        torch.mul(first, c0, out=out)
        for c, tensor in others:
            out.add_(tensor, alpha=c)


def write_blend(
    weights: Mapping[str, Tensor], blend: Blend, sources: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write a blend into weights in place.

    Args:
        weights: By name, tied weights once (``named_parameters`` gives them so).
        blend: Which checkpoints with which coefficients.
        sources: Weights of each checkpoint, on the device of ``weights``.

    Raises:
        StoreError: If a checkpoint lacks a weight or has it in another shape.
    """
    for name, out in weights.items():
        terms = []
        for key, c in zip(blend.checkpoints, blend.coefficients_of(name), strict=True):
            tensor = sources[key].get(name)
            if tensor is None or tensor.shape != out.shape:
                found = "no such weight" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise StoreError(
                    f"checkpoint {key}: weight '{name}' should have shape {tuple(out.shape)}, "
                    f"found {found}. The checkpoints of one blend must share an architecture."
                )
            terms.append((c, tensor))
        combine(out.data, terms)
