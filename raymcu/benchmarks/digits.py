"""Handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels, 10 classes."""

from collections import Counter
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from raymcu.benchmarks._base import BENCHMARKS, Classified, classified
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import RANDOM_SETS
from raymcu.benchmarks._superclasses import GroupedBenchmark
from raymcu.benchmarks._targets import grouped_sets
from raymcu.errors import ConfigError

_FILE = "datasets/data/digits.csv.gz"


@BENCHMARKS.register("digits", source="scikit-learn's load_digits: UCI optdigits, its test part")
class Digits(GroupedBenchmark):
    """Real handwritten digits, 8 x 8 grey pixels; nothing to download.

    The fifth, tenth, … image of each class in the file's order are the test set (355), the others
    are to learn (1,442). Grey values, 0 to 16 in the file, are spread over 0 to 255.
    """

    modality: ClassVar[str] = "image"
    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *grouped_sets(10, 10))

    @property
    def file_classes(self) -> tuple[str, ...]:
        """The digits, 0 to 9."""
        return tuple("0123456789")

    def rows(self) -> Rows:
        """Return the images.

        Raises:
            ConfigError: If scikit-learn's file is missing.
        """
        return _read()


@lru_cache(maxsize=1)
def _read() -> Rows:
    # The file itself: importing sklearn.datasets takes two seconds.
    found = find_spec("sklearn")
    path = Path(*(found.submodule_search_locations or ())[:1]) / _FILE if found else None
    if path is None or not path.is_file():
        raise ConfigError(
            f"benchmark digits: {path or 'scikit-learn'} is missing. "
            "Install it: pip install scikit-learn"
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    pixels = (table[:, :-1].astype(np.uint16) * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    train: list[Classified] = []
    test: list[Classified] = []
    seen: Counter[int] = Counter()
    for image, label in zip(pixels, table[:, -1].tolist(), strict=True):
        seen[label] += 1
        part = test if seen[label] % 5 == 0 else train
        part.append(classified(label, images=(image,)))
    return Rows(train, test)
