"""CIFAR-10 and CIFAR-100: from the hub, from its Parquet files, or from the binary version's.

The Python version is pickles and not opened. All orders are that of the five batches in turn.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raymcu.benchmarks._base import Classified, Facts, classified
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import HeldOutBenchmark
from raymcu.benchmarks._files import (
    Files,
    file_rows,
    files_of,
    hub_place,
    hub_rows,
    local_folder,
    stamped,
)
from raymcu.errors import ConfigError

_PIXELS = 32 * 32 * 3


@dataclass(frozen=True)
class Published:
    """Where a CIFAR is, and what its files look like."""

    told: str
    hub_id: str
    folders: tuple[str, ...]
    """Folders that may hold the files, below the one that is named."""
    binary: tuple[tuple[str, tuple[str, ...]], ...]
    """Split, and its files of the binary version."""
    labels: tuple[str, ...]
    """Columns of labels in the hub's files, in the order of the bytes before a binary image."""


class CifarBenchmark(HeldOutBenchmark):
    """Images of 32 x 32 pixels: 50,000 to learn, 10,000 to test, as many of each class."""

    path: str | None = None
    """Folder of the hub's Parquet files or of the binary version's; None loads from the hub."""
    revision: str = "main"
    """Revision on the hub."""

    modality: ClassVar[str] = "image"
    published: ClassVar[Published]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the label and, where that is of a superclass, of the class within."""
        return self.published.labels[-1:]

    def rows(self) -> Rows:
        """Return the images.

        Raises:
            ConfigError: With every fault of the folder, or if the hub cannot be reached.
        """
        folder = self._folder()
        if folder is None:
            return _hub(self.published, self.revision, self.columns)
        found = {split: _files(folder, self.published, split) for split in ("train", "test")}
        lacking = [_missing(folder, self.published, s) for s, files in found.items() if not files]
        if lacking:
            raise ConfigError(lacking)
        return _read(stamped(found), self.published, self.columns)

    def facts(self) -> Facts:
        """Return fingerprint and sizes; of the hub the published ones, without the network."""
        if self._folder() is not None:
            return super().facts()
        return _published_facts(type(self), self.model_dump_json())

    def made_up(self, number: int) -> Classified:
        """Return an input without content, of the classes in turn."""
        classes = len(self.file_classes)
        return Classified(number % classes, images=(None,), key=str(number))

    def _folder(self) -> Path | None:
        if self.path is None:
            return None
        return local_folder(self.published.told, self.path, None)


@lru_cache(maxsize=16)
def _published_facts(kind: type[CifarBenchmark], options: str) -> Facts:
    """Count made-up rows, as many of each class as there are; options decide the rest."""
    benchmark = kind.model_validate_json(options)
    blank = [benchmark.made_up(number) for number in range(60_000)]
    counted = benchmark.facts_of(Rows(blank[:50_000], blank[50_000:]))
    place = f"{benchmark.published.hub_id}@{benchmark.revision}"
    content = hashlib.sha256(f"{place}:{counted.fingerprint}".encode()).hexdigest()[:16]
    return Facts(f"{place}:{content}", counted.sets, place)


def _files(folder: Path, published: Published, split: str) -> list[Path]:
    """Return the files of a split, of Parquet's or the binary version."""
    for place in (folder, *(folder / name for name in published.folders)):
        parquet = [file for file in files_of(place, split) if file.suffix == ".parquet"]
        binary = [place / name for name in dict(published.binary)[split]]
        if parquet or all(file.is_file() for file in binary):
            return parquet or binary
    return []


def _missing(folder: Path, published: Published, split: str) -> str:
    names = dict(published.binary)[split]
    pickled = "cifar-100-python" if len(names) == 1 and split == "train" else "cifar-10-batches-py"
    is_pickled = (folder / "batches.meta").is_file() or (folder / pickled).is_dir()
    why = " What is there is the Python version, pickles, which are not opened." * is_pickled
    return (
        f"{folder}: the files of {split} are missing. Allowed are {split}.parquet, "
        f"{split}-*.parquet, or {' to '.join(dict.fromkeys((names[0], names[-1])))} of the binary "
        f"version.{why} Download them, or leave path out to load from the hub."
    )


@lru_cache(maxsize=2)
def _read(files: Files, published: Published, columns: tuple[str, ...]) -> Rows:
    made: dict[str, list[Classified]] = {"train": [], "test": []}
    faults: list[str] = []
    for split, parts in files:
        for path, _, _ in parts:
            try:
                made[split] += _file(Path(path), published, columns)
            except ConfigError as error:
                faults += error.faults
    if faults:
        raise ConfigError(faults)
    return Rows(made["train"], made["test"])


def _file(path: Path, published: Published, columns: tuple[str, ...]) -> list[Classified]:
    if path.suffix == ".parquet":
        return _images(file_rows(path, "Download it again."), columns, str(path))
    width = len(published.labels) + _PIXELS
    table = np.fromfile(path, np.uint8)
    if not len(table) or len(table) % width:
        raise ConfigError(
            f"{path}: has {len(table)} bytes, which is no multiple of the {width} that an image "
            f"with its label takes in the binary version of {published.told}. Download it again."
        )
    table = table.reshape(-1, width)
    labels = table[:, [published.labels.index(name) for name in columns]].tolist()
    planes = table[:, -_PIXELS:].reshape(-1, 3, 32, 32)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return [_row(of_row, image) for of_row, image in zip(labels, pixels, strict=True)]


def _row(labels: Sequence[int], pixels: np.ndarray) -> Classified:
    label, *subclass = labels
    return classified(label, images=(pixels,), subclass=subclass[0] if subclass else None)


@lru_cache(maxsize=2)
def _hub(published: Published, revision: str, columns: tuple[str, ...]) -> Rows:
    parts = []
    for split in ("train", "test"):
        rows = hub_rows(published.hub_id, None, split, revision)
        parts.append(_images(rows, columns, hub_place(published.hub_id, None, split, revision)))
    return Rows(*parts)


def _images(rows: Sequence[Any], columns: Sequence[str], where: str) -> list[Classified]:
    """Decode the hub's rows: an encoded image in ``img``, numbers of classes beside it."""
    found: list[Classified] = []
    wrong: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_row([row[name] for name in columns], _decoded(row["img"])))
        except (KeyError, TypeError, OSError, ValueError) as error:
            wrong.append(f"row {number} ({type(error).__name__}: {error})")
    if wrong:
        raise ConfigError(
            f"{where}: {len(wrong)} of its {len(rows)} rows are not read, e.g. {wrong[0]}. Allowed "
            f"are rows with the columns img (an encoded image) and {' and '.join(columns)}. "
            "Download it again."
        )
    return found


def _decoded(image: Any) -> np.ndarray:
    """Return the pixels of a hub's image: (32, 32, 3)."""
    from PIL import Image  # not for who plans with other benchmarks

    is_bytes = isinstance(image, Mapping)
    opened = Image.open(io.BytesIO(image["bytes"])) if is_bytes else image
    pixels = np.asarray(opened.convert("RGB"))
    if pixels.shape != (32, 32, 3):
        raise ValueError(f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels")
    return pixels
