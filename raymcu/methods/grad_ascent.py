"""Gradient ascent (GA) on the forget set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymcu.methods._base import FORGET, METHODS, Method, Published, Step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("grad_ascent", source="Golatkar et al. 2020; TOFU, arXiv:2401.06121, sec. 4")
class GradAscent(Method):
    """Ascend on the forget set: L = -mean NLL over all forget answer tokens.

    Unbounded below: the only stops are the number of steps and ``training.max_abs_loss``.
    """

    openunlearning = Published({})

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return -L_f, in nats per token."""
        return -step[FORGET].token_mean(step[FORGET].nll)
