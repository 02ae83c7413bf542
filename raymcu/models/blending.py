"""Writing a blend into a model in place.

An affine combination is elementwise, so sharded weights blend shard by shard: the caller hands in
local shards of every weight and of every source, and nothing is gathered.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from raymcu.blend import Blend
from raymcu.errors import StoreError
from raymcu.models.causal_lm import UNREADABLE

_PIECE = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Bytes of float32 added up at once: on a CPU what its second-level cache holds besides a source,
on a GPU what may be taken for sums of low precision."""
_NEAR_0 = 0.1


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
def combine(out: Tensor, terms: Sequence[tuple[float, Tensor]], *, fast: bool = False) -> None:
    """Write the affine combination of tensors into ``out``.

    A single term of coefficient 1 is copied bit for bit. Low-precision weights are added up in
    float32 at least. Integer tensors cannot be combined: the first term's is taken. Nothing of the
    size of a weight is allocated: on a CPU the sum is done piece by piece while a piece of ``out``
    is in the cache, so each weight is read from memory once and written once.

    Args:
        out: Where to write.
        terms: Coefficients, which add up to 1, and tensors.
        fast: Go from tensor to tensor, one operation less than a sum. It rounds otherwise, so
            what is trained is not made in this way: same recipe, same bits.
    """
    terms = [(c, tensor) for c, tensor in terms if c != 0]
    coefficients, tensors = [c for c, _ in terms], [tensor for _, tensor in terms]
    if coefficients == [1] or not out.is_floating_point():
        out.copy_(tensors[0])
        return
    sums = list(accumulate(coefficients))[1:]
    is_plain = out.dtype == torch.float32 and all(t.dtype == torch.float32 for t in tensors)
    # A sum near 0 on the way would blow up what is there so far.
    way = _go if fast and is_plain and min(map(abs, sums), default=1) > _NEAR_0 else _add_up
    size = _PIECE["cpu" if out.device.type == "cpu" else "cuda"] * out.dtype.itemsize // 16
    if all(tensor.is_contiguous() for tensor in (out, *tensors)):
        flat = [tensor.view(-1) for tensor in (out, *tensors)]
        for start in range(0, out.numel(), size):
            piece, *parts = (tensor[start : start + size] for tensor in flat)
            way(piece, coefficients, parts)
    else:
        way(out, coefficients, tensors)


def _go(out: Tensor, coefficients: Sequence[float], tensors: Sequence[Tensor]) -> None:
    reached, here = coefficients[0], tensors[0]
    for c, tensor in zip(coefficients[1:], tensors[1:], strict=True):
        reached += c
        torch.lerp(here, tensor, c / reached, out=out)
        here = out


def _add_up(out: Tensor, coefficients: Sequence[float], tensors: Sequence[Tensor]) -> None:
    wide = torch.promote_types(out.dtype, torch.float32)
    if wide == out.dtype and all(tensor.dtype == wide for tensor in tensors):
        torch.mul(tensors[0], coefficients[0], out=out)
        for c, tensor in zip(coefficients[1:], tensors[1:], strict=True):
            out.add_(tensor, alpha=c)
        return
    total, part = (torch.empty_like(out, dtype=wide) for _ in range(2))
    total.copy_(tensors[0]).mul_(coefficients[0])
    for c, tensor in zip(coefficients[1:], tensors[1:], strict=True):
        total.add_(part.copy_(tensor), alpha=c)  # adding two types at once is slower
    out.copy_(total)


def write_blend(
    weights: Mapping[str, Tensor], blend: Blend, sources: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write a blend into weights in place, one weight after the other.

    Sources may lie elsewhere than the weights: they are brought a weight at a time, on a GPU the
    next one while the last is added up, so no more of them is held there than two weights' worth.

    Args:
        weights: By name, tied weights once (``named_parameters`` gives them so).
        blend: Which checkpoints with which coefficients.
        sources: Weights of each checkpoint.

    Raises:
        StoreError: If a checkpoint lacks a weight or has it in another shape, or no weight belongs
            to a layer that the blend names.
    """
    for prefix in blend.layers:
        if not any(name.startswith(prefix) for name in weights):
            raise StoreError(
                f"layer '{prefix}': the model has no weight of such a name. Its first is "
                f"'{next(iter(weights))}'."
            )
    wanted = [(out.data, _terms(name, out, blend, sources)) for name, out in weights.items()]
    for out, terms in _brought(wanted):
        combine(out, terms, fast=True)


Terms = list[tuple[float, Tensor]]


def _terms(
    name: str, out: Tensor, blend: Blend, sources: Mapping[str, Mapping[str, Tensor]]
) -> Terms:
    terms = []
    for key, c in zip(blend.checkpoints, blend.coefficients_of(name), strict=True):
        tensor = sources[key].get(name)
        if tensor is None or tensor.shape != out.shape:
            found = "no such weight" if tensor is None else f"shape {tuple(tensor.shape)}"
            raise StoreError(
                f"checkpoint {key}: weight '{name}' should have shape {tuple(out.shape)}, "
                f"found {found}. The checkpoints of one blend must share an architecture."
            )
        if c != 0:
            terms.append((c, tensor))
    return terms


def _brought(wanted: Sequence[tuple[Tensor, Terms]]) -> Iterator[tuple[Tensor, Terms]]:
    """Yield each weight with its terms on its device, the next one's already on their way."""
    streams: dict[torch.device, torch.cuda.Stream] = {}
    ahead: tuple[Tensor, Terms] | None = None
    for out, terms in wanted:
        coming = out, _sent(terms, out.device, streams)
        if ahead is not None:
            yield _arrived(*ahead, streams)
        ahead = coming
    if ahead is not None:
        yield _arrived(*ahead, streams)


def _sent(
    terms: Terms, device: torch.device, streams: dict[torch.device, torch.cuda.Stream]
) -> Terms:
    if device.type != "cuda":
        return [(c, tensor.to(device)) for c, tensor in terms]
    if all(tensor.device == device for _, tensor in terms):
        return terms
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream = streams[device]
    with torch.cuda.stream(stream):
        # Pinned on the way, as only copies from pinned memory run beside the computation.
        return [
            (c, tensor if tensor.is_cuda else tensor.pin_memory().to(device, non_blocking=True))
            for c, tensor in terms
        ]


def _arrived(
    out: Tensor, terms: Terms, streams: Mapping[torch.device, torch.cuda.Stream]
) -> tuple[Tensor, Terms]:
    if out.device in streams:
        now = torch.cuda.current_stream(out.device)
        now.wait_stream(streams[out.device])
        for _, tensor in terms:
            tensor.record_stream(now)
    return out, terms
