"""Forget-data-only loss adjustment (FLAT)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from raymcu.later import torch
from raymcu.methods._base import FORGET, METHODS, REFUSED, Labelled, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("flat", source="Wang et al. 2024, arXiv:2410.11143; f-GAN, arXiv:1606.00709")
class FLAT(Method):
    """Widen an f-divergence between refusals and forget answers: L = -g(P_e) + f*(g(P_f)).

    P is the mean probability of a sequence's answer tokens, e the refusal and f the forget answer;
    g and f* are the output activation and the conjugate of f-GAN's table 2. Both terms rise with
    P, so refusals become likelier and forget answers less likely. For that g must increase:
    reverse KL takes -exp(-v), squared Hellinger and Neyman 1 - exp(-v), where the authors' code
    has exp(v) and makes refusals less likely.

    g and f* are applied to each sequence and then averaged; the authors' code averages P over the
    batch first, and over padding too, so that the loss depends on the batch and its longest text.
    """

    divergence: Literal[
        "total_variation",
        "kl",
        "reverse_kl",
        "jeffrey",
        "squared_hellinger",
        "pearson",
        "neyman",
        "jensen_shannon",
    ] = "total_variation"
    """Which f."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget answers and the refusals."""
        return {FORGET: Needs(), REFUSED: Needs()}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return minus the variational lower bound of the divergence."""
        forget, refused = step[FORGET], step[REFUSED]
        activation, conjugate = PAIRS[self.divergence]
        return forget.sequence_mean(conjugate(_mean_probability(forget))) - (
            refused.sequence_mean(activation(_mean_probability(refused)))
        )


def _mean_probability(part: Labelled) -> Float[Tensor, " sequences"]:
    return part.sequence_sum((-part.nll).exp()) / part.lengths


def _softplus(v: Tensor) -> Tensor:
    return torch.nn.functional.softplus(v)


def _jeffrey(v: Tensor) -> Tensor:
    """Return w + 1/w + v - 2 with w = W(exp(1 - v)), by Newton's method on w + ln w = 1 - v."""
    w = 1 - v / 2
    for _ in range(5):
        w = w * (2 - v - w.log()) / (1 + w)
    return w + 1 / w + v - 2


PAIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "total_variation": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": (lambda v: -(-v).exp(), lambda v: v - 1),
    "jeffrey": (lambda v: v, _jeffrey),
    "squared_hellinger": (lambda v: -(-v).expm1(), lambda v: v.expm1()),
    "pearson": (lambda v: v, lambda v: v + v * v / 4),
    "neyman": (lambda v: -(-v).expm1(), lambda v: -2 * (-v / 2).expm1()),
    "jensen_shannon": (
        lambda v: math.log(2) - _softplus(-v),
        lambda v: _softplus(v) - math.log(2),
    ),
}
"""g(v), and f*(g(v)) simplified, for v in [0, 1]."""
