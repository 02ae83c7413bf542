"""Task vector negation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeFloat

from raymcu.methods._base import FORGET, METHODS, Method, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("task_vector", source="Ilharco et al. 2022, arXiv:2212.04089, sec. 3")
class TaskVector(Method):
    """Learn the forget set once more, then step as far the other way.

    L = mean NLL over all forget answer tokens, minimised; the unlearner is
    start - scale · (trained - start).
    """

    step_option: ClassVar[str | None] = "scale"

    scale: NonNegativeFloat = 1.0
    """Length of the step; 0 gives the start model. MUSE's runs use 5 after 10 epochs at 1e-5."""

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return L_f, in nats per token; lower means better learnt."""
        return step[FORGET].token_mean(step[FORGET].nll)
