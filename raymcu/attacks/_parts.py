"""What treatments change of a model: its weights, where they are held, and its layers."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raymcu.errors import WorkError
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


def weights(scorer: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight by name, tied ones once, as the tensor that the model computes with."""
    seen: set[int] = set()
    for name, module, own in _parameters(scorer):
        held = _held(module, own)
        if held.is_floating_point() and held.data_ptr() not in seen:
            seen.add(held.data_ptr())
            yield name, held


def matrices(scorer: Any, *, convolutions: bool = False) -> Mapping[str, Tensor]:
    """Return the weights of linear layers as views (outputs, inputs), by name.

    As bitsandbytes takes them: not the head, not what is tied to an embedding. Experts that lie in
    one tensor are no linear layers.

    Args:
        scorer: The model.
        convolutions: Take those, too: (outputs, inputs · places).

    Raises:
        WorkError: ``no_target`` if there is none.
    """
    owners: dict[int, int] = {}
    for _, module, own in _parameters(scorer):
        weight = id(getattr(module, own))
        owners[weight] = owners.get(weight, 0) + 1
    head = set(scorer.head.modules())
    found = {}
    for name, module, own in _parameters(scorer):
        if own != "weight" or module in head or owners[id(module.weight)] > 1:
            continue
        if type(module).__name__ == "Conv1D":  # GPT-2's linear layer, which has its inputs first
            found[name] = _held(module, own).T
        elif _is_linear(module) or (convolutions and _is_convolution(module)):
            found[name] = _held(module, own).flatten(1)
    if not found:
        layer = "linear layer or convolution" if convolutions else "linear layer"
        more = "" if convolutions else "set convolutions = true if it has those, or "
        raise WorkError(
            "no_target",
            f"{type(scorer.model).__name__} has no {layer} but its head, so the attack would "
            f"change nothing: {more}leave it out.",
        )
    return found


def _parameters(scorer: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield name, owner and name within the owner of every weight; tied ones as often as held."""
    for name, module in scorer.model.named_modules():
        for own, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{name}.{own}" if name else own, module, own


def _held(module: Any, own: str) -> Tensor:
    """Return the tensor behind a weight; accelerate brings those that it spread from elsewhere."""
    weight = getattr(module, own)
    held: Tensor = module._hf_hook.weights_map[own] if weight.device.type == "meta" else weight.data
    return held


def _is_linear(module: Any) -> bool:
    """Whether a module is a linear layer; routers of experts are made of one but give more."""
    return isinstance(module, torch.nn.Linear) and type(module).__name__.endswith("Linear")


def _is_convolution(module: Any) -> bool:
    return isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)


def number_at(depth: float, layers: int) -> int:
    """Return how many layers a share of a model's depth is, at least one: ceil(depth · layers)."""
    return max(1, math.ceil(depth * layers - 1e-9))  # 0.1 · 30 is a little more than 3


@contextmanager
def hooked(module: Any, called: Any, *, before: bool = False) -> Iterator[None]:
    """Call a function after (or before) each run of a module; what it returns is taken instead.

    Args:
        module: A layer, or a body.
        called: Takes module, inputs and output; or before, module, inputs and what goes by name.
        before: When.
    """
    hook = (
        module.register_forward_pre_hook(called, with_kwargs=True)
        if before
        else module.register_forward_hook(called)
    )
    try:
        yield
    finally:
        hook.remove()


def states_of(output: Any) -> Tensor:
    """Return the states among what a layer gives."""
    states: Tensor = output[0] if isinstance(output, tuple | list) else output
    return states


def with_states(output: Any, states: Tensor) -> Any:
    """Return what a layer gives with other states in it."""
    if isinstance(output, tuple | list):
        return type(output)((states, *output[1:]))
    return states


def seed_of(*what: Any) -> int:
    """Return 32 bits that are the same for the same words and numbers on every machine."""
    return int.from_bytes(hashlib.sha256(json.dumps(what).encode()).digest()[:4], "big")
