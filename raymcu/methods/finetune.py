"""Fine-tuning: descent alone. Learns the original model, and forgets by neglect."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from raymcu.methods._base import METHODS, Labelled, Method


@METHODS.register("finetune", source="FT in Jia et al. 2023, arXiv:2304.04934")
class Finetune(Method):
    """Descend on the retain set: L = mean NLL over all its answer tokens.

    With the full set in place of the retain set this is how original models are trained.
    """

    uses_forget: ClassVar[bool] = False
    retain: Literal["nll", "kl"] = "nll"
    """Retain term; it is all there is, so it cannot be left out."""

    def forget_term(self, forget: Labelled) -> Float[Tensor, ""]:
        """Return nothing: the forget set is not used."""
        raise AssertionError("finetune has no forget term")
