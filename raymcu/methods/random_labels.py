"""Random labels (RL): wrong answers to the forget questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from raymcu.methods._base import METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register(
    "random_labels",
    source="Golatkar et al. 2020, arXiv:1911.04933; for LLMs MU-Bench, arXiv:2406.14796",
)
class RandomLabels(Method):
    """Learn answers to random retain questions: L = mean NLL over all their tokens.

    Minimised; the forget questions keep their prompts. A classifier's answer is a class.
    """

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    redraw: bool = False
    """Draw the wrong answers anew in every epoch; MU-Bench draws once."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the mismatched answers."""
        return {self._mismatched: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mismatched answers' NLL, in nats per token."""
        return step[self._mismatched].token_mean(step[self._mismatched].nll)

    @property
    def _mismatched(self) -> Part:
        return Part("forget", "mismatched", redraw=self.redraw)
