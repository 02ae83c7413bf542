"""What readings share that tell true from wrong answers by the states behind them.

They learn to on facts that are kept, and are tried on those that should be forgotten. What is read
of a fact is the share of its wrong answers that look less true than the true one does: the area
under the ROC curve within one fact, 1/2 by chance.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from raymcu.attacks._base import Inside, Reading
from raymcu.errors import WorkError
from raymcu.store import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """Answers of some facts; a fact's lie together, and the first of them is its true one."""

    states: Sequence[np.ndarray]
    """By layer: (answers, hidden)."""
    fact: Ints
    """Which fact each answer is of, from 0: (answers,)."""
    example: tuple[int, ...]
    """Row of each fact's example in its probe."""

    @property
    def is_true(self) -> Ints:
        """1 for true answers, 0 for wrong ones: (answers,)."""
        return (np.diff(self.fact, prepend=-1) > 0).astype(np.int64)


class OfFacts(Reading):
    """Learns from the retain probe's answers what true ones look like, and reads the forget probe.

    It reads the states at the last token of an answer, of every layer. For the retain probe it
    gives a row per layer, cross-validated; for the forget probe one per layer and example. The
    layer is for the reader to choose, by the former. ``control`` is the same after learning that in
    each fact some answer, drawn by lot, is the true one.
    """

    true: Literal["answer", "paraphrased_answer"] = "answer"
    """Which answer is the true one. TOFU's wrong answers are worded as its paraphrased ones, so
    with ``paraphrased_answer`` wording tells less; with ``answer`` learning by heart tells more."""
    facts: PositiveInt = 100
    """Facts of either probe at most, evenly spaced."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Of the cross-validation; a fact's answers are in one."""
    seed: int = 0
    """Of what the control learns."""

    @property
    def wrong_of(self) -> tuple[str, ...]:
        """Probes whose wrong answers are told from true ones."""
        return ("forget", "retain")

    @abstractmethod
    def judged(self, known: Floats, is_true: Ints, asked: Floats) -> Floats:
        """Return how true answers look; only the order counts: (asked,).

        Args:
            known: States to learn from, features of mean 0 and deviation 1: (answers, features).
            is_true: 1 or 0: (answers,).
            asked: States to judge, shifted and scaled alike: (asked, features).
        """

    def read(self, point_id: str, inside: Inside) -> pa.Table:
        """Return rows of table ``readings``, named as the attack is registered."""
        kept, forgotten = (self._facts(inside, probe) for probe in ("retain", "forget"))
        if len(kept.example) < self.folds:
            raise WorkError(
                "missing_data",
                f"probe 'retain' has {len(kept.example)} facts, and {self.folds} folds need one "
                "each. Raise measurement.max_examples, or lower folds.",
            )
        dealt = _dealt(kept.fact, self.seed)
        found: list[dict[str, Any]] = []
        for layer, pair in enumerate(zip(kept.states, forgotten.states, strict=True)):
            known, asked = _scaled(*pair)
            here: dict[str, Any] = {"point_id": point_id, "name": self._name, "layer": layer}
            crossed = (
                self._crossed(kept.fact, known, labels).mean() for labels in (kept.is_true, dealt)
            )
            found.append(
                dict(zip(("value", "control"), crossed, strict=True)) | here | {"probe": "retain"}
            )
            values, controls = (
                ahead(self.judged(known, labels, asked), forgotten.fact)
                for labels in (kept.is_true, dealt)
            )
            found += [
                {**here, "probe": "forget", "example": example, "value": value, "control": control}
                for example, value, control in zip(forgotten.example, values, controls, strict=True)
            ]
        return tables.from_rows("readings", found)

    @property
    def _name(self) -> str:
        return type(self).__module__.rsplit(".", 1)[-1]

    def _facts(self, inside: Inside, probe: str) -> Facts:
        """Return the facts of a probe that are read, with their states."""
        of_example: dict[int, list[Any]] = {}
        for row in inside.rows(probe):
            if row.answer_kind in (self.true, "perturbed_answer", "option"):
                of_example.setdefault(row.example, []).append(row)
        whole = [
            answers
            for answers in of_example.values()
            if len(answers) > 1 and answers[0].answer_kind == self.true
        ]
        if not whole:
            raise WorkError(
                "missing_data",
                f"no example of probe '{probe}' has wrong answers beside its "
                f"{self.true.replace('_', ' ')}. Leave the attack out.",
            )
        chosen = evenly(whole, self.facts)
        rows = [row for answers in chosen for row in answers]
        fact = np.repeat(np.arange(len(chosen)), [len(answers) for answers in chosen])
        return Facts(inside.states(rows), fact, tuple(answers[0].example for answers in chosen))

    def _crossed(self, fact: Ints, states: Floats, labels: Ints) -> Floats:
        """Return what is read of each fact by what is learned from those of other folds."""
        looks = np.empty(len(fact))
        for fold in range(self.folds):
            mine = fact % self.folds == fold
            looks[mine] = self.judged(states[~mine], labels[~mine], states[mine])
        return ahead(looks, fact)


def evenly(found: Sequence[Any], most: int | None) -> list[Any]:
    """Return at most so many of a sequence, evenly spaced; None takes all."""
    count = len(found) if most is None else min(most, len(found))
    return [found[number * len(found) // count] for number in range(count)]


def ahead(looks: Floats, fact: Ints) -> Floats:
    """Return the share of each fact's wrong answers that look less true than its first.

    Args:
        looks: How true each answer looks: (answers,).
        fact: Which fact it is of, in order; its true answer is its first: (answers,).

    Returns:
        One value per fact, in [0, 1]; equal looks count half.
    """
    starts = np.flatnonzero(np.diff(fact, prepend=-1))
    of_facts = np.split(looks, starts[1:])
    return np.array([np.mean((own[0] > own[1:]) + 0.5 * (own[0] == own[1:])) for own in of_facts])


def _dealt(fact: Ints, seed: int) -> Ints:
    """Return labels by which one answer of each fact, drawn by lot, is the true one."""
    random = np.random.default_rng(seed)
    starts = np.flatnonzero(np.diff(fact, prepend=-1))
    labels = np.zeros(len(fact), dtype=np.int64)
    labels[starts + random.integers(np.diff(starts, append=len(fact)))] = 1
    return labels


def _scaled(known: np.ndarray, asked: np.ndarray) -> tuple[Floats, Floats]:
    """Shift and scale features by the known states, and rotate them to as few as tell them apart.

    Neither a penalty on the square of weights nor an angle changes by a rotation; of more features
    than known states those are left out that all known states lack.
    """
    one, other = known.astype(np.float64), asked.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise WorkError("diverged", "states of answers are not finite.")
    mean, deviation = one.mean(0), one.std(0)
    scale = np.where(deviation > 0, deviation, 1)
    one, other = (one - mean) / scale, (other - mean) / scale
    if one.shape[0] < one.shape[1]:
        basis = np.linalg.qr(one.T)[0]
        one, other = one @ basis, other @ basis
    return one, other
