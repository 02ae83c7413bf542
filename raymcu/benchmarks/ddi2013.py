"""Interactions of drugs, DDI-2013, as BLURB splits it and MU-Bench unlearns it."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._class_files import Raw, Source
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import RANDOM_SETS, ClassBenchmark
from raymcu.benchmarks._targets import class_sets

CLASSES = ("DDI-false", "DDI-mechanism", "DDI-advise", "DDI-effect", "DDI-int")
"""In the order of MU-Bench's numbers."""


@BENCHMARKS.register(
    "ddi2013", source="DDI-2013 by BLURB (arXiv:2007.15779) and MU-Bench (arXiv:2406.14796)"
)
class DDI2013(ClassBenchmark):
    """Sentences on two drugs, written @DRUG$: whether and how they interact.

    The folder has ``train.tsv``, ``dev.tsv``, which is the validation set, and ``test.tsv``, with
    columns id, text and label; BLURB's have 25,296, 2,496 and 5,716 rows. The corpus is given out
    by its authors for research; it is not downloaded.
    """

    path: str
    """The folder."""

    modality: ClassVar[str] = "text"
    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *class_sets(len(CLASSES)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """No interaction, and four kinds."""
        return CLASSES

    def rows(self) -> Rows:
        """Return the rows.

        Raises:
            ConfigError: With every fault of the folder.
        """
        files = (("train", "train"), ("test", "test"), ("validation", "dev"))
        return Source("ddi2013", self.path, files, _read, CLASSES, ".tsv", ()).load()[0]


def _read(folder: Path, files: Sequence[Path]) -> tuple[list[Raw], list[str]]:
    del folder
    rows: list[Raw] = []
    wrong: list[tuple[int, int]] = []
    try:
        lines = files[0].read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"{files[0]}: cannot be read ({error}). Correct the file."]
    for number, line in enumerate(lines, start=1):
        columns = line.rstrip("\r").split("\t")
        is_head = number == 1 and columns[-1] == "label"
        if len(columns) != 3 and line.strip():
            wrong.append((number, len(columns)))
        elif line.strip() and not is_head:
            rows.append(Raw(columns[1], columns[2]))
    if not wrong:
        return rows, []
    number, count = wrong[0]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return [], [
        f"{files[0]}: line {number}{more} has {count} columns between tabs. Allowed are three: id, "
        "text, label. Correct the file."
    ]
