"""How a causal LM is built: its body, its layers and its head, told from its modules.

No family is known by name. The layers are the longest list of modules that lies in no other list;
the body is what turns tokens into the states that the head reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from raymcu.errors import ConfigError


@dataclass(frozen=True)
class Anatomy:
    """Names of modules within a model."""

    body: str
    """Turns tokens into final states."""
    layers: str
    """List of the decoder's layers, first to last."""
    head: str
    """Turns final states into logits, but for what the config scales or caps."""

    @classmethod
    def of(cls, model: Any) -> "Anatomy":
        """Look at a model, whose weights may be empty.

        Raises:
            ConfigError: If it has no layers, or no head.
        """
        decoder = model.get_decoder()
        names = {id(module): name for name, module in model.named_modules()}
        inside = names.get(id(decoder), "")
        lists = dict(_lists(decoder, inside)) or dict(_lists(model, ""))
        last = model.get_output_embeddings()
        if not lists or last is None:
            lacks = "output embedding" if lists else "list of layers"
            raise ConfigError(
                f"model.path: {type(model).__name__} has no {lacks} that raymcu could find. "
                "Use a causal LM that is a stack of layers with a head."
            )
        layers = max(lists, key=lambda name: len(lists[name]))
        is_around = inside and layers.startswith(f"{inside}.")
        return cls(
            inside if is_around else layers.partition(".")[0],
            layers,
            names[id(last)].partition(".")[0],
        )


def _lists(module: nn.Module, name: str) -> Iterator[tuple[str, nn.ModuleList]]:
    """Yield the lists of modules that lie in no other list, by name."""
    for own, child in module.named_children():
        full = f"{name}.{own}" if name else own
        if isinstance(child, nn.ModuleList):
            yield full, child
        else:
            yield from _lists(child, full)


def mlp_outputs(model: Any) -> dict[str, str]:
    """Return Llama's name for each weight through which a layer's MLP writes into its states.

    That is the last matrix of a layer, attention and state-space mixers aside where there is more,
    with as many outputs as the states are wide; and what is called the same beside it, as with
    experts. In Llama it is ``model.layers.N.mlp.down_proj.weight``.

    Returns:
        By the weight's own name.
    """
    layers = Anatomy.of(model).layers
    width = model.config.get_text_config().hidden_size
    found: dict[str, str] = {}
    for number, layer in enumerate(model.get_submodule(layers)):
        names = [
            f"{owner}.{own}" if owner else own
            for owner, module in layer.named_modules()
            for own, weight in module.named_parameters(recurse=False)
            if _writes(module, weight, width)
        ]
        names = [n for n in names if not any(w in _part(n) for w in _MIXERS)] or names
        for name in names:
            if (_part(name), _word(name)) == (_part(names[-1]), _word(names[-1])):
                found[f"{layers}.{number}.{name}"] = f"model.layers.{number}.mlp.down_proj.weight"
    return found


_MIXERS = ("attn", "attention", "mamba", "mixer")
"""Words in the names of a layer's parts that mix tokens."""


def _writes(module: nn.Module, weight: Tensor, width: int) -> bool:
    """Whether a matrix has that many outputs; the matrices of experts lie in one either way."""
    if weight.ndim == 2:  # GPT-2's has its inputs first
        return width == weight.shape[1 if isinstance(module, Conv1D) else 0]
    return weight.ndim == 3 and width in weight.shape[1:]


def _part(name: str) -> str:
    return name.partition(".")[0]


def _word(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]


def layer_states(output: Any) -> Tensor:
    """Return the states among what a decoder layer gives."""
    states: Tensor = output[0] if isinstance(output, tuple | list) else output
    return states
