"""Geometry of weights: how far, and which way, checkpoints lie from the original. No Ray.

Layer by layer, every weight is read once from every checkpoint, piece by piece; inner products of
all pairs come from that one reading. What they say of whole models is added up by `analysis`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import Tensor

from raymcu.errors import StoreError
from raymcu.models.causal_lm import UNREADABLE
from raymcu.store import tables

_ROOM = 1 << 24
"""Numbers in float64 that are held of all checkpoints together: 128 MiB."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Weights:
    """The weights in a checkpoint's folder, in one file or several, read as they are asked for.

    Statistics of batch normalisation, and what is no floating-point number, are no weights.

    Raises:
        StoreError: If a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with _readable(self.folder):
                file: Any = safe_open(path, "pt")
                self._files |= dict.fromkeys(file.keys(), file)
        if not self._files:
            raise StoreError(f"{folder}: holds no .safetensors file. Delete it and run again.")

    @property
    def names(self) -> list[str]:
        """Names of the weights, sorted."""
        return sorted(
            name
            for name, file in self._files.items()
            if name.rpartition(".")[2] not in _STATISTICS
            and file.get_slice(name).get_dtype() in ("F64", "F32", "F16", "BF16")
        )

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a weight; None if there is no such weight."""
        file = self._files.get(name)
        return tuple(file.get_slice(name).get_shape()) if file is not None else None

    def read(self, name: str, axis: int, piece: slice) -> Tensor:
        """Read a piece of a weight along an axis, 0 or 1, from the disk."""
        with _readable(self.folder):
            if not self.shape(name):
                whole: Tensor = self._files[name].get_tensor(name)
                return whole
            part: Tensor = self._files[name].get_slice(name)[(slice(None),) * axis + (piece,)]
            return part


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Say of an error in the block which folder is damaged."""
    try:
        yield
    except UNREADABLE as error:
        raise StoreError(
            f"{folder}: is damaged ({error}). Delete it and run again to train it anew."
        ) from error


def layer_of(name: str) -> str:
    """Return the layer that a weight is of: what its name has up to its first number.

    ``model.layers.3.mlp.down_proj.weight`` is of ``model.layers.3``; a weight whose name has no
    number is of its module.
    """
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    return numbered[0] if numbered else name.rpartition(".")[0] or name


@dataclass(frozen=True)
class Sums:
    """What one layer says of n checkpoints' directions, theta - theta_o."""

    num_weights: int
    original: float
    """Squared norm of the original's weights."""
    products: Tensor
    """(n, n) inner products, float64."""
    moved: Tensor
    """(n, n) weights that both have moved, float64; on the diagonal those that one has."""
    agreeing: Tensor
    """(n, n) of these, weights that both have moved the same way."""
    ranks: tuple[float | None, ...]
    """Effective rank of each update: mean over the layer's matrices that moved; None if none."""
    full_ranks: tuple[float | None, ...]
    """The most it could be."""


def add_up(original: Weights, others: Sequence[Weights], layer: str, device: torch.device) -> Sums:
    """Read a layer of the original and of n checkpoints once, and add up what is asked of them.

    The effective rank of an update D with singular values s is (sum s²)² / sum s⁴, the number of
    equal directions that would spread it as much (Bartlett et al. 2020, arXiv:1906.11300, R of
    D'D). It is taken of matrices and of convolutions, which map from all inputs of a patch.

    Raises:
        StoreError: If a checkpoint lacks a weight or has it in another shape, or is damaged.
    """
    names = [name for name in original.names if layer_of(name) == layer]
    count = len(others)
    products, moved, agreeing = torch.zeros(3, count, count, dtype=torch.float64, device=device)
    num_weights, squared = 0, 0.0
    ranks: list[list[float]] = [[] for _ in others]
    full: list[list[float]] = [[] for _ in others]
    for name in names:
        shape = _common_shape(name, original, others)
        spread = _Spread(shape, count, device)
        for base, updates in _pieces(name, shape, original, others, device):
            num_weights += base.numel()
            squared += float(base.square().sum())
            flat = updates.reshape(count, -1)
            products += flat @ flat.T
            signs = flat.sign().float()  # counts below 2^24 are exact
            both, same = signs.abs() @ signs.abs().T, signs @ signs.T
            moved += both
            agreeing += (both + same) / 2
            spread.add(updates)
        for number, rank in enumerate(spread.ranks()):
            if rank is not None:
                ranks[number].append(rank)
                full[number].append(float(spread.full))
    return Sums(num_weights, squared, products.cpu(), moved.cpu(), agreeing.cpu(),
                tuple(map(_mean, ranks)), tuple(map(_mean, full)))  # fmt: skip


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _common_shape(name: str, original: Weights, others: Sequence[Weights]) -> tuple[int, ...]:
    shape = original.shape(name) or ()
    for other in others:
        if (found := other.shape(name)) != shape:
            has = "no such weight" if found is None else f"shape {found}"
            raise StoreError(
                f"{other.folder}: weight '{name}' should have shape {shape}, found {has}. "
                "Checkpoints that are compared must share an architecture."
            )
    return shape


def _long_axis(shape: tuple[int, ...]) -> int:
    """Return the axis to cut along: the other side's products are then whole in every piece."""
    return int(len(shape) in (2, 4) and shape[0] < shape[1] * _size(shape[2:]))


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _pieces(
    name: str,
    shape: tuple[int, ...],
    original: Weights,
    others: Sequence[Weights],
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pieces of a weight in float64: the original's, and (n, ...) what others moved it by."""
    axis = _long_axis(shape)
    length = shape[axis] if shape else 1
    step = max(1, _ROOM * length // (max(1, _size(shape)) * (len(others) + 1)))
    for start in range(0, length, step):
        piece = slice(start, min(start + step, length))
        base = original.read(name, axis, piece).to(device, torch.float64)
        updates = torch.empty(len(others), *base.shape, dtype=torch.float64, device=device)
        for row, other in zip(updates, others, strict=True):
            row.copy_(other.read(name, axis, piece)).sub_(base)
        yield base, updates


class _Spread:
    """Adds up the products of an update's rows, or columns, of which there are fewer."""

    def __init__(self, shape: tuple[int, ...], count: int, device: torch.device) -> None:
        self.is_matrix = len(shape) in (2, 4)
        self.axis = _long_axis(shape)
        self.full = min(shape[0], _size(shape[1:])) if self.is_matrix else 0
        self._held = torch.zeros(count, self.full, self.full, dtype=torch.float64, device=device)

    def add(self, updates: Tensor) -> None:
        if self.is_matrix:
            matrices = updates.flatten(2)  # cut along rows, or along columns
            turned = matrices.mT @ matrices if self.axis == 0 else matrices @ matrices.mT
            self._held += turned

    def ranks(self) -> list[float | None]:
        if not self.is_matrix:
            return [None] * len(self._held)
        sums = self._held.diagonal(dim1=1, dim2=2).sum(1)
        fourth = self._held.square().sum((1, 2))
        pairs = zip(sums.tolist(), fourth.tolist(), strict=True)
        return [total**2 / spread if spread > 0 else None for total, spread in pairs]


def geometry_rows(layer: str, labels: Sequence[tuple[str, str]], sums: Sums) -> pa.Table:
    """Return rows of table ``geometry`` of one layer: an update each, and every pair.

    Args:
        layer: Its name.
        labels: Id and label of each checkpoint, in the order of the sums.
        sums: What was read.
    """
    rows: list[dict[str, Any]] = []
    products, moved, agreeing = (x.tolist() for x in (sums.products, sums.moved, sums.agreeing))
    for i, (key, label) in enumerate(labels):
        common = {"layer": layer, "first_id": key, "first": label, "num_weights": sums.num_weights}
        rows.append(
            {**common, "kind": "update", "norm": products[i][i] ** 0.5,
             "original_norm": sums.original**0.5, "num_moved": round(moved[i][i]),
             "changed": moved[i][i] / sums.num_weights, "effective_rank": sums.ranks[i],
             "full_rank": sums.full_ranks[i]}
        )  # fmt: skip
        rows += [
            {**common, "kind": "pair", "second_id": other, "second": name,
             "inner_product": products[i][j], "num_moved": round(moved[i][j]),
             "cosine": _ratio(products[i][j], (products[i][i] * products[j][j]) ** 0.5),
             "num_agreeing": round(agreeing[i][j]),
             "sign_agreement": _ratio(agreeing[i][j], moved[i][j])}
            for j, (other, name) in enumerate(labels[:i])
        ]  # fmt: skip
    return tables.from_rows("geometry", rows)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def measure_layer(
    local_dir: Callable[[str], Path],
    original: str,
    labels: Sequence[tuple[str, str]],
    layer: str,
    device: torch.device,
) -> pa.Table:
    """Read a layer of checkpoints; return its rows of table ``geometry``.

    Args:
        local_dir: Gives a checkpoint's folder.
        original: Id of the checkpoint that all directions begin at.
        labels: Id and label of each other checkpoint.
        layer: As `layer_of` names it.
        device: Where to compute.
    """
    others = [Weights(local_dir(key)) for key, _ in labels]
    sums = add_up(Weights(local_dir(original)), others, layer, device)
    return geometry_rows(layer, labels, sums)
