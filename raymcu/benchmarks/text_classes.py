"""Texts of your own with their classes, from a folder of JSON lines."""

from typing import ClassVar

from pydantic import Field

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Source, json_reader
from raymcu.benchmarks._classes import HeldOutBenchmark, Rows

_READ = json_reader("text")


@BENCHMARKS.register("text_classes", source="your own")
class TextClasses(HeldOutBenchmark):
    """Anybody's texts with their classes, from JSON lines.

    A line is ``{"text": "…", "label": "…"}``. The folder has ``train.jsonl`` and ``test.jsonl``,
    and may have ``validation.jsonl``, which then takes the place of rows held out. Parquet and JSON
    lists are read, too.
    """

    path: str
    """The folder."""
    classes: tuple[str, ...] = Field(default=(), max_length=100)
    """Names of the classes in the order of their numbers. None are those of the training rows,
    sorted. A label is such a name, or its number."""

    modality: ClassVar[str] = "text"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names that are given, or found."""
        return self.classes or self._source().load()[1]

    def rows(self) -> Rows:
        """Return the rows.

        Raises:
            ConfigError: With every fault of the folder.
        """
        return self._source().load()[0]

    def _source(self) -> Source:
        files = (("train", "train"), ("test", "test"), ("validation", "validation"))
        return Source("text_classes", self.path, files, _READ, self.classes)
