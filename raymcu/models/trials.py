"""What a causal LM is tried at before its use: whether it takes what it is fed as it is meant."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raymcu.errors import ConfigError
from raymcu.models.anatomy import layer_states

if TYPE_CHECKING:
    from raymcu.models.scorer import Scorer

REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError,
             RuntimeError, TypeError, ValueError)  # fmt: skip
"""What a model raises that does not take what it is given."""


@torch.no_grad()
def try_out(scorer: "Scorer") -> None:
    """Compare a scorer with its model's own forward, and note what it takes: `Scorer.check`."""
    was_training = scorer.training
    scorer.eval()
    name = type(scorer.model).__name__
    ids = torch.arange(4, 10, device=scorer.device)[None]
    try:
        own = scorer(ids, torch.zeros_like(ids[0]), torch.arange(6, device=ids.device)).float()
        difference = (own - scorer.model(input_ids=ids).logits[0].float()).abs().max()
        outputs = _outputs(scorer, ids)
    except REFUSALS as error:
        raise ConfigError(
            f"model.path: {name} cannot be fed as raymcu feeds a causal LM ({short(error)}). "
            "Use another model."
        ) from error
    if not difference <= 1e-2 * own.abs().max():
        raise ConfigError(
            f"model.path: {name} changes its logits in a way raymcu does not know; its scores "
            "would be wrong. Please report the architecture."
        )
    holders = Counter(id(w) for layer in scorer.layers for w in set(layer.parameters()))
    if max(holders.values(), default=1) > 1:
        raise ConfigError(
            f"model.path: layers of {name} share weights, so no layer can be replaced by "
            "itself. Use another model."
        )
    if not is_close(scorer.all_states(ids)[0, :3], scorer.all_states(ids[:, :3])[0]):
        raise ConfigError(
            f"model.path: {name} sees tokens that come later, so it is no causal LM as it is "
            "configured. Use another one, or set is_decoder in config.json if that has it."
        )
    if (odd := next((n for n, one in enumerate(outputs) if one != [ids.shape]), None)) is not None:
        raise ConfigError(
            f"model.path: layer {odd} of {name} gives {outputs[odd] or 'nothing'} where one "
            f"state for each of {tuple(ids.shape)} tokens is due, so its layers cannot be read "
            "or compared. Use another model."
        )
    if not takes(lambda: _fed_trees(scorer, ids)):
        scorer.longest_shared = 0
    if not takes(lambda: _fed_padded(scorer, ids)):
        scorer.caching = "alone" if takes(lambda: _fed_alone(scorer, ids)) else "none"
    scorer.train(was_training)


def takes(feed: Callable[[], list[tuple[Tensor, Tensor]]], close: float = 1e-3) -> bool:
    """Whether states found in one way are those expected, and nothing is refused."""
    try:
        return all(is_close(found, expected, close) for found, expected in feed())
    except REFUSALS:
        return False


def is_close(found: Tensor, expected: Tensor, close: float = 1e-3) -> bool:
    """Whether states differ by rounding: by ``close`` of the largest, more in half precision."""
    close = close if expected.dtype.itemsize >= 4 else 5e-2
    return bool((found - expected).float().abs().max() <= close * expected.abs().max())


def short(error: Exception) -> str:
    """Return an error's first line, with its type where that says more."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _outputs(scorer: "Scorer", ids: Tensor) -> list[list[torch.Size]]:
    """Return the shapes of what each layer gives in a pass, but for the last dimension."""
    shapes: list[list[torch.Size]] = [[] for _ in scorer.layers]

    def noting(own: list[torch.Size]) -> Any:
        return lambda module, inputs, output: own.append(layer_states(output).shape[:-1])

    hooks = [
        layer.register_forward_hook(noting(own))
        for layer, own in zip(scorer.layers, shapes, strict=True)
    ]
    try:
        scorer.all_states(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _fed_trees(scorer: "Scorer", ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Feed two branches of a tree, beside each alone."""
    tree = [[4, 5, 6, 7, 8, 9]], [[0, 1, 2, 3, 2, 3]], [[6, 6, 4, 4, 6, 6]]
    branches = ([0, 1, 2, 3], [0, 1, 4, 5])
    return [
        (found[branch], scorer.all_states(ids[:, branch])[0])
        for found in scorer.tree_states(*map(torch.tensor, tree))
        for branch in branches
    ]


def _fed_padded(scorer: "Scorer", ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Feed two rows in pieces, one of them padded and the other dropped on the way."""
    mask = torch.ones(2, 6, dtype=torch.long, device=ids.device)
    mask[1, :2] = 0
    position = (mask.cumsum(1) - 1).clamp(min=0)
    rows, cache = torch.cat([ids, ids.roll(2)]), scorer.new_cache()
    scorer.extend(rows[:, :3], cache, mask[:, :3], position[:, :3])
    both = scorer.extend(rows[:, 3:5], cache, mask[:, :5], position[:, 3:5])
    cache.batch_select_indices(torch.tensor([1], device=ids.device))
    last = scorer.extend(rows[1:, 5:], cache, mask[1:], position[1:, 5:])
    first, second = scorer.all_states(ids)[0], scorer.all_states(ids[:, :4])[0]
    return [(both[0], first[3:5]), (both[1], second[1:3]), (last[0], second[3:])]


def _fed_alone(scorer: "Scorer", ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Feed a row's beginning at once and its end token by token."""
    cache = scorer.new_cache()
    pieces = [scorer.extend(p, cache) for p in (ids[:, :4], ids[:, 4:5], ids[:, 5:])]
    return [(torch.cat(pieces, dim=1), scorer.all_states(ids))]
