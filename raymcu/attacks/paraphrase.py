"""The same question in other words, as the benchmark has them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raymcu.attacks._base import ATTACKS, Asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from raymcu.benchmarks._base import Example


@ATTACKS.register(
    "paraphrase", source="TOFU, Maini et al. 2024, arXiv:2401.06121 (its paraphrased questions)"
)
class Paraphrase(Asking):
    """Asks the benchmark's paraphrased question in place of the question, for every metric.

    An example without one keeps its question; a study none of whose probes has any is refused.
    Multiple choice and texts have none. ``measurement.paraphrased``, which asks a second time for
    the metrics ``*_perturb`` alone, stays what it is.
    """

    def faults(
        self, asked: Sequence[Example], sets: Mapping[str, Sequence[Example]]
    ) -> Iterator[str]:
        """Refuse probes without a paraphrased question."""
        del sets
        if all(example.paraphrased_question is None for example in asked):
            yield (
                f"none of the {len(asked)} questions has a paraphrased one. Leave the attack out, "
                "or give other forms of the questions to the attack 'reworded'"
            )

    def asked(
        self, example: Example, random: np.random.Generator, sets: Mapping[str, Sequence[Example]]
    ) -> Example:
        """Return the example with its other question, if it has one."""
        del random, sets
        other = example.paraphrased_question
        return example if other is None else replace(example, question=other)
