"""TOFU, "A Task of Fictitious Unlearning for LLMs" (arXiv:2401.06121), from the hub or a folder.

4,000 questions about 200 fictitious authors, 20 each. Forget sets are the last 1, 5 and 10 per
cent of the rows, retain sets the rest; holdout sets are authors that were never trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example, Facts
from raymcu.benchmarks._files import local_folder
from raymcu.benchmarks._sets import FORGET_SIZES, PERTURBED, check_training_set, probed_set
from raymcu.benchmarks._tofu_folder import folder_facts, folder_refusals, folder_sets
from raymcu.benchmarks._tofu_hub import hub_set
from raymcu.benchmarks._tofu_rows import CONFIGS


@BENCHMARKS.register("tofu", source="arXiv:2401.06121")
class Tofu(Benchmark):
    """TOFU's fictitious authors, real authors and world facts."""

    path: str = "locuslab/TOFU"
    """A hub id, or a folder with one file per config (``full.jsonl``, ``full.parquet``,
    ``full/*.parquet`` or ``full.json``); relative to the current folder."""
    revision: str = "main"
    """Branch, tag or commit on the hub; a commit never changes. Not used for a folder."""

    forget_sizes: ClassVar[tuple[str, ...]] = FORGET_SIZES

    def facts(self) -> Facts:
        """Return fingerprint and sizes; for a hub id the published ones, without the network."""
        folder = self._folder()
        if folder is not None:
            return folder_facts(folder)
        sizes = {config: published.size for config, published in CONFIGS.items()}
        return Facts(f"{self.path}@{self.revision}", sizes)

    def training_set(self, name: str) -> Sequence[Example]:
        """Return the set of that name: questions and answers only."""
        check_training_set(name)
        return self._rows(name)

    def probe(self, name: str, forget_size: str) -> Sequence[Example]:
        """Return the probe; holdout rows have neither paraphrases nor wrong answers.

        The retain probe asks the first 20 authors, the same for every forget size. Real authors
        and world facts have three wrong answers and no paraphrase.
        """
        asked = probed_set(name, forget_size)
        return self._rows(asked if name == "holdout" else asked + PERTURBED)

    def refusals(self) -> Sequence[str]:
        """Return the lines of the folder's ``idontknow.jsonl``; without one, raymcu's own list."""
        folder = self._folder()
        return (folder_refusals(folder) if folder else ()) or super().refusals()

    def _rows(self, config: str) -> Sequence[Example]:
        folder = self._folder()
        if folder is None:
            return hub_set(self.path, config, self.revision)
        return folder_sets(folder)[config]

    def _folder(self) -> Path | None:
        return local_folder("tofu", self.path, "locuslab/TOFU")
