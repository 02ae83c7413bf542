"""Rows of classes from a folder of the user's: one file a split, read once, every fault told."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from raymcu.benchmarks._base import Classified, classified
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._files import Files, file_rows, files_of, missing, row_faults, stamped
from raymcu.benchmarks._image_files import SUFFIXES
from raymcu.errors import ConfigError


class Raw(NamedTuple):
    """A row as a file has it."""

    text: str
    label: str | int
    """Name of the class, or its number."""
    images: tuple[Path, ...] = ()


Read = Callable[[Path, Sequence[Path]], tuple[list[Raw], list[str]]]
"""From a folder and the files of a split to its rows and what is wrong with them."""


@dataclass(frozen=True)
class Source:
    """A folder with the files of a benchmark."""

    told: str
    """Name of the benchmark."""
    path: str
    """The folder, as the search space has it."""
    files: tuple[tuple[str, str], ...]
    """Split (train, test, validation) and name of its file, without ending."""
    read: Read
    classes: tuple[str, ...] = ()
    """Names in the order of their numbers; () takes those of the training rows, sorted."""
    suffix: str = ""
    """Ending of the files; "" takes JSON lines, Parquet or JSON."""
    optional: tuple[str, ...] = ("validation",)
    has_folders: bool = False
    """Whether in place of a split's file there may be a folder with one for each class."""

    def load(self) -> tuple[Rows, tuple[str, ...]]:
        """Return rows and class names; read again only if a file changed.

        Raises:
            ConfigError: With every fault of the folder.
        """
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"benchmark.path = '{self.path}': there is no such folder (looked in "
                f"{Path.cwd()}). Give the folder that holds the files of {self.told}."
            )
        found = {split: self._find(folder, name) for split, name in self.files}
        there = {split: files for split, files in found.items() if files}
        lacking = [
            self._missing(folder, name)
            for split, name in self.files
            if split not in there and split not in self.optional
        ]
        try:
            loaded = _load(stamped(there), self)
        except ConfigError as error:
            raise ConfigError(lacking + error.faults) from error
        if lacking:
            raise ConfigError(lacking)
        return loaded

    def _find(self, folder: Path, name: str) -> list[Path]:
        file = folder / f"{name}{self.suffix}"
        if self.suffix:
            return [file] if file.is_file() else []
        found = files_of(folder, name)
        if not found and self.has_folders and (folder / name).is_dir():
            there = (folder / name).iterdir()
            found = sorted(x for x in there if x.is_dir() and not x.name.startswith("."))
        return found

    def _missing(self, folder: Path, name: str) -> str:
        remedy = "Add the file, or correct benchmark.path."
        if self.suffix:
            return f"{folder / name}{self.suffix}: is missing. {remedy}"
        also = f" So is a folder {name}/ with a folder of images for each class." * self.has_folders
        return missing(folder, name, remedy) + also


@lru_cache(maxsize=2)
def _load(files: Files, source: Source) -> tuple[Rows, tuple[str, ...]]:
    folder = Path(source.path).expanduser()
    raw: dict[str, list[Raw]] = {}
    faults: list[str] = []
    for split, parts in files:
        try:
            raw[split], of_rows = source.read(folder, [Path(path) for path, _, _ in parts])
            faults += of_rows
        except ConfigError as error:
            faults += error.faults
    names = source.classes or _names(row.label for row in raw.get("train", ()))
    where = {split: parts[0][0] for split, parts in files}
    numbers = sorted({len(row.images) for rows in raw.values() for row in rows})
    if len(numbers) > 1:
        faults.append(
            f"{folder}: has rows of {numbers[0]} and of {numbers[-1]} images. A model takes as "
            "many of each. Leave out the rows that have more or less."
        )
    made: dict[str, Sequence[Classified]] = {}
    for split, rows in raw.items() if names else ():  # without training rows no name is known
        made[split], of_split = _classified(rows, names, where[split])
        faults += of_split
    if faults:
        raise ConfigError(faults)
    return Rows(*(made.get(split, ()) for split in ("train", "test", "validation"))), names


def _names(labels: Iterable[str | int]) -> tuple[str, ...]:
    """Sort the names that occur; numbers by their size."""
    there = set(labels)
    if all(isinstance(label, int) for label in there):
        return tuple(map(str, sorted(there)))
    return tuple(sorted(map(str, there)))


def _classified(
    rows: Sequence[Raw], names: Sequence[str], where: str
) -> tuple[list[Classified], list[str]]:
    number: Mapping[str, int] = {name: label for label, name in enumerate(names)}
    made, strange, lost = [], [], []
    for index, row in enumerate(rows, start=1):
        label = number.get(str(row.label))
        if label is None and isinstance(row.label, int) and 0 <= row.label < len(names):
            label = row.label
        if label is None:
            strange.append(f"row {index}: {row.label!r}")
            continue
        try:
            made.append(classified(label, row.text, row.images))
        except OSError:
            lost += [str(image) for image in row.images if not image.is_file()]
    faults = []
    if strange:
        known = ", ".join(map(repr, names[:8])) + ", …" * (len(names) > 8)
        faults.append(
            f"{where}: {len(strange)} of its rows have a label outside the classes, e.g. "
            f"{strange[0]}. The classes are {known}. Correct the rows, or set benchmark.classes."
        )
    if lost:
        faults.append(
            f"{where}: {len(lost)} of its image files are missing, e.g. {lost[0]}. Paths are "
            "relative to the benchmark's folder. Add the files, or take the rows out."
        )
    return made, faults


@dataclass(frozen=True)
class Columns:
    """What a row has beside its ``label``: reads JSON lines, a JSON list, or Parquet."""

    text: str | None = None
    """Column of the text."""
    image: str | None = None
    """Column of one path, relative to the folder."""
    images: str | None = None
    """Column of a list of such paths, or of one."""

    def read(self, folder: Path, files: Sequence[Path]) -> tuple[list[Raw], list[str]]:
        """Return the rows of a split and what is wrong with them, as `Read` has it."""
        if files[0].is_dir():
            return _of_folders(files)
        rows = [row for file in files for row in file_rows(file, "Correct the file.")]
        found = row_faults(rows, self._faults, self._names, "Correct the file.")
        if faults := [f"{files[0]}: {fault}" for fault in found]:
            return [], faults
        paths = self.image or self.images
        return [
            Raw(
                row[self.text] if self.text else "",
                row["label"],
                _paths(folder, row[paths]) if paths else (),
            )
            for row in rows
        ], []

    @property
    def _names(self) -> list[str]:
        return [name for name in (self.text, "label", self.image, self.images) if name]

    def _faults(self, row: Any) -> Iterator[str]:
        if not isinstance(row, Mapping):
            yield "is not an object of columns and values"
            return
        lacking = [column for column in self._names if column not in row]
        yield from (f"column '{column}' is missing" for column in lacking)
        if self.text in row and not isinstance(row[self.text], str):
            yield f"'{self.text}' is not a text"
        if "label" in row and (isinstance(row["label"], bool) or not _is_label(row["label"])):
            yield "'label' is neither the name of a class nor a number"
        if self.image in row and not (row[self.image] and isinstance(row[self.image], str)):
            yield f"'{self.image}' is not a path"
        if self.images in row and not _are_paths(row[self.images]):
            yield f"'{self.images}' is neither a path nor a list of paths"


def _of_folders(folders: Sequence[Path]) -> tuple[list[Raw], list[str]]:
    """Return the images of a folder for each class, in the order of their names."""
    are_numbers = all(folder.name == str(_number(folder.name)) for folder in folders)
    rows, strange = [], []
    for folder in folders:
        label = _number(folder.name) if are_numbers else folder.name
        for file in sorted(folder.iterdir()):
            if file.name.startswith("."):
                continue
            if file.suffix.lower() not in SUFFIXES:
                strange.append(str(file))
            rows.append(Raw("", label, (file,)))
    if not strange:
        return rows, []
    return [], [
        f"{folders[0].parent}: {len(strange)} of the files in it are no images, e.g. {strange[0]}. "
        f"Allowed are {', '.join(SUFFIXES)}. Take the others out."
    ]


def _number(name: str) -> int:
    return int(name) if name.isdecimal() and name.isascii() else -1


def _is_label(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and bool(value))


def _are_paths(value: Any) -> bool:
    given = [value] if isinstance(value, str) else value
    return isinstance(given, list) and bool(given) and all(isinstance(x, str) for x in given)


def _paths(folder: Path, value: str | list[str]) -> tuple[Path, ...]:
    return tuple(folder / path for path in ([value] if isinstance(value, str) else value))
