"""Target-aware forgetting (TARF): what is to go may be more than what is given, or less."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from raymcu.methods._base import METHODS, RETAIN, Labelled, Memory, Needs, Part, Step, StepLoss
from raymcu.methods.grad_ascent import GradAscent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


HIDDEN = "hidden "
"""Before the number of a retain row, in the memory."""


@METHODS.register("tarf", source="Zhu et al. 2026, arXiv:2406.08288, eq. 3")
class TARF(GradAscent):
    """Ascend on what is given, ever less; descend on what does not go with it.

    L = k(t) · (-mean NLL of the forget set) + mean over the retain set of tau · NLL, at step t of
    T. k(t) = forget_weight · max(0, 1 - t/T - t0), and tau is 0 at all steps before t1 · T. Then
    it is 1, but for retain sequences that are taken for a hidden part of what is to go: those whose
    mean NLL the steps so far have moved most, up or down. The mean is over all retain tokens,
    hidden ones counted.

    How many are hidden is known of a request, as the authors have it (a superclass of five of
    which one is given hides four): ``hidden_classes``, ``hidden_share`` or ``beta``, one of them.
    Without any, all are kept: for requests of a whole class, or of a part of one.
    """

    retain: Literal["nll"] = "nll"
    """Retain term."""
    forget_weight: NonNegativeFloat = 1.0
    """k, the weight of the forget term before it is annealed."""
    t0: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the training, at its end, that only descends on what is kept."""
    t1: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training, at its beginning, that only ascends, after which hidden sequences are
    told from others."""
    annealing: Literal["linear", "cosine", "constant"] = "linear"
    """How the ascent fades: as above; by half a cosine from ``forget_weight`` to 0 at 1 - t0; or
    not, till it ends there."""
    hidden_classes: NonNegativeInt = 0
    """So many of the model's classes hide what is to go: those moved most in the mean over their
    retain rows. Of classifiers."""
    hidden_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the retain sequences that are hidden: those moved most."""
    beta: NonNegativeFloat | None = None
    """Sequences moved by more are hidden, in nats a token."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [n for n in ("hidden_classes", "hidden_share") if getattr(self, n)]
        given += ["beta"] * (self.beta is not None)
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} are two ways to say what is hidden. Give one of them."
            )
        if given and not self.t1:
            raise ValueError(
                f"{given[0]} is told by what the first steps move, and t1 = 0 leaves none. Set t1, "
                "the share of the training that ascends alone."
            )
        if self.t0 + self.t1 > 1:
            raise ValueError(
                f"t1 = {self.t1:g} and t0 = {self.t0:g} are more than the whole training: the "
                "ascent would end before anything is kept. Their sum may be 1 at most."
            )
        return self

    @property
    def _identifies(self) -> bool:
        return bool(self.hidden_classes or self.hidden_share or self.beta is not None)

    def unfit(self, modality: str) -> str | None:
        """Say why the method cannot train models of a kind; None if it can."""
        if self.hidden_classes and modality == "causal_lm":
            return "hidden_classes are a classifier's; set hidden_share or beta"
        return super().unfit(modality)

    def needs(self) -> dict[Part, Needs]:
        """Return both sets, the retain set with the start model's loss if something is hidden."""
        return super().needs() | {RETAIN: Needs(reference_nll=self._identifies)}

    def begin(self, reference_nll: Mapping[Part, float], *, num_steps: int) -> Memory:
        """Return where the training stands."""
        del reference_nll
        return {"step": 0.0, "steps": float(num_steps)}

    def remember(self, memory: Memory, retain: float, *, is_epoch_end: bool) -> Memory:
        """Return the memory of the next step."""
        del retain, is_epoch_end
        return {**memory, "step": memory["step"] + 1}

    def asks_at(self, num_steps: int) -> int | None:
        """Return the first step that descends, where something is hidden."""
        return math.ceil(self.t1 * num_steps) if self._identifies else None

    def identified(
        self, memory: Memory, moved: Mapping[int, float], classes: Mapping[int, int]
    ) -> Memory:
        """Return the memory with the hidden rows in it, and how far each was moved."""
        if self.hidden_classes:
            of_class: dict[int, list[float]] = defaultdict(list)
            for row, change in moved.items():
                of_class[classes[row]].append(change)
            means = {label: math.fsum(found) / len(found) for label, found in of_class.items()}
            first = sorted(means, key=lambda label: (-means[label], label))[: self.hidden_classes]
            hidden = [row for row in moved if classes[row] in first]
        elif self.hidden_share:
            ranked = sorted(moved, key=lambda row: (-moved[row], row))
            hidden = ranked[: round(self.hidden_share * len(ranked))]
        else:
            hidden = [row for row, change in moved.items() if change > (self.beta or 0.0)]
        return {**memory, **{f"{HIDDEN}{row}": moved[row] for row in sorted(hidden)}}

    def loss(self, step: Step, memory: Memory | None = None) -> StepLoss:
        """Return this piece's part of the objective."""
        assert memory is not None, "tarf needs the memory of its last step"  # noqa: S101
        kept = step[RETAIN]
        learned = kept.learned_nll
        retain = kept.token_mean(
            learned * learned.new_tensor(self._gates(kept, memory))[kept.sequence]
        )
        forget = self.forget_term(step)
        total = self._strength(memory) * forget + self.retain_weight * retain
        return StepLoss(total, forget, retain)

    def _strength(self, memory: Memory) -> float:
        """Return k(t)."""
        passed = memory["step"] / memory["steps"]
        left = max(0.0, 1 - self.t0 - passed)
        match self.annealing:
            case "linear":
                return self.forget_weight * left
            case "cosine":
                return self.forget_weight * (1 - math.cos(math.pi * left / (1 - self.t0))) / 2
            case _:
                return self.forget_weight * (left > 0)

    def _gates(self, kept: Labelled, memory: Memory) -> list[float]:
        """Return tau of each retain sequence."""
        if memory["step"] < self.t1 * memory["steps"]:
            return [0.0] * kept.num_sequences
        if not self._identifies:
            return [1.0] * kept.num_sequences
        return [float(f"{HIDDEN}{row}" not in memory) for row in kept.rows]
