"""Negative preference optimization (NPO)."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional

from raymcu.methods._base import METHODS, Labelled, Method, _given


@METHODS.register("npo", source="Zhang et al. 2024, arXiv:2404.05868, eq. 3")
class NPO(Method):
    """Push answers below the start model's likelihood, with a pull that fades as they fall.

    L = -(2/beta) · mean over sequences of logsigmoid(-beta · log(pi / pi_start)), with pi the
    probability of the whole answer. At the start model L = (2/beta) ln 2 and its gradient is that
    of gradient ascent on sequence sums; as beta -> 0 it stays that.
    """

    needs_reference_nll: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Inverse temperature."""
    reduction: Literal["sum", "mean"] = "sum"
    """``sum``: log-probability of the answer. ``mean``: per token, as SOUL, WAGLE and MU-Bench
    compute it; the weight then stays near 1 and the method is gradient ascent in practice."""

    def forget_term(self, forget: Labelled) -> Float[Tensor, ""]:
        """Return the mean over sequences, in nats / beta; lower means less likely than before."""
        reference = _given(forget.reference_nll, "reference")
        fallen = forget.sequence_sum(forget.nll - reference)  # -log(pi / pi_start)
        if self.reduction == "mean":
            fallen = fallen / forget.sequence.bincount(minlength=forget.num_sequences)
        return forget.sequence_mean(-2 / self.beta * functional.logsigmoid(self.beta * fallen))
