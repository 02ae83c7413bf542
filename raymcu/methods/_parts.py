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
