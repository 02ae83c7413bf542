"""Hidden states of answers, layer by layer, and how alike two models' are (linear CKA)."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raymcu.measurement.sharing import batches
from raymcu.models.anatomy import layer_states
from raymcu.models.encoding import Batch, Encoded
from raymcu.models.scorer import Scorer

_CONSTANT = 1e-6
"""States that vary by less of their size than this are constant but for rounding."""


@dataclass(frozen=True)
class Alike:
    """How alike the states of two models are, as table ``representations`` has it."""

    cka: float | None
    """Linear CKA, in [0, 1]."""
    cka_debiased: float | None
    """The same from unbiased estimates, in [-1, 1], near 0 for unrelated states."""
    num_states: int
    note: str | None = None
    """Why a value is None."""


def representations(
    scorer: Scorer, rows: Sequence[Encoded], batch_tokens: int, max_states: int
) -> list[Float[Tensor, "states hidden"]]:
    """Return each decoder layer's output, and the final states, at positions of the answers.

    The positions are those that predict an answer's tokens, at most ``max_states`` of them, evenly
    spaced over all answers in the order of ``rows``. They depend on the rows alone, so they are
    the same for all models.

    Args:
        scorer: The model.
        rows: Questions with one answer each; equal ones count once.
        batch_tokens: Tokens per forward pass, padding included.
        max_states: Positions at most; what is kept takes
            ``(layers + 1) · max_states · hidden · 4`` bytes.

    Returns:
        By layer from 0, the final states last: float32, on the CPU.
    """
    return _states_at(scorer, _chosen(list(dict.fromkeys(rows)), max_states), batch_tokens)


def end_states(
    scorer: Scorer, rows: Sequence[Encoded], batch_tokens: int, stop: Collection[int]
) -> list[Float[Tensor, "rows hidden"]]:
    """Return the same at the last token of each row's answer, in the order of the rows.

    Args:
        scorer: The model.
        rows: Questions with one answer each.
        batch_tokens: Tokens per forward pass, padding included.
        stop: Tokens that end an answer and are no part of its text.
    """
    chosen: dict[Encoded, list[tuple[int, int]]] = {}
    for number, row in enumerate(rows):
        ended = row if row.answer[-1] in stop else replace(row, answer=(*row.answer, min(stop)))
        chosen.setdefault(ended, []).append((len(ended.answer) - 1, number))
    return _states_at(scorer, chosen, batch_tokens)


@torch.no_grad()
def _states_at(
    scorer: Scorer, chosen: Mapping[Encoded, Sequence[tuple[int, int]]], batch_tokens: int
) -> list[Float[Tensor, "states hidden"]]:
    """Return states by layer where tokens of answers are predicted, in the order of numbers.

    Args:
        scorer: The model.
        chosen: By row the tokens of its answer, from 0, each with its number.
        batch_tokens: Tokens per forward pass, padding included.
    """
    device = next(scorer.parameters()).device
    caught: list[list[Tensor]] = [[] for _ in range(len(scorer.layers) + 1)]
    order: list[int] = []
    was_training = scorer.training
    scorer.eval()
    for batch in batches(chosen, batch_tokens):
        inputs = scorer.collate(batch)
        places, start = [], 0
        for row in batch:
            places += [start + at for at, _ in chosen[row]]
            order += [number for _, number in chosen[row]]
            start += len(row.answer)
        _catch(scorer, inputs, torch.tensor(places, device=device), caught)
    scorer.train(was_training)
    back = torch.tensor(order).argsort()
    return [torch.cat(states)[back] for states in caught]


def _chosen(rows: Sequence[Encoded], max_states: int) -> dict[Encoded, list[tuple[int, int]]]:
    """Choose positions in the rows' answers: by row, each from 0, with its number among all."""
    places = [(row, at) for row in rows for at in range(len(row.answer))]
    count = min(max_states, len(places))
    found: dict[Encoded, list[tuple[int, int]]] = {}
    for number in range(count):
        row, at = places[number * len(places) // count]
        found.setdefault(row, []).append((at, number))
    return found


def _catch(scorer: Scorer, inputs: Batch, places: Tensor, caught: list[list[Tensor]]) -> None:
    """Add every layer's states at some of a batch's labelled positions to ``caught``."""
    row, column = inputs.row[places], inputs.column[places]

    def keep(into: list[Tensor], states: Tensor) -> None:
        into.append(states.to("cpu", torch.float32))

    def hook(into: list[Tensor]) -> Any:
        def catch(module: nn.Module, given: Any, output: Any) -> None:
            del module, given
            keep(into, layer_states(output)[row, column])

        return catch

    hooks = [
        layer.register_forward_hook(hook(into))
        for layer, into in zip(scorer.layers, caught, strict=False)
    ]
    try:
        keep(caught[-1], scorer.hidden(inputs.inputs, row, column))
    finally:
        for one in hooks:
            one.remove()


def compare(x: Float[Tensor, "states one"], y: Float[Tensor, "states other"]) -> Alike:
    """Compare the states of two models at the same positions, by both kinds of linear CKA."""
    plain, debiased = linear_cka(x, y), debiased_cka(x, y)
    note = None
    if plain is None:
        is_finite = bool(x.isfinite().all() and y.isfinite().all())
        note = "the states are the same at all positions" if is_finite else "states are not finite"
    elif debiased is None:
        note = f"unbiased estimates need 4 states that differ, there are {len(x)}"
    return Alike(plain, debiased, len(x), note)


def linear_cka(x: Float[Tensor, "states one"], y: Float[Tensor, "states other"]) -> float | None:
    """Return linear CKA: |Y'X|² / (|X'X| · |Y'Y|), Frobenius norms of centred features.

    1 for equal states, whatever rotation and scale; about d/(n + d) for n unrelated ones of d
    features, so it is inflated where there are few states of many features. Kornblith et al. 2019,
    arXiv:1905.00414, table 1. Computed in float64.

    Returns:
        In [0, 1]; None if a model's states are all equal, or not finite.
    """
    one, other = _centred(x), _centred(y)
    if one is None or other is None:
        return None
    found = _product(one, other) / math.sqrt(_product(one, one) * _product(other, other))
    return min(found, 1.0)


def debiased_cka(x: Float[Tensor, "states one"], y: Float[Tensor, "states other"]) -> float | None:
    """Return linear CKA with the unbiased estimator of HSIC, free of the bias of few states.

    HSIC_1 of Song et al. 2012, JMLR 13, as Nguyen et al. 2021, arXiv:2010.15327, have it. It is an
    inner product of Gram matrices centred without their diagonals, so the ratio is in [-1, 1].
    Computed in float64.

    Returns:
        In [-1, 1]; None for fewer than 4 states, or if nothing but rounding is left of one's.
    """
    one, other = _centred(x), _centred(y)
    if one is None or other is None or len(x) < 4:
        return None
    scales = _unbiased(one, one), _unbiased(other, other)
    if min(scales) <= _CONSTANT**2:
        return None
    return max(-1.0, min(_unbiased(one, other) / math.sqrt(scales[0] * scales[1]), 1.0))


def _centred(states: Tensor) -> Tensor | None:
    """Return centred states of norm 1 in float64; None if there is nothing left to scale."""
    wide = states.double()
    centred = wide - wide.mean(0)
    size, left = float(torch.linalg.norm(wide)), float(torch.linalg.norm(centred))
    if not math.isfinite(size) or left <= _CONSTANT * size:
        return None
    return centred / left


def _product(x: Tensor, y: Tensor) -> float:
    """Return |Y'X|², the inner product of both Gram matrices, from the smaller of the products."""
    if len(x) < max(x.shape[1], y.shape[1]):
        return float((x @ x.T).mul_(y @ y.T).sum())
    return float((y.T @ x).square_().sum())


def _unbiased(x: Tensor, y: Tensor) -> float:
    """Return n(n-3) times the unbiased HSIC of features, from their Gram matrices' row sums."""
    n = len(x)
    on_diagonal = x.square().sum(1), y.square().sum(1)
    sums = x @ x.sum(0) - on_diagonal[0], y @ y.sum(0) - on_diagonal[1]
    trace = _product(x, y) - float(on_diagonal[0] @ on_diagonal[1])
    means = float(sums[0].sum() * sums[1].sum()) / ((n - 1) * (n - 2))
    return trace + means - 2 / (n - 2) * float(sums[0] @ sums[1])
