"""Low-rank adapters (LoRA): put in before training, merged into the weights before saving.

Never interpolate A and B separately: B(t)·A(t) is not the interpolation of B·A. Every checkpoint
of the store is whole, so curves and blends never see an adapter.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from raymcu.errors import WorkError
from raymcu.study.training_tables import Lora

_ADAPTER = re.compile(r"\.lora_(A|B)\.default(?=\.weight$)")


def inject(model: Any, lora: Lora) -> None:
    """Put adapters into a model in place; only they can be trained from then on.

    Raises:
        WorkError: If an adapter is asked for on a tied output embedding.
    """
    head = model.get_output_embeddings()
    targets: Any = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    if targets == "all-linear":  # as peft means it, but without its wrapper around the model
        targets = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in model.named_modules()
                if type(module).__name__ == "Linear" and module is not head
            }
        )
    named = {name for name, module in model.named_modules() if module is head}
    is_tied = head.weight is model.get_input_embeddings().weight
    if is_tied and any(name.endswith(target) for name in named for target in targets):
        raise WorkError(
            "tied_target",
            f"lora.targets names the output embedding ({', '.join(sorted(named))}), which this "
            "model shares with its input embedding: the merge would change both. Leave it out.",
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # it is only divided by the rank
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        if _ADAPTER.search(name):  # small, and trained: never in half precision
            weight.data = weight.data.float()


def base_name(name: str) -> str:
    """Return the name of the weight that an adapter's A or B changes; other names as they are."""
    return _ADAPTER.sub("", name)


def merge(
    state: Mapping[str, Tensor], lora: Lora, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Return the weights of the plain model: W + alpha/rank · B·A, computed in float32.

    Args:
        state: Full tensors by the names of the model with adapters.
        lora: What was put in.
        dtype: Of the weights that carry an adapter; the others stay as they are.
    """
    merged = {}
    for name, value in state.items():
        if _ADAPTER.search(name):
            continue
        plain = name.replace(".base_layer.", ".")
        down = state.get(plain.removesuffix(".weight") + ".lora_A.default.weight")
        up = state.get(plain.removesuffix(".weight") + ".lora_B.default.weight")
        if down is not None and up is not None:
            update = (up.float() @ down.float()).mul_(lora.alpha / lora.rank)
            merged[plain] = (value.float() + update).to(dtype)
        else:
            merged[plain] = value
    return merged
