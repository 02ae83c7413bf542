"""Examples in front of a question: retained facts, or the forgotten ones themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from raymcu.attacks._base import ATTACKS, Asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raymcu.benchmarks._base import Example


@ATTACKS.register(
    "in_context",
    source="RWKU, Jin et al. 2024, arXiv:2406.10890 (in-context learning); Lynch et al. 2024, "
    "arXiv:2402.16835",
)
class InContext(Asking):
    """Shows the model questions with their answers before it is asked.

    They are worded as in the plain template and stand in front of those that the benchmark has
    itself; with a chat template all of it is one turn of the user. The same k of the set, drawn
    by the seed, stand in front of every question, so a pass shares them; where the one that is
    asked is among them the next takes its place. Done to questions; multiple choice and texts are
    asked as ever. A benchmark whose sets are plain texts has no such examples.
    """

    k: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (5,)
    """Numbers of examples, each a point of its own; 0 is the point as it is."""
    examples: Literal["retain", "forget"] = "retain"
    """Which set they are from: what is kept, or what was to be forgotten."""
    tells: bool = False
    """Whether the last example is the asked question itself with its answer: what can a model do
    that is told? For every probe."""
    seed: NonNegativeInt = 0
    """Draws the examples."""

    strength: ClassVar[str | None] = "k"
    none: ClassVar[float | None] = 0
    reads: ClassVar[tuple[str, ...]] = ("forget", "retain")

    def faults(
        self, asked: Sequence[Example], sets: Mapping[str, Sequence[Example]]
    ) -> Iterator[str]:
        """Refuse sets of plain texts, and more examples than there are."""
        del asked
        there = [example for example in sets[self.examples] if example.question]
        own = 0 if self.tells else 1  # the one that is asked may be among them
        most = len(there) - own + self.tells
        if not there:
            yield (
                f"the {self.examples} set holds plain texts, no questions to show with their "
                "answers. Leave the attack out"
            )
        elif max(self.k) > most:
            yield f"k = {max(self.k)} is more than the {most} examples of the {self.examples} set"

    def asked(
        self, example: Example, random: np.random.Generator, sets: Mapping[str, Sequence[Example]]
    ) -> Example:
        """Return the example with others in front."""
        del random
        (k,) = self.k
        others = sets[self.examples]
        order = np.random.default_rng(self.seed).permutation(len(others))[: k + 1]
        drawn = [others[n] for n in order if others[n].key != example.key]
        shown = [*drawn[: k - self.tells], example] if self.tells and k else drawn[:k]
        context = "".join(f"Question: {one.question}\nAnswer: {one.answer}\n\n" for one in shown)
        return replace(example, context=context + example.context)
