"""What benchmarks of anybody's own inputs with classes share, whatever the inputs are."""

from typing import ClassVar

from pydantic import Field

from raymcu.benchmarks._class_files import Columns, Source
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import RANDOM_SETS
from raymcu.benchmarks._superclasses import GroupedBenchmark
from raymcu.benchmarks._targets import grouped_sets

_FILES = (("train", "train"), ("test", "test"), ("validation", "validation"))


class OwnClasses(GroupedBenchmark):
    """Inputs with their classes from a folder of ``train.jsonl``, ``test.jsonl`` and maybe more."""

    path: str
    """The folder."""
    classes: tuple[str, ...] = Field(default=(), max_length=100)
    """Names of the classes in the order of their numbers. None are those of the training rows,
    sorted. A label is such a name, or its number."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *grouped_sets(100, 100))
    columns: ClassVar[Columns]
    """What a row has."""

    @property
    def file_classes(self) -> tuple[str, ...]:
        """The names that are given, or found."""
        return self.classes or self._source().load()[1]

    def rows(self) -> Rows:
        """Return the rows.

        Raises:
            ConfigError: With every fault of the folder.
        """
        return self._source().load()[0]

    def _source(self) -> Source:
        has_folders = self.modality == "image"
        read = self.columns.read
        return Source(self.told, self.path, _FILES, read, self.classes, has_folders=has_folders)
