"""The sequences behind the parts of a step: which answer goes with which question, and when.

Every choice follows from (seed, epoch, question), so a training resumes at any step, and workers
that share it agree, without saved state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from raymcu.benchmarks._base import Example
from raymcu.errors import WorkError
from raymcu.methods._base import Part
from raymcu.models.encoding import Encoded, Encoder
from raymcu.study.training_tables import Augmentation

_REFUSALS, _MISMATCHED, _SAMPLED, _CLASSES, _AUGMENTED = range(
    10, 15
)  # random streams besides those of `data`


@dataclass(frozen=True)
class Rows:
    """A set of sequences to train on."""

    encoded: Sequence[Encoded]
    questions: Sequence[str] = ()
    """In the same order; empty for plain text, which can have no other answers."""
    answers: Sequence[str] = ()

    @classmethod
    def of(cls, encoded: Sequence[Any], examples: Sequence[Any]) -> "Rows":
        """Return a set with the questions and answers it is made of; only questions have them."""
        if not (examples and isinstance(examples[0], Example) and examples[0].question):
            return cls(tuple(encoded))
        return cls(
            tuple(encoded), tuple(x.question for x in examples), tuple(x.answer for x in examples)
        )


@dataclass
class Material:
    """The forget and retain set of a training, with whatever other answers its methods use."""

    encoder: Encoder
    forget: Rows
    retain: Rows
    refusals: Sequence[str] = ()
    seed: int = 0
    num_classes: int = 0
    """Of a classifier; 0 for a causal LM."""
    augmentation: Augmentation | None = None
    """What a step does to images; None shows them as they are."""
    sampled: dict[Part, Mapping[int, Sequence[Encoded]]] = field(default_factory=dict)
    """What the start model said, by part and question; filled in before training."""

    def __post_init__(self) -> None:
        self._encode = lru_cache(maxsize=2**16)(self.encoder.encode)

    def rows(self, part: Part) -> Rows:
        """Return the set whose questions a part asks."""
        return self.forget if part.questions == "forget" else self.retain

    def sequences(self, part: Part, row: int, epoch: int) -> list[Encoded]:
        """Return the ``part.count`` sequences of one question.

        Raises:
            WorkError: If the set is plain text, which has no question to answer otherwise.
        """
        rows = self.rows(part)
        if part.answers == "true":
            return [rows.encoded[row]]
        if self.num_classes:
            return self._relabelled(part, row, epoch)
        if not rows.questions or (part.answers == "mismatched" and not self.retain.answers):
            name = "retain" if rows.questions else part.questions
            raise WorkError(
                "no_questions",
                f"the {name} set is plain text, and the method wants {part.answers} "
                "answers to its questions. Use a method that needs none (raymcu list methods).",
            )
        when = epoch if part.redraw else 0
        if part.answers == "sampled":
            pool = self.sampled[part][row]
            picked = self._random(_SAMPLED, when, row).permutation(len(pool))[: part.count]
            return [pool[i] for i in picked]
        if part.answers == "refusal":
            random, texts = self._random(_REFUSALS, when, row), self.refusals
        else:
            random, texts = self._random(_MISMATCHED, when, row), self.retain.answers
        picked = random.choice(len(texts), part.count, replace=part.count > len(texts))
        return [self._encode(rows.questions[row], texts[i]) for i in picked]

    def _relabelled(self, part: Part, row: int, epoch: int) -> list[Any]:
        """Return an input with other classes, drawn as the part says."""
        item: Any = self.rows(part).encoded[row]
        random = self._random(_CLASSES, epoch if part.redraw else 0, row)
        match part.answers:
            case "any_class":
                labels = random.integers(self.num_classes, size=part.count)
            case "other_class":
                labels = item.label + 1 + random.integers(self.num_classes - 1, size=part.count)
            case "next_class":
                labels = np.full(part.count, item.label + 1)
            case _:
                labels = random.choice(self._retained_labels, part.count)
        return [replace(item, label=int(label) % self.num_classes) for label in labels]

    @cached_property
    def _retained_labels(self) -> Sequence[int]:
        items: Sequence[Any] = self.retain.encoded
        return [item.label for item in items]

    def augmented(
        self, part: Part, questions: Sequence[Sequence[Any]], picked: Sequence[int], step: int
    ) -> list[Any]:
        """Return the inputs of some questions of a step, changed as the step has it.

        Whatever pieces the step is cut into, an input is changed alike; in another step otherwise.

        Args:
            part: Whose questions they are.
            questions: The sequences of all questions of the step.
            picked: Which of the questions.
            step: From 0.
        """
        assert self.augmentation is not None  # noqa: S101 - asked for only where there is one
        random = self._random(_AUGMENTED, step, int(part.questions == "retain"))
        draws = random.random((len(questions), 3))
        encoder: Any = self.encoder
        return [
            encoder.augmented(item, self.augmentation, draws[i])
            for i in picked
            for item in questions[i]
        ]

    def _random(self, stream: int, epoch: int, row: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, epoch, row])


def num_labelled(part: Part, sequence: Encoded) -> int:
    """Return how many tokens of a sequence a part labels."""
    if not part.every_position:
        return len(sequence.answer)
    return len(sequence) - (part.read == "prediction")  # nothing predicts the first
