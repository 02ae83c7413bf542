"""Texts of your own with their classes, from a folder of JSON lines."""

from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Columns
from raymcu.benchmarks._own_classes import OwnClasses


@BENCHMARKS.register("text_classes", source="your own")
class TextClasses(OwnClasses):
    """Anybody's texts with their classes, from JSON lines.

    A line is ``{"text": "…", "label": "…"}``. The folder has ``train.jsonl`` and ``test.jsonl``,
    and may have ``validation.jsonl``, which then takes the place of rows held out. Parquet and JSON
    lists are read, too.
    """

    modality: ClassVar[str] = "text"
    columns: ClassVar[Columns] = Columns(text="text")
