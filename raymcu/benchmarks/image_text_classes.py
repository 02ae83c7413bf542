"""Sentences of your own with images and their classes, from a folder of JSON lines."""

from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Columns
from raymcu.benchmarks._own_classes import OwnClasses


@BENCHMARKS.register("image_text_classes", source="your own")
class ImageTextClasses(OwnClasses):
    """Anybody's sentences with images and their classes, from JSON lines.

    A line is ``{"sentence": "…", "images": ["a.png"], "label": "…"}``. The folder has
    ``train.jsonl`` and ``test.jsonl``, and may have ``validation.jsonl``, which then takes the
    place of rows held out. Paths of images are relative to it; all rows have as many.
    """

    modality: ClassVar[str] = "image_text"
    columns: ClassVar[Columns] = Columns(text="sentence", images="images")
