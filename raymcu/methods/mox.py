"""Model extrapolation (MOX)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, REFUSED, Labelled, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("mox", source="Huang et al., MOX, eqs. 4, 5, 8 and 9")
class MOX(Method):
    """Memorise the forget set, then extrapolate: (1 + alpha) · start - alpha · memoriser.

    The losses are the memoriser's, minimised; lower means better memorised. Eq. 4 needs the NLL
    (the text's "cross-entropy" lacks its minus), and eq. 9's sum belongs over the forget set,
    where alone there are targets. Eq. 10's momentum averages weights: ``training.average``.
    """

    step_option: ClassVar[str | None] = "alpha"

    retain: Literal["none", "nll", "kl"] = "kl"
    """Retain term; without one this is a task vector's negation."""
    alpha: NonNegativeFloat = 4.0
    """How far to extrapolate; the paper's grid is 0.5 to 8."""
    memorizer: Literal["ce", "negnpo", "dpo_pos"] = "ce"
    """``ce``: mean NLL per token (eq. 4). ``negnpo``: NPO's negative, as printed (eq. 5); its pull
    grows from 1 to 2 as answers are memorised. ``dpo_pos``: NPO of the inverse ratio, whose pull
    fades from 1 to 0."""
    beta: PositiveFloat = 0.1
    """Inverse temperature of the preference forms."""
    target_weight: NonNegativeFloat = 0.0
    """Weight of driving the memoriser away from refusals, so that the unlearner is drawn to them
    (eq. 9); 0 leaves the term out."""
    target: Literal["ce", "npo"] = "ce"
    """``ce``: gradient ascent on the refusals, unbounded unless clamped; ``npo``: NPO on them."""
    target_clamp: PositiveFloat | None = None
    """Greatest NLL per refusal token, in nats, above which ``ce`` pushes no further."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set, with the refusals where they are targets."""
        found = {FORGET: Needs(reference_nll=self.memorizer != "ce")}
        if self.target_weight:
            found[REFUSED] = Needs(reference_nll=self.target == "npo")
        return found

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the memoriser's term and its target's."""
        forget = step[FORGET]
        if self.memorizer == "ce":
            memory = forget.token_mean(forget.nll)
        elif self.memorizer == "negnpo":
            memory = -self._npo(forget, self.beta)
        else:
            memory = self._npo(forget, -self.beta)
        if not self.target_weight:
            return memory
        refused = step[REFUSED]
        if self.target == "npo":
            return memory + self.target_weight * self._npo(refused, self.beta)
        nll = refused.nll.clamp(max=self.target_clamp) if self.target_clamp else refused.nll
        return memory - self.target_weight * refused.token_mean(nll)

    def _npo(self, part: Labelled, slope: float) -> Float[Tensor, ""]:
        fallen = part.sequence_sum(part.nll - part.given("reference_nll"))
        return part.sequence_mean(-2 / self.beta * torch.nn.functional.logsigmoid(slope * fallen))
