"""Weights that may be sharded: what a worker holds of each, read from files, gathered and written.

No worker ever has a whole model: a file is read slice by slice, and written tensor by tensor.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from raymcu.models.causal_lm import local

_KINDS = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls types, in the order in which it writes tensors of several."""


Workers = distributed.ProcessGroup | None


class OtherNamesError(LookupError):
    """Files call weights otherwise than the model's modules do, or lack some."""


def whole(weight: Tensor) -> Tensor:
    """Return a whole weight on the CPU; collective if it is sharded."""
    held = weight.detach()
    return (held.full_tensor() if isinstance(held, DTensor) else held).cpu()


def like(weight: Tensor, full: Tensor) -> Tensor:
    """Return the part of a full tensor that lies where ``weight`` lies, as it is if it can."""
    if not isinstance(weight, DTensor):
        return full.to(weight.device)
    here = distribute_tensor(
        full.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )
    return here.to_local()


@torch.no_grad()
def fill(weights: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> None:
    """Overwrite weights with full tensors, or with sharded ones like them."""
    for name, weight in weights.items():
        new = content[name]
        part = local(new) if isinstance(new, DTensor) else like(weight, new)
        local(weight.detach()).copy_(part)


@torch.no_grad()
def fill_from(folder: Path, weights: Mapping[str, Tensor], twins: Mapping[str, str]) -> None:
    """Overwrite weights, or this worker's part of each, with what a folder's files have.

    Args:
        folder: With safetensors files.
        weights: By name, tied ones once.
        twins: Other names of tied weights, with those that ``weights`` knows them by.

    Raises:
        OtherNamesError: If a weight is not there by any of its names, or in another shape.
    """
    for name, part in own_parts(folder, weights, twins):
        local(weights[name].detach()).copy_(part)


def own_parts(
    folder: Path, weights: Mapping[str, Tensor], twins: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield what a folder's files have of this worker's part of each weight, as it lies there.

    Arguments and errors are those of `fill_from`.
    """
    where: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            where |= dict.fromkeys(tensors.keys(), file)
    others = defaultdict(list)
    for twin, source in twins.items():
        others[source].append(twin)
    wanted: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for name in weights:
        stored = next((one for one in (name, *others[name]) if one in where), None)
        if stored is None:
            raise OtherNamesError(f"{folder} has no weight called {name}")
        wanted[where[stored]].append((name, stored))
    for file, pairs in wanted.items():
        with safe_open(file, "pt") as tensors:
            for name, stored in pairs:
                weight, part = weights[name], tensors.get_slice(stored)
                if tuple(part.get_shape()) != tuple(weight.shape):
                    told = f"{tuple(part.get_shape())}, not {tuple(weight.shape)}"
                    raise OtherNamesError(f"{folder} has {name} in the shape {told}")
                if isinstance(weight, DTensor):
                    first, count = _rows(weight)
                    yield name, part[first : first + count]
                else:
                    yield name, tensors.get_tensor(stored)


def _rows(weight: DTensor) -> tuple[int, int]:
    """Return the first row that this worker holds of a weight, and how many it holds."""
    shape, offset = compute_local_shape_and_global_offset(
        weight.shape, weight.device_mesh, weight.placements
    )
    return offset[0], shape[0]


@dataclass(frozen=True)
class Kept:
    """A weight as it is to be written."""

    weight: Tensor
    """Whole or sharded by rows."""
    dtype: torch.dtype
    """It is written in."""
    added: Callable[[], Tensor] | None = None
    """Makes a whole float32 tensor on the CPU that is added to it before it is rounded; called by
    the worker that writes."""


def write_together(path: Path | None, weights: Mapping[str, Kept], group: Workers) -> None:
    """Write weights into one safetensors file, byte for byte what ``save_file`` writes of them.

    Workers hand what they hold to the one that writes, one shard of one weight at a time; no weight
    is ever whole. Collective: all workers call it with the same names.

    Args:
        path: Where to; None for all workers but the first.
        weights: By name.
        group: A torch.distributed group of all workers that moves tensors of CPUs.
    """
    kinds = list(_KINDS)
    order = sorted(weights, key=lambda name: (kinds.index(weights[name].dtype), name))
    if path is None:
        for name in order:
            for _, rows in _shards(weights[name].weight, group):
                assert rows is None  # noqa: S101 - only the first worker is handed any
        return
    with path.open("wb") as file:
        file.write(_header({name: weights[name] for name in order}))
        for name in order:
            one = weights[name]
            added = None if one.added is None else one.added()
            for first, rows in _shards(one.weight, group):
                assert rows is not None  # noqa: S101 - the first worker is handed all
                sum_ = rows if added is None else rows.float() + added[first : first + len(rows)]
                data = sum_.to(one.dtype).contiguous().flatten().view(torch.uint8)
                file.write(data.numpy().data)


def _header(weights: Mapping[str, Kept]) -> bytes:
    told: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, one in weights.items():
        size = one.weight.numel() * one.dtype.itemsize
        told[name] = {
            "dtype": _KINDS[one.dtype],
            "shape": list(one.weight.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _shards(weight: Tensor, group: Workers) -> Iterator[tuple[int, Tensor | None]]:
    """Yield the first row of each worker's part of a weight, and to the first worker the part."""
    rank = distributed.get_rank()
    held = local(weight.detach())
    if not isinstance(weight, DTensor):
        yield 0, held.cpu() if rank == 0 else None
        return
    shards = _holders(weight)
    each = -(-weight.shape[0] // len(shards))  # as FSDP2 cuts: like torch.chunk
    for place, holder in enumerate(shards):
        first = min(place * each, weight.shape[0])
        count = min(each, weight.shape[0] - first)
        if not count:
            continue
        if holder == rank:
            own = held.cpu().contiguous()
            if rank:
                distributed.send(own.flatten().view(torch.uint8), 0, group=group)
            yield first, None if rank else own
        elif rank == 0:
            rows = torch.empty((count, *weight.shape[1:]), dtype=held.dtype)
            distributed.recv(rows.flatten().view(torch.uint8), holder, group=group)
            yield first, rows


def _holders(weight: DTensor) -> list[int]:
    """Return the workers that hold a weight's rows, in their order, of replicas the first."""
    ranks = weight.device_mesh.mesh
    for dimension in reversed(range(ranks.ndim)):
        if not isinstance(weight.placements[dimension], Shard):
            ranks = ranks.select(dimension, 0)
    return [int(rank) for rank in ranks.flatten()]
