"""Images of your own with their classes, from a folder of JSON lines or of a folder a class."""

from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Columns
from raymcu.benchmarks._own_classes import OwnClasses


@BENCHMARKS.register("image_classes", source="your own")
class ImageClasses(OwnClasses):
    """Anybody's images with their classes, from JSON lines or a folder for each class.

    A line is ``{"image": "a.png", "label": "…"}``, its path relative to the folder, which has
    ``train.jsonl`` and ``test.jsonl``, and may have ``validation.jsonl``, which then takes the
    place of rows held out. In place of a file there may be a folder (``train/``) with one folder
    of images for each class, which is named after it.
    """

    modality: ClassVar[str] = "image"
    columns: ClassVar[Columns] = Columns(image="image")
