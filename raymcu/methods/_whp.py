"""Who's Harry Potter (WHP): a rule for answering with two models, not a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymcu.methods._logits import wide

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def suppressed_logits(
    base: Float[Tensor, "*shape classes"],
    reinforced: Float[Tensor, "*shape classes"],
    alpha: float = 1.0,
) -> Float[Tensor, "*shape classes"]:
    """Lower the logits that learning the forget set again has raised.

    Source: Eldan and Russinovich 2023, arXiv:2310.02238, eq. 1.

    Args:
        base: Logits of the start model.
        reinforced: Logits of the start model trained further on the forget set.
        alpha: How far to lower them, as a multiple of the rise; not negative.

    Returns:
        base - alpha · max(0, reinforced - base), in float32 at least.
    """
    return wide(base) - alpha * (wide(reinforced) - wide(base)).relu()
