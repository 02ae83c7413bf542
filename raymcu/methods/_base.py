"""What an unlearning method is: a loss over flattened labelled positions.

A classifier is a language model whose answers are one token long, so one implementation serves
both. A batch may be split into pieces (micro-batches, or the shares of several workers): each
piece knows the totals of the whole batch, the pieces' losses add up to the batch's, and so do
their gradients. That is what makes one batch equal to the same batch in two.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from raymcu.registry import Component, Registry

T = TypeVar("T")

METHODS: Registry[type["Method"]] = Registry("unlearning method", __package__ or "raymcu.methods")


@dataclass(frozen=True)
class Labelled:
    """The labelled positions of one piece of a batch, flattened over its sequences."""

    logits: Float[Tensor, "positions classes"]
    """Already shifted: row i predicts ``labels[i]``."""
    labels: Int[Tensor, " positions"]
    sequence: Int[Tensor, " positions"]
    """Which sequence of the piece a position belongs to, from 0."""
    num_sequences: int
    """Sequences in this piece."""
    total_positions: int
    """Labelled positions of the whole batch, over all its pieces."""
    total_sequences: int
    """Sequences of the whole batch."""
    reference_nll: Float[Tensor, " positions"] | None = None
    """-log p of the labels under the frozen start model, where the method needs it."""
    reference_logits: Float[Tensor, "positions classes"] | None = None
    """Logits of the frozen start model, where the retain term needs them."""

    @cached_property
    def nll(self) -> Float[Tensor, " positions"]:
        """-log p of each label in nats, in at least float32 whatever the weights' dtype."""
        return functional.cross_entropy(_wide(self.logits), self.labels, reduction="none")

    def token_mean(self, values: Float[Tensor, " positions"]) -> Float[Tensor, ""]:
        """Return this piece's part of the mean over ALL labelled positions of the batch."""
        return values.sum() / self.total_positions

    def sequence_sum(self, values: Float[Tensor, " positions"]) -> Float[Tensor, " sequences"]:
        """Sum over the positions of each sequence."""
        return values.new_zeros(self.num_sequences).index_add(0, self.sequence, values)

    def sequence_mean(self, values: Float[Tensor, " sequences"]) -> Float[Tensor, ""]:
        """Return this piece's part of the mean over the batch's sequences."""
        return values.sum() / self.total_sequences


@dataclass(frozen=True)
class StepInputs:
    """What one piece of one step offers to a method."""

    forget: Labelled | None
    """None if the method does not use the forget set."""
    retain: Labelled | None
    """None if the method does not use the retain set."""


@dataclass(frozen=True)
class StepLoss:
    """This piece's part of the objective, and of its two terms before their weights."""

    total: Float[Tensor, ""]
    forget: Float[Tensor, ""] | None
    retain: Float[Tensor, ""] | None


class Method(Component, ABC):
    """An objective, MINIMISED: forget_weight · forget term + retain_weight · retain term.

    Retain terms (reference sheet A.3): ``nll`` is the mean over all retain answer tokens;
    ``kl`` is the divergence from the frozen start model, summed over the vocabulary and averaged
    over the retain answer tokens.
    """

    uses_forget: ClassVar[bool] = True
    needs_reference_nll: ClassVar[bool] = False
    """Whether the forget term needs the start model's loglikelihoods."""

    retain: Literal["none", "nll", "kl"] = "none"
    """Retain term."""
    forget_weight: NonNegativeFloat = 1.0
    """Weight of the forget term (OpenUnlearning: gamma)."""
    retain_weight: NonNegativeFloat = 1.0
    """Weight of the retain term (OpenUnlearning: alpha)."""
    kl_direction: Literal["reference_to_current", "current_to_reference"] = "reference_to_current"
    """KL(start model || current), as TOFU, NPO and OpenUnlearning have it, or the reverse."""

    @property
    def uses_retain(self) -> bool:
        """Whether a step needs retain sequences."""
        return self.retain != "none"

    @property
    def needs_reference_logits(self) -> bool:
        """Whether the retain term needs the start model's logits."""
        return self.retain == "kl"

    @abstractmethod
    def forget_term(self, forget: Labelled) -> Float[Tensor, ""]:
        """Return this piece's part of the forget term; lower means more forgotten."""

    def loss(self, step: StepInputs) -> StepLoss:
        """Return this piece's part of the objective."""
        forget = retain = None
        terms: list[Tensor] = []
        if self.uses_forget:
            forget = self.forget_term(_given(step.forget, "forget"))
            terms.append(self.forget_weight * forget)
        if self.uses_retain:
            retain = self.retain_term(_given(step.retain, "retain"))
            terms.append(self.retain_weight * retain)
        return StepLoss(torch.stack(terms).sum(), forget, retain)

    def retain_term(self, retain: Labelled) -> Float[Tensor, ""]:
        """Return this piece's part of the retain term; lower means better kept."""
        if self.retain == "nll":
            return retain.token_mean(retain.nll)
        current = _wide(retain.logits).log_softmax(-1)
        reference = _wide(_given(retain.reference_logits, "reference")).log_softmax(-1)
        if self.kl_direction == "current_to_reference":
            current, reference = reference, current
        return retain.token_mean((reference.exp() * (reference - current)).sum(-1))


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype.itemsize < 4 else logits


def _given(value: T | None, what: str) -> T:
    assert value is not None, f"the step was prepared without its {what} part"  # noqa: S101
    return value
