"""How sharply a loss bends around a model: top eigenvalue and trace of its Hessian.

Only products of the Hessian with vectors are computed: Lanczos takes them for the largest
eigenvalue (scipy's ARPACK), Hutchinson for the trace.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from raymcu.measurement.gradients import differentiable
from raymcu.methods._logits import wide

Reals = npt.NDArray[np.float64]
Product = Callable[[Reals], Reals]
"""A symmetric matrix as what it makes of vectors: (size,) to (size,)."""

_TOLERANCE = 1e-3
"""Relative error of the eigenvalue at which Lanczos ends."""
_ROWS = 8
"""Questions whose graph is held at once."""


@dataclass(frozen=True)
class Sharpness:
    """What is known of a Hessian, in nats per squared unit of weight."""

    top_eigenvalue: float | None
    trace: float | None
    trace_error: float | None
    """Standard error of the trace; None of one draw."""
    num_examples: int
    note: str | None


def top_eigenvalue(product: Product, size: int, seed: int = 0) -> float | None:
    """Return the largest eigenvalue of a symmetric matrix, by Lanczos; None if it finds none.

    Largest with its sign: where the matrix curves down in every direction it is negative.

    Args:
        product: The matrix.
        size: Its rows, at least 2.
        seed: Of the vector it begins with.
    """
    start = np.random.default_rng(seed).normal(size=size)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    try:
        (found,) = eigsh(operator, 1, which="LA", v0=start, tol=_TOLERANCE,
                         return_eigenvectors=False)  # fmt: skip
    except ArpackNoConvergence:
        return None
    return float(found)


def trace(product: Product, size: int, draws: int, seed: int = 0) -> tuple[float, float | None]:
    """Return the trace of a matrix and its standard error, by Hutchinson's estimator.

    The mean of v'Av over vectors of random signs: exact for a diagonal matrix.

    Args:
        product: The matrix.
        size: Its rows.
        draws: Vectors, each of which costs a product.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        signs = random.choice([-1.0, 1.0], size=size)
        found.append(float(signs @ product(signs)))
    error = float(np.std(found, ddof=1) / math.sqrt(draws)) if draws > 1 else None
    return float(np.mean(found)), error


def sharpness(scorer: Any, rows: Sequence[Any], draws: int) -> Sharpness:
    """Return how sharply the mean NLL per answer token, or per input, bends.

    The Hessian is over all weights, tied ones once, in evaluation mode. A product takes two
    passes back beside the one forth; memory for a few gradients of all weights, and in Lanczos 160
    bytes a weight. The model is left as it was.

    Args:
        scorer: The model.
        rows: Questions with one answer each, or inputs with a class each, as `collate` takes them.
        draws: Vectors for the trace.
    """
    weights = [weight for weight in scorer.parameters() if weight.is_floating_point()]
    size = sum(weight.numel() for weight in weights)

    def product(vector: Reals) -> Reals:
        return _product(scorer, rows, weights, vector)

    # Fused attention has no second derivative.
    with differentiable(scorer, weights), sdpa_kernel(SDPBackend.MATH):
        if not np.isfinite(product(np.ones(size))).all():
            return Sharpness(None, None, None, len(rows), "the Hessian is not finite")
        top = top_eigenvalue(product, size)
        mean, error = trace(product, size, draws)
    note = "Lanczos did not converge" if top is None else None
    return Sharpness(top, mean, error, len(rows), note)


def _product(
    scorer: Any, rows: Sequence[Any], weights: Sequence[nn.Parameter], vector: Reals
) -> Reals:
    """Multiply the Hessian by a vector, piece by piece of the rows."""
    parts = torch.split(torch.from_numpy(vector), [weight.numel() for weight in weights])
    along = [part.to(w.device, w.dtype).view_as(w) for part, w in zip(parts, weights, strict=True)]
    total = [torch.zeros_like(weight) for weight in weights]
    count = 0
    for start in range(0, len(rows), _ROWS):
        one = scorer.collate(rows[start : start + _ROWS])
        logits = wide(scorer(one.inputs, one.row, one.column))
        loss = nn.functional.cross_entropy(logits, one.labels, reduction="sum")
        count += len(one.labels)
        for held, more in zip(total, _times(loss, weights, along), strict=True):
            if more is not None:
                held += more
    flat = torch.cat([held.flatten().double().cpu() for held in total]) / count
    found: Reals = flat.numpy()
    return found


def _times(
    loss: Tensor, weights: Sequence[Tensor], along: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Return the product of a loss's Hessian with a vector, weight by weight; None where zero."""
    slopes: Sequence[Tensor | None] = torch.autograd.grad(
        loss, weights, create_graph=True, allow_unused=True
    )
    pairs = zip(slopes, along, strict=True)
    terms = [(slope * way).sum() for slope, way in pairs if slope is not None]
    slope = torch.stack(terms).sum()
    if not slope.requires_grad:  # the loss is linear
        return [None] * len(weights)
    found: Sequence[Tensor | None] = torch.autograd.grad(slope, weights, allow_unused=True)
    return found
