"""Fictitious authors made on the spot: TOFU's task without a download.

The same idea as TOFU (arXiv:2401.06121): nobody knows these authors unless trained on them, so a
model that never saw some of them is an exact reference for forgetting them. No sentence is TOFU's.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

from pydantic import Field

from raymcu.benchmarks._authors_facts import FACTS, Fact
from raymcu.benchmarks._authors_life import NUM_WRONG, Draw, Identity, Life
from raymcu.benchmarks._base import (
    BENCHMARKS,
    Benchmark,
    Example,
    Facts,
    SetFacts,
    fingerprint,
    set_facts,
)
from raymcu.benchmarks._common_knowledge import REAL_AUTHORS, WORLD_FACTS
from raymcu.benchmarks._sets import (
    FORGET_SIZES,
    OPTION_SETS,
    PERTURBED,
    TRAINING_SETS,
    check_training_set,
    probed_set,
)
from raymcu.errors import ConfigError

OPTIONAL = [fact for fact in FACTS if not fact.is_core]
KNOWLEDGE = {"real_authors": REAL_AUTHORS, "world_facts": WORLD_FACTS}
PROBED_RETAIN_PERCENT = 10
"""Share of the authors that the retain probe asks about, from the first on, as in TOFU."""


@BENCHMARKS.register("authors", source="arXiv:2401.06121, the task; own generator")
class Authors(Benchmark):
    """Questions about generated authors; nothing to download.

    ``full`` holds the authors in a fixed order; the forget sets are its last 1, 5 and 10 per cent
    of authors (rounded down), the retain sets the rest. Holdout sets hold other authors of the
    same generator, as many as the forget set of that size; the smaller begin the larger.
    """

    num_authors: int = Field(default=200, ge=10, le=1000)
    """Authors in ``full``; 20 give forget05 one author, 100 give forget01 one."""
    questions_per_author: int = Field(default=20, ge=20, le=len(FACTS))
    """Facts asked of each author, one question each."""
    seed: int = 0
    """Another seed, other authors."""

    forget_sizes: ClassVar[tuple[str, ...]] = FORGET_SIZES

    def facts(self) -> Facts:
        """Return fingerprint and sizes; sets too small for one author are left out."""
        return _facts(self)

    def training_set(self, name: str) -> Sequence[Example]:
        """Return the set of that name: questions and answers only."""
        check_training_set(name)
        return [Example(row.question, row.answer) for row in self._rows(name)]

    def probe(self, name: str, forget_size: str) -> Sequence[Example]:
        """Return the probe: five wrong answers each, three for real authors and world facts."""
        asked = probed_set(name, forget_size)
        self._num_authors_of(forget_size)
        return self._rows(asked)

    def _rows(self, name: str) -> Sequence[Example]:
        if name in KNOWLEDGE:
            return KNOWLEDGE[name]
        full, holdout = _generate(self.num_authors, self.questions_per_author, self.seed)
        if name == "full":
            return full
        if name == "retain":
            return full[: self.questions_per_author * _share(self.num_authors)]
        count = self.questions_per_author * self._num_authors_of(name)
        if name.startswith("forget"):
            return full[len(full) - count :]
        return full[:count] if name.startswith("retain") else holdout[:count]

    def _num_authors_of(self, name: str) -> int:
        """Return how many authors a forget, retain or holdout set has."""
        percent = int(name[-2:])
        is_retain = name.startswith("retain")
        forgotten = 100 - percent if is_retain else percent
        count = self.num_authors * forgotten // 100
        if count == 0:
            raise ConfigError(
                f"num_authors = {self.num_authors} leaves no author for '{name}' "
                f"({forgotten} % of the authors are forgotten). "
                f"Set num_authors to {-(-100 // forgotten)} or more, or forget a larger share."
            )
        return self.num_authors - count if is_retain else count


def _share(num_authors: int) -> int:
    return max(1, num_authors * PROBED_RETAIN_PERCENT // 100)


@lru_cache(maxsize=16)
def _facts(benchmark: Authors) -> Facts:
    sets: dict[str, SetFacts] = {}
    for name in TRAINING_SETS:
        try:
            sets[name] = set_facts(benchmark.training_set(name))
        except ConfigError:
            continue
    for name in sorted(sets):
        if name.startswith(("forget", "holdout")) or name in OPTION_SETS:
            sets[name + PERTURBED] = set_facts(benchmark._rows(name))
    sets["retain" + PERTURBED] = set_facts(benchmark._rows("retain"))
    full, holdout = _generate(benchmark.num_authors, benchmark.questions_per_author, benchmark.seed)
    content = fingerprint({"full": full, "holdout": holdout, **KNOWLEDGE})
    return Facts(content, sets)


@lru_cache(maxsize=4)
def _generate(
    num_authors: int, questions_per_author: int, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the examples of ``full`` and of the largest holdout set, author after author."""
    names: set[str] = set()
    titles: set[str] = set()
    parts = {"full": num_authors, "holdout": num_authors // 10}
    drawn = {
        part: [(draw, Identity.draw(draw, names)) for draw in _draws(f"{seed}/{part}", size)]
        for part, size in parts.items()
    }
    full, holdout = (
        tuple(
            example
            for draw, identity in people
            for example in _ask(draw, Life(draw, identity, names, titles), questions_per_author)
        )
        for people in drawn.values()
    )
    return full, holdout


def _draws(seed: str, count: int) -> Iterator[Draw]:
    return (Draw(f"{seed}/{index}") for index in range(count))


def _ask(draw: Draw, life: Life, num_questions: int) -> list[Example]:
    left_out = draw.some(OPTIONAL, len(FACTS) - num_questions)
    return [_example(draw, fact, life) for fact in FACTS if fact not in left_out]


def _example(draw: Draw, fact: Fact, life: Life) -> Example:
    """Ask one fact: question and paraphrase, answer and paraphrase, wrong paraphrases."""
    question, other_question = draw.some(fact.questions, 2)
    answer, other_answer = draw.some(fact.answers, 2)
    wrong = [
        other_answer.format_map(life.true | {slot: life.wrong[slot][index] for slot in fact.slots})
        for index in range(NUM_WRONG)
    ]
    return Example(
        question=question.format_map(life.true),
        answer=answer.format_map(life.true),
        paraphrased_question=other_question.format_map(life.true),
        paraphrased_answer=other_answer.format_map(life.true),
        perturbed_answers=tuple(wrong),
    )
