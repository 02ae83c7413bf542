"""Sentences of your own with images and their classes, from a folder of JSON lines."""

from typing import ClassVar

from pydantic import Field

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Source, json_reader
from raymcu.benchmarks._classes import HeldOutBenchmark, Rows

_READ = json_reader("sentence", has_images=True)


@BENCHMARKS.register("image_text_classes", source="your own")
class ImageTextClasses(HeldOutBenchmark):
    """Anybody's sentences with images and their classes, from JSON lines.

    A line is ``{"sentence": "…", "images": ["a.png"], "label": "…"}``. The folder has
    ``train.jsonl`` and ``test.jsonl``, and may have ``validation.jsonl``, which then takes the
    place of rows held out. Paths of images are relative to it; all rows have as many.
    """

    path: str
    """The folder."""
    classes: tuple[str, ...] = Field(default=(), max_length=100)
    """Names of the classes in the order of their numbers. None are those of the training rows,
    sorted. A label is such a name, or its number."""

    modality: ClassVar[str] = "image_text"

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
        return Source("image_text_classes", self.path, files, _READ, self.classes)
