"""Low-rank adapters (LoRA): put in before training, merged into the weights before saving.

Never interpolate A and B separately: B(t)·A(t) is not the interpolation of B·A. Every checkpoint
of the store is whole, so curves and blends never see an adapter.
"""

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from raymcu.errors import WorkError
from raymcu.study.training_tables import Lora

_UNSEEN = dict.fromkeys(
    ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"), ("out_proj", "dt_proj")
)
"""Linear layers that all-linear leaves out: their weights are taken past any adapter. The first is
refused by peft."""
_ADAPTER = re.compile(r"\.lora_(A|B)\.default(?=\.weight$)")


def inject(model: Any, lora: Lora) -> None:
    """Put adapters into a model in place; only they can be trained from then on.

    Raises:
        WorkError: If no layer is called as asked, or an adapter is asked for on a tied output
            embedding.
    """
    linear = {n: m for n, m in model.named_modules() if _is_linear(m)}
    head = model.get_output_embeddings()
    if head is None:  # a classifier: its last linear layer
        head = list(linear.values())[-1]
        is_tied = False
    else:
        is_tied = head.weight is model.get_input_embeddings().weight
    if lora.targets == "all-linear":  # as peft means it, but without its wrapper around the model
        unseen = _UNSEEN.get(model.config.model_type, ())
        chosen = [n for n, m in linear.items() if m is not head and not n.endswith(unseen)]
    else:
        chosen = [n for n in linear if any(f".{n}".endswith(f".{t}") for t in lora.targets)]
    if not chosen:
        raise WorkError(
            "no_target",
            f"lora.targets: no linear layer's name ends with {' or '.join(lora.targets)}. The "
            f"model has {', '.join(sorted({n.rpartition('.')[2] for n in linear}))}. Choose among "
            "them.",
        )
    of_head = next((name for name in chosen if linear[name] is head), None)
    if is_tied and of_head:
        raise WorkError(
            "tied_target",
            f"lora.targets names the output embedding ({of_head}), which this model shares with "
            "its input embedding: the merge would change both. Leave it out.",
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # it is only divided by the rank
        lora_dropout=lora.dropout,
        target_modules=[f"plain.{name}" for name in chosen],
    )
    # Wrapped, as peft makes adapters for experts, which lie in one tensor, of a model it knows.
    wrapped = nn.ModuleDict({"plain": model})
    with warnings.catch_warnings():  # peft sees for itself where inputs come first, and says so
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        inject_adapter_in_model(config, wrapped)
    for name, weight in model.named_parameters():
        if is_adapter(name):  # small, and trained: never in half precision
            weight.data = weight.data.float()


def _is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer; routers of experts are made of one but give more."""
    is_plain = isinstance(module, nn.Linear) and type(module).__name__.endswith("Linear")
    return is_plain or isinstance(module, Conv1D)


def is_adapter(name: str) -> bool:
    """Say whether a weight is an adapter's A or B."""
    return _ADAPTER.search(name) is not None


def base_name(name: str) -> str:
    """Return the plain model's name of a weight, or of the one that an adapter's A or B changes."""
    return _ADAPTER.sub("", name).replace(".base_layer.", ".")


def inputs_first(model: nn.Module) -> frozenset[str]:
    """Return the names in the plain model of weights that are (inputs, outputs)."""
    modules = model.named_modules()
    found = (name for name, module in modules if isinstance(module, Conv1D))
    return frozenset(base_name(f"{name}.weight") for name in found)


def merge(
    state: Mapping[str, Tensor],
    lora: Lora,
    dtype: torch.dtype = torch.float32,
    transposed: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return the weights of the plain model: W + alpha/rank · B·A, computed in float32.

    Args:
        state: Full tensors by the names of the model with adapters.
        lora: What was put in.
        dtype: Of the weights that carry an adapter; the others stay as they are.
        transposed: Names of those that are (inputs, outputs).
    """
    merged = {}
    for name, value in state.items():
        if is_adapter(name):
            continue
        plain = base_name(name)
        update = update_of(state, plain, lora, transposed)
        merged[plain] = value if update is None else (value.float() + update()).to(dtype)
    return merged


def update_of(
    state: Mapping[str, Tensor], plain: str, lora: Lora, transposed: Collection[str] = ()
) -> Callable[[], Tensor] | None:
    """Return what makes alpha/rank · B·A, in float32, of a weight; None if it has no adapter.

    Args:
        state: Full adapters by the names of the model with adapters.
        plain: The weight's name in the plain model.
        lora: What was put in.
        transposed: Names of weights that are (inputs, outputs).
    """
    stem = plain.removesuffix(".weight")
    down = state.get(f"{stem}.lora_A.default.weight")
    up = state.get(f"{stem}.lora_B.default.weight")
    if down is None or up is None:
        return None

    def make() -> Tensor:
        update = (up.float() @ down.float()).mul_(lora.alpha / lora.rank)
        return update.T if plain in transposed else update

    return make
