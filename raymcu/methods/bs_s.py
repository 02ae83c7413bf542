"""Bootstrapping by sequences (BS-S): BS-T on the true answers and on the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt

from raymcu.methods._base import FORGET, METHODS, Needs, Part, Step
from raymcu.methods.bs_t import BST, bootstrap_term

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("bs_s", source="Li et al. 2025, arXiv:2510.19422, L_BSS")
class BSS(BST):
    """Ascend on the model's own answers too: L = (1 - lam_s) · L_BST(true) + lam_s · L_BST(own).

    Own answers are the start model's, sampled before training. Unbounded below; BS-T at lam_s 0.
    """

    lam_s: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the model's own answers; no code is public, so this default is ours."""
    pool: PositiveInt = 1
    """Own answers sampled per question, of which each epoch draws one."""
    temperature: NonNegativeFloat = 0.0
    """Of the sampling; 0 is greedy."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the true and the model's own answers to the forget questions."""
        return {FORGET: Needs(), self._own: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the weighted sum of both terms, in nats per sequence."""
        true, own = (
            bootstrap_term(step[part], self.lam, self.k, self.renormalize)
            for part in (FORGET, self._own)
        )
        return (1 - self.lam_s) * true + self.lam_s * own

    @property
    def _own(self) -> Part:
        return Part("forget", "sampled", pool=self.pool, temperature=self.temperature)
