"""How large the gradient of an answer's loss is (GradNorm), answer by answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from raymcu.methods._logits import wide
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer


def gradient_norms(scorer: Scorer, rows: Sequence[Encoded]) -> list[float]:
    """Return each row's mean over the weights' tensors of the 2-norm of its loss's gradient.

    The loss is the mean NLL per answer token. The smaller the norm, the better an answer is fitted,
    which is what the membership attack GradNorm goes by (Wang et al. 2024, arXiv:2402.17012;
    OpenUnlearning). A tied weight is one tensor; those that the loss does not reach do not count.

    The model is asked in evaluation mode, and left in the mode and with the ``grad`` and
    ``requires_grad`` it had. Each distinct row costs a forward and a backward pass of its own, and
    memory for one gradient of all weights.

    Args:
        scorer: The model; its weights may be closed to gradients.
        rows: Questions with one answer each.

    Returns:
        One norm per row, in nats per unit of weight; not finite where the loss is not.
    """
    weights = [weight for weight in scorer.parameters() if weight.is_floating_point()]
    with differentiable(scorer, weights):
        found = {row: _mean_norm(_loss(scorer, row), weights) for row in dict.fromkeys(rows)}
    return [found[row] for row in rows]


@contextmanager
def differentiable(scorer: Scorer, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Open weights of a model in evaluation mode to gradients; then leave all as it was."""
    was_training = scorer.training
    were_open = [weight.requires_grad for weight in weights]
    scorer.eval()
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for weight, was_open in zip(weights, were_open, strict=True):
            weight.requires_grad_(was_open)
        scorer.train(was_training)


def _loss(scorer: Scorer, row: Encoded) -> Tensor:
    one = scorer.collate([row])
    logits = scorer(one.inputs, one.row, one.column)
    return nn.functional.cross_entropy(wide(logits), one.labels)


def _mean_norm(loss: Tensor, weights: Sequence[nn.Parameter]) -> float:
    gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, weights, allow_unused=True)
    norms = [torch.linalg.vector_norm(wide(g)).double() for g in gradients if g is not None]
    return float(torch.stack(norms).mean())
