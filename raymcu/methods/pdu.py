"""Primal-dual unlearning (PDU): flatten the logits, under a bound on the retain loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from raymcu.methods._base import (
    METHODS,
    RETAIN,
    Memory,
    Method,
    Needs,
    Part,
    Published,
    Step,
    StepLoss,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register(
    "pdu", source="Entesari et al. 2025, arXiv:2506.05314; defaults of OpenUnlearning"
)
class PDU(Method):
    """Minimise forget_weight · f + lambda · (L_r - eps), with lambda raised while L_r > eps.

    f is the token mean of (max z - mean z)^2 over the logits z of a position; 0 where they are
    uniform. OpenUnlearning takes it one position later: ``position`` token. After the warm-up,
    lambda <- max(0, lambda + eta · (L_r - eps)).
    """

    openunlearning = Published({"position": "token"}, "eps has to be given there")

    retain: Literal["nll"] = "nll"
    """Retain term: the constrained one."""
    retain_weight: NonNegativeFloat = 1.0
    """Of the first step: lambda starts here; the authors advise 50 to 100 (OpenUnlearning: 1)."""
    eps: NonNegativeFloat | None = None
    """Bound on L_r, in nats per token; None: what it is for the start model."""
    eta: NonNegativeFloat = 1.0
    """Step size of lambda."""
    warmup_epochs: NonNegativeInt = 5
    """Epochs that lambda rests."""
    position: Literal["prediction", "token"] = "prediction"
    """Where f is taken: where the answer's tokens are predicted, or at the tokens themselves, as
    OpenUnlearning, whose mask is not shifted: without the logits that predict the first token, and
    with those behind the last."""
    cadence: Literal["step", "epoch"] = "step"
    """Move lambda after every step by its batch's L_r, or after every epoch by the mean of its
    steps' L_r (OpenUnlearning evaluates the retain set anew)."""

    def needs(self) -> dict[Part, Needs]:
        """Return both sets, with the start model's retain loss if it is the bound."""
        return super().needs() | {RETAIN: Needs(reference_nll=self.eps is None)}

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set."""
        return {self._forget: Needs()}

    @property
    def _forget(self) -> Part:
        return Part("forget", read=self.position)

    def begin(self, reference_nll: Mapping[Part, float], *, num_steps: int) -> Memory:
        """Return the first lambda, the bound, and what the updates count."""
        del num_steps
        eps = reference_nll[RETAIN] if self.eps is None else self.eps
        return {
            "lambda": self.retain_weight,
            "eps": eps,
            "excess": 0.0,
            "steps": 0.0,
            "epochs": 0.0,
        }

    def remember(self, memory: Memory, retain: float, *, is_epoch_end: bool) -> Memory:
        """Return the memory with the excess counted, and lambda moved when it is due."""
        excess, steps = memory["excess"] + retain - memory["eps"], memory["steps"] + 1
        if self.cadence == "epoch" and not is_epoch_end:
            return {**memory, "excess": excess, "steps": steps}
        epochs = memory["epochs"] + is_epoch_end
        seen = epochs if self.cadence == "epoch" else memory["epochs"]
        moved = max(0.0, memory["lambda"] + self.eta * excess / steps)
        multiplier = moved if seen >= self.warmup_epochs else memory["lambda"]
        return {**memory, "lambda": multiplier, "excess": 0.0, "steps": 0.0, "epochs": epochs}

    def loss(self, step: Step, memory: Memory | None = None) -> StepLoss:
        """Return this piece's part of the Lagrangian."""
        assert memory is not None, "pdu needs the memory of its last step"  # noqa: S101
        forget, kept = self.forget_term(step), step[RETAIN]
        excess = kept.token_mean(kept.nll - memory["eps"])
        total = self.forget_weight * forget + memory["lambda"] * excess
        return StepLoss(total, forget, self.retain_term(step))

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return f, in squared logits; lower means flatter."""
        forget = step[self._forget]
        return forget.token_mean(forget.read(_peak))


def _peak(logits: Float[Tensor, "positions classes"]) -> Float[Tensor, " positions"]:
    return (logits.amax(-1) - logits.mean(-1)).square()
