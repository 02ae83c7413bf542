"""NLVR2: whether a sentence is true of two photographs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Raw, Source
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import RANDOM_SETS, ClassBenchmark
from raymcu.benchmarks._files import file_rows, row_faults
from raymcu.benchmarks._targets import class_sets

_COLUMNS = ("identifier", "sentence", "label")
_IDENTIFIER = re.compile(r"(?P<split>train|dev|test1|test2)-\d+-\d+-\d+")
_REMEDY = "Download the file again."


@BENCHMARKS.register("nlvr2", source="arXiv:1811.00491; forgotten in MU-Bench (arXiv:2406.14796)")
class Nlvr2(ClassBenchmark):
    """NLVR2: is a sentence true of a pair of photographs?

    The folder has ``train.json`` (86,373 rows), ``dev.json``, which is the validation set (6,982),
    and ``test1.json`` (6,967), as published: JSON lines. The images, which their authors give out
    for research on request, lie in ``images/`` or beside the files: ``train/17/train-…-img0.png``
    by the row's ``directory``, ``dev/dev-…``, ``test1/test1-…``, or all in one folder.
    """

    path: str
    """The folder."""

    modality: ClassVar[str] = "image_text"
    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *class_sets(2))

    @property
    def class_names(self) -> tuple[str, ...]:
        """False and True."""
        return ("False", "True")

    def rows(self) -> Rows:
        """Return the rows.

        Raises:
            ConfigError: With every fault of the folder.
        """
        files = (("train", "train"), ("test", "test1"), ("validation", "dev"))
        return Source("nlvr2", self.path, files, _read, self.class_names, ".json", ()).load()[0]


def _read(folder: Path, files: Sequence[Path]) -> tuple[list[Raw], list[str]]:
    rows = file_rows(files[0], _REMEDY)
    if faults := [f"{files[0]}: {x}" for x in row_faults(rows, _faults, _COLUMNS, _REMEDY)]:
        return [], faults
    places: dict[tuple[str, str], Path] = {}
    made = []
    for row in rows:
        split, stem = row["identifier"].split("-")[0], row["identifier"].rpartition("-")[0]
        group = (split, str(row.get("directory", "")))
        names = [f"{stem}-img{number}.png" for number in range(2)]
        if group not in places:  # images of one group lie together: only the first is looked for
            places[group] = _place(folder, *group, names[0])
        images = tuple(places[group] / name for name in names)
        made.append(Raw(row["sentence"], str(row["label"]).capitalize(), images))
    return made, []


def _place(folder: Path, split: str, directory: str, name: str) -> Path:
    """Return the folder that has an image; where none has, the one that should."""
    below = [Path(split) / directory, Path(split), Path(directory), Path()]
    tried = [top / place for top in (folder / "images", folder) for place in below]
    return next((place for place in tried if (place / name).is_file()), tried[0])


def _faults(row: Any) -> Iterator[str]:
    if not isinstance(row, Mapping):
        yield "is not an object of columns and values"
        return
    lacking = [column for column in _COLUMNS if column not in row]
    yield from (f"column '{column}' is missing" for column in lacking)
    if not lacking and not _IDENTIFIER.fullmatch(str(row["identifier"])):
        yield "'identifier' is not split-set-pair-sentence, e.g. dev-17-0-1"
    if "sentence" in row and not isinstance(row["sentence"], str):
        yield "'sentence' is not a text"
