"""Random labels (RL): wrong answers to the forget questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from raymcu.methods._base import METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


_ANSWERS: Mapping[str, Any] = {
    "answers": "mismatched",
    "uniform": "any_class",
    "others": "other_class",
    "next": "next_class",
}


@METHODS.register(
    "random_labels",
    source="Golatkar et al. 2020, arXiv:1911.04933; for LLMs MU-Bench, arXiv:2406.14796",
)
class RandomLabels(Method):
    """Learn answers to random retain questions, or random classes: L = mean NLL over their tokens.

    Minimised; the forget questions keep their prompts. A classifier's answer is a class.
    """

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    redraw: bool = False
    """Draw the wrong answers anew in every epoch; MU-Bench draws once."""

    labels: Literal["answers", "uniform", "others", "next"] = "answers"
    """``answers``: those to random retain questions, of a classifier their classes. Of classifiers
    also: ``uniform``, every class alike, the true one too (SalUn's code); ``others``, every class
    but the true one; ``next``, the class after the true one (MU-Bench's code)."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the mismatched answers."""
        return {self._mismatched: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mismatched answers' NLL, in nats per token."""
        return step[self._mismatched].token_mean(step[self._mismatched].nll)

    @property
    def _mismatched(self) -> Part:
        return Part("forget", _ANSWERS[self.labels], redraw=self.redraw)
