"""Optimizers and learning-rate schedules, with states that fit into safetensors."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from raymcu.study.training_tables import Training
from raymcu.training.one_by_one import OneByOne, norm_of
from raymcu.training.second_order import FORMS, SignSGD, Sophia

_HEADS = ("embed", "lm_head", "wte", "wpe")
"""Words in the names of weights that Muon leaves to AdamW, whatever their shape."""


class Muon(torch.optim.Optimizer):
    """Muon with the Newton-Schulz iteration in float32 on CPUs.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the constants of torch.optim.Muon,
    which iterates in bfloat16: right on GPUs, but five times slower per training step on a CPU
    that has no bfloat16 units.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix along its orthogonalised Nesterov momentum."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                direction = orthogonalize(weight.grad.lerp(momentum, group["momentum"]))
                rows, columns = weight.shape
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with singular values near 1, by five Newton-Schulz steps.

    The quintic's coefficients are Muon's: they pull singular values into about [0.7, 1.2].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x.T if is_tall else x
    return found.to(matrix.dtype)


class Optimizer:
    """One or two torch optimizers over named weights, stepped together."""

    def __init__(self, weights: Mapping[str, Tensor], training: Training, seed: int = 0) -> None:
        self.weights = dict(weights)
        self.turns: OneByOne | None = None
        self.members: dict[str, Tensor] = self.weights
        """What the optimizers hold, by the names of the weights."""
        if training.offload or training.weights != "float32":
            how, offload = training.weights, training.offload
            self.turns = OneByOne(self.weights, how, is_offloaded=offload, seed=seed)
            self.members = dict(self.turns.stand_ins)
        self.use = training.optimizer
        self.name = self.use.resolved
        self.is_sampling = self.name == "sophia_g"
        matrices = [
            name
            for name, weight in self.weights.items()
            if self.name == "muon" and weight.ndim == 2 and not any(word in name for word in _HEADS)
        ]
        rest = [name for name in self.weights if name not in set(matrices)]
        self.parts: list[tuple[torch.optim.Optimizer, float]] = []
        if rest:
            made = self._make([self.members[name] for name in rest], training)
            self.parts.append((made, training.learning_rate))
        if matrices:
            peak = self.use.matrix_learning_rate
            muon = Muon([self.members[name] for name in matrices], peak, training.weight_decay)
            self.parts.append((muon, peak))

    def _make(self, weights: list[Tensor], training: Training) -> torch.optim.Optimizer:
        lr, decay, use = training.learning_rate, training.weight_decay, self.use
        match self.name:
            case "sgd":
                momentum, nesterov = use.momentum, use.nesterov
                return torch.optim.SGD(
                    weights, lr, momentum=momentum, weight_decay=decay, nesterov=nesterov
                )
            case "spsa":
                return torch.optim.SGD(weights, lr, weight_decay=decay)
            case "sign_sgd":
                return SignSGD(weights, lr, decay)
            case "adamw_8bit":
                from bitsandbytes.optim import AdamW8bit

                made: torch.optim.Optimizer = AdamW8bit(
                    weights, lr, use.betas or (0.9, 0.999), weight_decay=decay
                )
                return made
            case "sophia_g" | "soul":
                form = FORMS[self.name]
                scale = form.curvature_scale or 1.0  # sophia_g's comes with its samples
                betas, is_double = use.betas or form.betas, form.double_momentum
                return Sophia(weights, lr, betas, use.rho, decay, is_double, scale)
            case _:
                betas = use.betas or (0.9, 0.999)
                return torch.optim.AdamW(weights, lr, betas, weight_decay=decay, fused=True)

    def is_estimated(self, step: int) -> bool:
        """Say whether the gradient of a step, from 0, is to be estimated from losses alone."""
        every = {"spsa": 1, "alternating": self.use.zeroth_every}.get(self.name)
        return every is not None and (step + 1) % every == 0

    def samples_curvature(self, step: int) -> bool:
        """Say whether a step, from 0, begins with a look at the curvature."""
        return self.is_sampling and step % self.use.curvature_every == 0

    def update_curvature(self, factor: float = 1.0) -> None:
        """Take the weights' gradients, times a factor, for a sample of the curvature."""
        for optimizer, _ in self.parts:
            if isinstance(optimizer, Sophia):
                members = [w for group in optimizer.param_groups for w in group["params"]]
                optimizer.update_curvature(
                    [None if w.grad is None else w.grad * factor for w in members]
                )

    def step(self, factor: float, number: int = 0) -> None:
        """Update the weights with every learning rate at ``factor`` of its peak.

        ``number`` is the step, from 0: where weights are rounded by chance, their own.
        """
        if self.name == "soul":  # its curvature is that of the plain gradient, at every step
            self.update_curvature()
        for optimizer, peak in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            if self.turns is None:
                optimizer.step()
        if self.turns is not None:
            self.turns.step([optimizer for optimizer, _ in self.parts], number)

    def state(self) -> dict[str, Tensor]:
        """Return the state as full tensors named ``<weight>|<what>``; collective if sharded."""
        found = {}
        for key, value in self.held().items():
            full = value.full_tensor() if isinstance(value, DTensor) else value
            found[key] = torch.as_tensor(full).detach().cpu().contiguous()
        if self.name == "adamw_8bit":  # whose code lies once for all weights
            return {key: value.clone() for key, value in found.items()}
        return found

    def held(self) -> dict[str, Tensor]:
        """Return the state by the names of `state`, as this worker holds it: what is sharded is."""
        rest = {} if self.turns is None else self.turns.rest
        return {
            f"{name}|{what}": value
            for name, member in self.members.items()
            for optimizer, _ in self.parts
            for what, value in optimizer.state.get(member, {}).items()
        } | {f"{name}|rest": value for name, value in rest.items()}

    def make_room(self, key: str, shape: torch.Size, dtype: torch.dtype) -> None:
        """Make a tensor of the state that `held` then has, sharded as its weight if it is like it.

        Args:
            key: As in `state`.
            shape: Of the whole.
            dtype: Of it.
        """
        name, what = key.split("|")
        weight, member = self.weights[name], self.members[name]
        home = self._home(weight, len(shape))
        made = (
            torch.zeros_like(weight, dtype=dtype, device=home)
            if shape == weight.shape
            else torch.zeros(shape, dtype=dtype, device=home)
        )
        self._owner(member).state[member][what] = made.detach()

    def _home(self, weight: Tensor, ndim: int) -> torch.device:
        """Return where a state of a weight lies between steps; numbers lie beside the weight."""
        is_away = self.turns is not None and self.turns.is_offloaded and ndim > 0
        return torch.device("cpu") if is_away else weight.device

    def _owner(self, weight: Tensor) -> torch.optim.Optimizer:
        return next(
            optimizer
            for optimizer, _ in self.parts
            for group in optimizer.param_groups
            if any(weight is member for member in group["params"])
        )

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state that `state` returned."""
        for key, value in state.items():
            name, what = key.split("|")
            weight, member = self.weights[name], self.members[name]
            if self.turns is not None and what == "rest":
                self.turns.rest[name].copy_(value)
                continue
            if isinstance(weight, DTensor) and value.ndim:
                here: Tensor = distribute_tensor(
                    value.to(weight.device), weight.device_mesh, weight.placements
                )
            else:
                here = value.clone().to(self._home(weight, value.ndim))
                if here.shape == weight.shape:  # laid out alike, or fused steps are refused
                    like: Any = {"dtype": value.dtype, "device": here.device}
                    here = torch.empty_like(weight, **like).copy_(here)
            is_count = self.name == "adamw_8bit" and what == "step"
            self._owner(member).state[member][what] = int(value) if is_count else here


def clip(weights: Iterable[Tensor], bound: float) -> float:
    """Scale gradients down to a norm, of all of them together; 0 leaves them. Return the norm."""
    gradients = [weight for weight in weights if weight.grad is not None]
    if any(weight.dtype == torch.bfloat16 for weight in gradients):  # 8 bits are no sum
        found = norm_of([weight.grad for weight in gradients if weight.grad is not None])
        torch.nn.utils.clip_grads_with_norm_(gradients, bound or math.inf, found)
        return float(found)
    norm: Any = torch.nn.utils.clip_grad_norm_(gradients, bound or math.inf, foreach=None)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


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
    if training.schedule == "multi_step":  # but for what rounding leaves of a whole step
        passed = sum(step >= place * num_steps - 1e-6 for place in training.places)
        return float(0.1**passed)
    left = min(1.0, (num_steps - step) / max(1.0, num_steps - warmup))
    return 0.5 - 0.5 * math.cos(math.pi * left) if training.schedule == "cosine" else left
