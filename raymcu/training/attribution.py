"""What gradients of the plain loss say of the start model: update masks, and difficult rows."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from raymcu.masks._base import UpdateMask, threshold
from raymcu.methods._logits import nll, read
from raymcu.models.causal_lm import local
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.training.frozen import Frozen
from raymcu.training.reference import logits_of
from raymcu.training.working import computing


def freeze(
    mask: UpdateMask,
    scorer: Scorer,
    weights: Mapping[str, Tensor],
    forget: Sequence[Sequence[Encoded]],
    retain: Sequence[Sequence[Encoded]],
    add: Callable[[Tensor], Tensor],
) -> Frozen:
    """Find the weights that an update mask keeps from moving.

    Args:
        mask: Scores weights by their gradients.
        scorer: The start model, perhaps sharded; every worker sees all batches.
        weights: Those that are ranked, all of them together.
        forget: Batches of the forget set.
        retain: Batches of the retain set.
        add: Sums an int64 tensor over all workers.
    """
    on_forget = loss_gradients(scorer, weights, forget)
    on_retain = loss_gradients(scorer, weights, retain) if mask.needs_retain else {}

    def score(name: str) -> Tensor:
        return mask.scores(local(weights[name].detach()), on_forget[name], on_retain.get(name))

    total = sum(weight.numel() for weight in weights.values())
    bound = 0.0
    if mask.keep < 1:
        bound = threshold(lambda: map(score, weights), mask.count(total), add)
    return Frozen(weights, {name: mask.movable(score(name), bound) for name in weights})


def loss_gradients(
    scorer: Scorer, weights: Mapping[str, Tensor], batches: Sequence[Sequence[Encoded]]
) -> dict[str, Tensor]:
    """Return the sum over batches of the gradient of the mean NLL per token, by weight.

    Of sharded weights, this worker's shards.
    """
    was_training = scorer.training
    scorer.eval()
    for batch in batches:
        torch.autograd.backward(_nll(scorer, batch))
    scorer.train(was_training)
    found = {}
    for name, weight in weights.items():
        whole = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        found[name] = local(whole).detach()
        weight.grad = None
    return found


def gradient_square(scorer: Scorer, weights: Mapping[str, Tensor], row: Encoded) -> float:
    """Return the squared norm of the gradient of one sequence's mean NLL per token.

    Of sharded weights, of this worker's shards.
    """
    gradients = loss_gradients(scorer, weights, [[row]])
    return float(torch.stack([g.double().square().sum() for g in gradients.values()]).sum())


def _nll(scorer: Scorer, batch: Sequence[Encoded]) -> Tensor:
    piece = scorer.collate(batch)
    with computing(scorer):
        states = scorer(piece.inputs, piece.row, piece.column, None, False)
        return read(logits_of(scorer, states), nll, piece.labels).mean()
