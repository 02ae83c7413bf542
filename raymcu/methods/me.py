"""Maximising entropy on the forget answers (ME, with retain NLL: ME+GD)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("me", source="ME+GD in Yuan et al. 2024, arXiv:2410.08109")
class MaxEntropy(Method):
    """Bring the predictions on forget answers to the uniform distribution U over V classes.

    L = mean over tokens of KL(p || U) = ln V - entropy of p; 0 if and only if p is uniform.
    """

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    forget_weight: NonNegativeFloat = 0.1
    """Weight of the forget term; the authors' scripts set it to 0.1."""
    direction: Literal["current_to_uniform", "uniform_to_current"] = "current_to_uniform"
    """KL(p || U), whose value is at most ln V and whose gradient vanishes as p becomes certain,
    or KL(U || p), which the authors' code computes and which is unbounded."""
    mask: Literal["answer", "all"] = "answer"
    """Average over answer tokens, or over the prompt's too; the authors' scripts do, padding
    included."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set."""
        return {self._forget: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the divergence in nats per token."""
        forget = step[self._forget]
        return forget.token_mean(forget.read(self._from_uniform))

    def _from_uniform(
        self, logits: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        log_probs = logits.log_softmax(-1)
        log_classes = math.log(logits.shape[-1])
        if self.direction == "uniform_to_current":
            return -log_classes - log_probs.mean(-1)
        return log_classes + (log_probs.exp() * log_probs).sum(-1)

    @property
    def _forget(self) -> Part:
        return Part("forget", every_position=True) if self.mask == "all" else FORGET
