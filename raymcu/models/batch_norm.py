"""Statistics of batch normalisation, which no average of weights has: they are computed anew.

Garipov et al. 2018, arXiv:1802.10026, section 4 and their code's `update_bn`: at every point of a
curve one pass over training data in training mode. Without it every barrier of a ResNet is that of
statistics which fit neither end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def layers_of(model: nn.Module) -> list[_BatchNorm]:
    """Return the layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def statistics_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics by name: what a training moves besides weights."""
    return {
        f"{name}.{own}" if name else own: held
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
        for own, held in module.named_buffers(recurse=False)
    }


@torch.no_grad()
def compute_statistics(scorer: Any, items: Sequence[Any], batch: int) -> None:
    """Compute the running statistics anew, in place: their mean over batches, each alike.

    All else is in evaluation mode, so nothing is drawn: the same bits for the same items.

    Args:
        scorer: A model with its weights in place.
        items: In a fixed order; what does not fill a batch at the end is left out unless it is all.
        batch: Items of a batch.
    """
    layers = layers_of(scorer)
    if not layers:
        return
    whole = len(items) - len(items) % batch or len(items)
    with _only(scorer, layers):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for the mean of all batches so far
        for start in range(0, whole, batch):
            piece = scorer.collate(items[start : min(start + batch, whole)])
            scorer(piece.inputs, piece.row, piece.column)


@contextmanager
def _only(scorer: nn.Module, layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Put these layers alone in training mode; put back their momentum and all modes."""
    was_training = scorer.training
    momenta = [layer.momentum for layer in layers]
    scorer.eval()
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        scorer.train(was_training)
