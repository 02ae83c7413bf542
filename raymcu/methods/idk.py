"""Training on refusals (PO, IDK)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from raymcu.methods._base import METHODS, REFUSED, RETAIN, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("idk", source="PO in TOFU, arXiv:2401.06121, sec. 4; SOUL, arXiv:2404.18239")
class IDK(Method):
    """Answer the forget questions with "I don't know": L = mean NLL over all refusal tokens.

    Minimised towards 0. Without a retain term the model learns to refuse everything.
    """

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    mixing: Literal["separate", "concatenated"] = "separate"
    """``separate``: the sum of two means. ``concatenated``: one mean over refusal and retain
    tokens together, as TOFU has it; the side with more tokens then dominates."""

    @model_validator(mode="after")
    def _check_mixing(self) -> Self:
        if self.mixing == "concatenated" and self.retain != "nll":
            raise ValueError(
                f"mixing 'concatenated' needs retain 'nll', for there is one mean over both; "
                f"retain is '{self.retain}'"
            )
        return self

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the refusals to the forget questions."""
        return {REFUSED: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the refusals' NLL in nats per token, times their share of the tokens."""
        return step[REFUSED].token_mean(step[REFUSED].nll) * self._share(step, REFUSED)

    def retain_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the retain term, times its share of the tokens."""
        return super().retain_term(step) * self._share(step, RETAIN)

    def _share(self, step: Step, part: Part) -> float:
        if self.mixing == "separate":
            return 1.0
        both = step[REFUSED].total_positions + step[RETAIN].total_positions
        return step[part].total_positions / both
