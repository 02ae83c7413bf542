"""What an attack is: one thing done to a point, whose every strength makes another point.

A point is attacked in one of four ways. A *treatment* changes the model between blending and
measuring, and is undone after; an *asking* changes what it is asked; a *relearning* trains it
further; a *reading* looks inside of it in place of asking it. What comes out of the first three is
measured and scored like any other point, by every metric; a reading has metrics of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from raymcu.registry import Component, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import pyarrow as pa

    from raymcu.benchmarks._base import Example, Manner

ATTACKS: Registry[type[Attack]] = Registry("attack", __package__ or "raymcu.attacks", "Attack")

Way = Literal["treatment", "asking", "relearning", "reading"]


class Attack(Component, ABC):
    """One thing done to a point; derive from one of the classes below."""

    way: ClassVar[Way]
    strength: ClassVar[str | None] = None
    """Option that says how strong it is, a tuple of numbers: each makes a point. None: there is
    one strength."""
    modalities: ClassVar[tuple[str, ...]] = ("causal_lm",)
    """Kinds of model that it suits, see `raymcu.benchmarks._base.Benchmark.modality`."""
    none: ClassVar[float | None] = None
    """Strength that leaves the point as it is, which is then no point of its own."""

    def strengths(self) -> tuple[float | None, ...]:
        """Return the strengths, each of which makes a point."""
        return (None,) if self.strength is None else tuple(getattr(self, self.strength))

    def own_strengths(self) -> tuple[float | None, ...]:
        """Return those that make a point of its own: all but the one that does nothing."""
        return tuple(one for one in self.strengths() if one is None or one != self.none)

    def of_strength(self, value: float | None) -> Attack:
        """Return the attack with one strength alone: a point's id knows of no other."""
        return self if self.strength is None else self.model_copy(update={self.strength: (value,)})

    def looked(self) -> Attack:
        """Return the attack with the content of files that it names among its options.

        Raises:
            ConfigError: If there is no such file, or it is not as it must be.
        """
        return self


class Treatment(Attack):
    """Changes the resident model between blending and measuring."""

    way: ClassVar[Way] = "treatment"

    @abstractmethod
    def applied(self, model: Any) -> AbstractContextManager[None]:
        """Change a model for as long as the block runs.

        Weights may be left changed: the next blend writes them all anew. Whatever else is changed
        (hooks, modules, modes) has to be put back.

        Args:
            model: With its weights in place, on its device, of one strength.
        """


class Asking(Attack):
    """Changes what the model is asked; its answers, and so all metrics, stay what they are.

    The original and the retrained model are asked alike, and metrics compare with those.
    """

    way: ClassVar[Way] = "asking"
    beside: ClassVar[str | None] = None
    """A second model that takes part: ``original`` or ``retrained``."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Training sets that it takes examples from: ``forget``, ``retain``."""

    def suits(self, manner: Manner) -> bool:
        """Say whether a probe is asked otherwise; one that it does not suit is asked as ever.

        Args:
            manner: How the benchmark asks it. Questions suit unless an attack says otherwise.
        """
        return manner.kind == "question"

    def faults(
        self, asked: Sequence[Example], sets: Mapping[str, Sequence[Example]]
    ) -> Iterator[str]:
        """Say what of a study's data makes no sense of it, one sentence each; nothing is started.

        Args:
            asked: Examples of all probes that it suits.
            sets: What ``reads`` names.
        """
        del asked, sets
        return iter(())

    def asked(
        self, example: Example, random: np.random.Generator, sets: Mapping[str, Sequence[Example]]
    ) -> Example:
        """Return an example of a probe as it is asked now; its key stays that of the old one.

        Args:
            example: As the benchmark words it.
            random: Seeded by the attack and the example's key.
            sets: What ``reads`` names.
        """
        del random, sets
        return example

    def prompt(
        self, tokens: tuple[int, ...], random: np.random.Generator, encoder: Any
    ) -> tuple[int, ...]:
        """Return the tokens in front of the answer as the model sees them.

        Args:
            tokens: As the prompt template has them.
            random: As above.
            encoder: The model's `raymcu.models.encoding.Encoder`.
        """
        del random, encoder
        return tokens

    def joined(self, own: Any, other: Any) -> Any:
        """Return the logits of both models as one; asked only if there is a model ``beside``.

        Args:
            own: Logits of the point, (positions, vocab).
            other: Those of the model that ``beside`` names, of the same tokens: (positions, vocab).
        """
        del other
        return own


class Relearning(Attack):
    """Trains the point further; strengths are optimizer steps."""

    way: ClassVar[Way] = "relearning"


class Reading(Attack):
    """Looks inside of the model; gives rows of table ``readings``, which metrics read.

    A metric of kind ``readings:NAME`` reads the rows of that name, see `raymcu.metrics`.
    """

    way: ClassVar[Way] = "reading"

    @abstractmethod
    def read(self, point_id: str, inside: Inside) -> pa.Table:
        """Return rows of table ``readings`` of one point.

        The model's weights, mode and ``requires_grad`` have to be left as they were.

        Args:
            point_id: Goes into the rows.
            inside: The model, and what it may be asked.

        Raises:
            WorkError: ``missing_data`` if the probes lack what is read of them.
        """

    @property
    def wrong_of(self) -> tuple[str, ...]:
        """Probes whose wrong answers it reads; a benchmark without them is refused."""
        return ()


class Inside(ABC):
    """What a reading is given: the model of a point, and what it may be asked."""

    scorer: Any
    """The model with its weights in place: a `raymcu.models.scorer.Scorer`."""
    encoder: Any
    """Its `raymcu.models.encoding.Encoder`."""
    bounds: Any
    """How much may be computed at once: ``batch_tokens``, and ``memory`` in bytes."""

    @abstractmethod
    def rows(self, probe: str) -> Sequence[Any]:
        """Return every answer of a probe behind its plain question, the true one first.

        Each has ``example`` (its row in the probe, from 0), ``key``, ``answer_kind`` (``answer``,
        ``paraphrased_answer``, ``perturbed_answer`` or ``option``) and ``tokens``, ``Encoded``.

        Raises:
            ConfigError: If the benchmark has no such probe.
        """

    @abstractmethod
    def states(self, rows: Sequence[Any]) -> Sequence[np.ndarray]:
        """Return the states at the last token of each row's answer, the end token aside.

        Returns:
            Each decoder layer's output from the first on, then the final states: (rows, hidden),
            float32.
        """


def treated(attack: Attack | None, model: Any) -> AbstractContextManager[None]:
    """Apply a treatment for as long as the block runs; anything else changes nothing."""
    return attack.applied(model) if isinstance(attack, Treatment) else nullcontext()


def with_questions(example: Example, change: Callable[[str], str]) -> Example:
    """Return an example whose question, and whose paraphrased one, are changed alike."""
    other = example.paraphrased_question
    return replace(
        example,
        question=change(example.question),
        paraphrased_question=None if other is None else change(other),
    )
