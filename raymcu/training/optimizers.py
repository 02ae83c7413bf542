"""Optimizers and learning-rate schedules, with states that fit into safetensors."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from raymcu.search_space import Training

_HEADS = ("embed", "lm_head", "wte", "wpe")
"""Words in the names of weights that Muon leaves to AdamW, whatever their shape."""


class Optimizer:
    """One or two torch optimizers over named weights, stepped together."""

    def __init__(self, weights: Mapping[str, Tensor], training: Training) -> None:
        self.weights = dict(weights)
        self.training = training
        matrices = [
            name
            for name, weight in self.weights.items()
            if training.optimizer == "muon"
            and weight.ndim == 2
            and not any(word in name for word in _HEADS)
        ]
        rest = [name for name in self.weights if name not in set(matrices)]
        self.parts: list[tuple[torch.optim.Optimizer, float]] = []
        if rest:
            adamw = torch.optim.AdamW(
                [self.weights[name] for name in rest],
                lr=training.learning_rate,
                betas=training.betas,
                weight_decay=training.weight_decay,
                fused=True,
            )
            self.parts.append((adamw, training.learning_rate))
        if matrices:
            muon = torch.optim.Muon(
                [self.weights[name] for name in matrices],
                lr=training.matrix_learning_rate,
                weight_decay=training.weight_decay,
            )
            self.parts.append((muon, training.matrix_learning_rate))

    def step(self, factor: float) -> None:
        """Update the weights with every learning rate at ``factor`` of its peak."""
        for optimizer, peak in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the state as full tensors named ``<weight>|<what>``; collective if sharded."""
        found = {}
        for name, weight in self.weights.items():
            for optimizer, _ in self.parts:
                for what, value in optimizer.state.get(weight, {}).items():
                    full = value.full_tensor() if isinstance(value, DTensor) else value
                    found[f"{name}|{what}"] = torch.as_tensor(full).detach().cpu().contiguous()
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state that `state` returned."""
        for key, value in state.items():
            name, what = key.split("|")
            weight = self.weights[name]
            owner = next(
                optimizer
                for optimizer, _ in self.parts
                for group in optimizer.param_groups
                if any(weight is member for member in group["params"])
            )
            if isinstance(weight, DTensor) and value.ndim:
                here: Tensor = distribute_tensor(
                    value.to(weight.device), weight.device_mesh, weight.placements
                )
            else:
                here = value.clone().to(weight.device)
            owner.state[weight][what] = here


def schedule(step: int, num_steps: int, training: Training) -> float:
    """Return the learning rate of a step as a fraction of its peak.

    Args:
        step: From 0.
        num_steps: Steps of the whole training.
        training: Warm-up fraction and shape.
    """
    warmup = training.warmup * num_steps
    if step + 1 < warmup:
        return (step + 1) / warmup
    if training.schedule == "constant":
        return 1.0
    return min(1.0, (num_steps - step) / max(1.0, num_steps - warmup))
