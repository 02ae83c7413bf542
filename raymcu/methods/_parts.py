"""Which sequences a step may hold: whose questions, which answers, and where they are read."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Part:
    """Sequences that a step may hold: the questions of a set, and which answers go with them."""

    questions: Literal["forget", "retain"]
    answers: Literal[
        "true", "refusal", "mismatched", "sampled", "any_class", "other_class", "next_class"
    ] = "true"
    """``refusal``: a way to say "I don't know"; ``mismatched``: the answer to a random retain
    question; ``sampled``: what the start model itself says. Of classifiers, each class alike, each
    but the true one, or the one after it."""
    every_position: bool = False
    """Label the prompt's tokens too, not only the answer's. (Padding never is.)"""
    count: int = 1
    """Answers per question, one sequence each; those of one question are consecutive."""
    redraw: bool = True
    """Draw refusals, mismatched answers, or which of the sampled ones, anew in every epoch."""
    pool: int = 1
    """Answers sampled per question before training, of which each step uses ``count``."""
    temperature: float = 0.0
    """Of sampled answers; 0 is greedy."""
    read: Literal["prediction", "token", "padded"] = "prediction"
    """Where logits and states are taken: where a labelled token is predicted, one before it; at
    the token itself; or at every position of a sequence padded to the longest fed with it, which
    goes with ``every_position``."""


@dataclass(frozen=True)
class Needs:
    """What a part's labelled positions must carry for a method."""

    logits: bool = True
    """False where only hidden states are read, and nothing of the logits."""
    reference_nll: bool = False
    reference_logits: bool = False
    random_logits: bool = False
    """Whether the logits of an untrained model of the same shape are needed."""
    layer: int | None = None
    """Decoder layer whose output ``Labelled.states`` is, from 0; None for no states."""
    reference_states: bool = False
    """Whether the start model's states of that layer are needed."""
    final_norm: bool = False
    """Whether the last layer's states are those behind the final norm, as transformers'
    ``hidden_states`` has them; all other layers' are the layer's output."""

    @property
    def reads_reference(self) -> bool:
        """Whether anything is needed of the start model."""
        return self.reference_nll or self.reference_logits or self.reference_states

    def __or__(self, other: "Needs") -> "Needs":
        """Return what serves both.

        Raises:
            ValueError: If they need different layers.
        """
        if None not in {self.layer, other.layer} and self.layer != other.layer:
            raise ValueError(f"one step cannot read layers {self.layer} and {other.layer}")
        if None not in {self.layer, other.layer} and self.final_norm != other.final_norm:
            raise ValueError("one step cannot read states before and behind the final norm")
        return Needs(
            self.logits or other.logits,
            self.reference_nll or other.reference_nll,
            self.reference_logits or other.reference_logits,
            self.random_logits or other.random_logits,
            other.layer if self.layer is None else self.layer,
            self.reference_states or other.reference_states,
            self.final_norm or other.final_norm,
        )


FORGET = Part("forget")
RETAIN = Part("retain")
REFUSED = Part("forget", "refusal")

Turn = tuple[Part, ...]
"""Parts that are read together."""


class Coupling(Protocol):
    """What is asked of a method here."""

    def coupled(self) -> Iterable[Collection[Part]]:
        """Return which parts a term reads at once."""
        ...


def turns_of(methods: Sequence[Coupling], parts: Iterable[Part]) -> list[Turn]:
    """Return which parts are read together, in their order: those that a method couples."""
    order = list(parts)
    groups: list[set[Part]] = [{part} for part in order]
    for coupled in (set(pair) for method in methods for pair in method.coupled()):
        joined = [group for group in groups if group & coupled]
        groups = [group for group in groups if not group & coupled] + [set().union(*joined)]
    groups.sort(key=lambda group: min(map(order.index, group)))
    return [tuple(sorted(group, key=order.index)) for group in groups]
