"""Fine-tuning: descent alone. Learns the original model, and forgets by neglect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from raymcu.methods._base import METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("finetune", source="FT in Jia et al. 2023, arXiv:2304.04934")
class Finetune(Method):
    """Descend on the retain set: L = mean NLL over all its answer tokens.

    With the full set in place of the retain set this is how original models are trained.
    """

    retain: Literal["nll", "kl"] = "nll"
    """Retain term; it is all there is, so it cannot be left out."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return nothing: the forget set is not used."""
        return {}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Never called."""
        raise AssertionError("finetune has no forget term")
