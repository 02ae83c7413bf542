"""Large language model unlearning (LLMU): ascent, random answers and a KL term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("llmu", source="Yao et al. 2023, arXiv:2310.10683")
class LLMU(Method):
    """Unlearn the answers, learn random ones: L = -ascent_weight · L_f + mismatch_weight · L_m.

    L_f and L_m are the mean NLL over the tokens of the true answers and of answers to random
    retain questions. The ascent is unbounded below.
    """

    retain: Literal["none", "nll", "kl"] = "kl"
    """Retain term; the authors compute the cross-entropy H(start, current), whose gradient is
    that of the KL."""
    ascent_weight: NonNegativeFloat = 0.5
    """Weight of gradient ascent on the true answers."""
    mismatch_weight: NonNegativeFloat = 1.0
    """Weight of descent on the mismatched answers."""
    mismatched_answers: PositiveInt = 5
    """Mismatched answers per forget question."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the true and the mismatched answers to the forget questions."""
        return {FORGET: Needs(), self._mismatched: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the weighted sum of both terms, in nats per token."""
        forget, mismatched = step[FORGET], step[self._mismatched]
        return self.mismatch_weight * mismatched.token_mean(mismatched.nll) - (
            self.ascent_weight * forget.token_mean(forget.nll)
        )

    @property
    def _mismatched(self) -> Part:
        return Part("forget", "mismatched", count=self.mismatched_answers)
