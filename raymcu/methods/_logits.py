"""Logits that are made where they are read, some positions at a time, and again to go backward.

What a method reads of logits is a number for each position, told from the logits of that position
alone, so no tensor of all positions and a large vocabulary is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float, Int
    from torch import Tensor

SMALL = 2**13
"""Entries of a vocabulary whose logits are all made at once: as all were when ids of trainings in
float32 did not yet say that theirs are made in chunks, see `Recipe.is_chunked`."""
AT_ONCE = 2**24
"""Logits of a larger one that are made at once: 64 MiB in float32. Part of the bits of a head's
gradient, so it depends on nothing else; where all positions fit, nothing is computed twice."""


@dataclass(frozen=True)
class Logits:
    """The logits of some positions, not made yet."""

    states: Float[Tensor, "positions width"]
    """What the head reads."""
    head: Callable[[Tensor], Tensor]
    """Turns states into logits, each position by itself; scale, cap and precision included."""
    num_classes: int
    linear: Any = None
    """The head as a linear layer, where it is one and nothing more: no scale, cap or adapter."""

    @classmethod
    def of(cls, made: Float[Tensor, "positions classes"]) -> Logits:
        """Return logits that are made already."""
        return cls(made, _as_they_are, made.shape[-1])

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, chosen: Any) -> Logits:
        """Return those of some positions: a slice, or which of them as booleans."""
        return Logits(self.states[chosen], self.head, self.num_classes, self.linear)

    def whole(self) -> Float[Tensor, "positions classes"]:
        """Make all of them."""
        return self.head(self.states)


def at_once(num_classes: int) -> int:
    """Return of how many positions logits are made at once, by the vocabulary alone."""
    return 2**62 if num_classes <= SMALL else max(1, AT_ONCE // num_classes)


def read(
    logits: Logits,
    of: Callable[..., Float[Tensor, " positions"]],
    *along: Tensor | Logits,
) -> Float[Tensor, " positions"]:
    """Return what a function says of each position's logits.

    Args:
        logits: Of the model that is trained.
        of: Told the logits of some positions, in float32 at least, and what goes along with them;
            returns a number for each. It draws nothing: in the backward pass it is called again.
        along: Tensors whose first dimension is the positions, and other models' logits.
    """
    rows, count = at_once(logits.num_classes), len(logits)

    def piece(states: Tensor, *given: Tensor) -> Tensor:
        there = [
            wide(one.head(own)) if isinstance(one, Logits) else own
            for one, own in zip(along, given, strict=True)
        ]
        return of(wide(logits.head(states)), *there)

    tensors = [logits.states, *(x.states if isinstance(x, Logits) else x for x in along)]
    if not count:
        return wide(logits.states).new_zeros(0)
    if count <= rows:
        return piece(*tensors)
    if of is nll and logits.linear is not None:
        (labels,) = along
        return _linear_nll(logits, labels, rows)
    again: Any = torch.utils.checkpoint.checkpoint
    how = {"use_reentrant": False, "preserve_rng_state": False}
    cuts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    if of is nll:
        return torch.cat([again(_thrifty_nll(logits.head), *cut, **how) for cut in cuts])
    return torch.cat([again(piece, *cut, **how) for cut in cuts])


def nll(
    logits: Float[Tensor, "positions classes"],
    labels: Int[Tensor, " positions"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, " positions"]:
    """Return -log p of each label in nats, of smoothed labels if asked."""
    how: Any = {"reduction": "none", "label_smoothing": label_smoothing}
    return torch.nn.functional.cross_entropy(logits, labels, **how)


def _thrifty_nll(head: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `nll` of what a head makes, for one chunk, in fewer passes through its logits.

    What the first pass found of them, the log of their sum, the second need not find again. Equal
    to 1e-6.
    """
    known: list[Tensor] = []

    class Nll(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
            if not known:
                known.append(logits.logsumexp(-1))
            ctx.save_for_backward(logits, labels)
            at = labels.clamp(min=0)[:, None]
            return (known[0] - logits.gather(1, at)[:, 0]).where(labels >= 0, 0)

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
            logits, labels = ctx.saved_tensors
            slope = slope.where(labels >= 0, 0)[:, None]
            found = (logits - known[0][:, None]).exp_().mul_(slope)
            return found.scatter_add_(1, labels.clamp(min=0)[:, None], -slope), None

    def of(states: Tensor, labels: Tensor) -> Tensor:
        made: Any = Nll.apply
        values: Tensor = made(wide(head(states)), labels)
        return values

    return of


def _linear_nll(logits: Logits, labels: Any, rows: int) -> Tensor:
    """Return `nll` of what a linear layer makes, in chunks that are written over in place.

    Like `_thrifty_nll`, and what each chunk adds to the layer's gradient is added up in float32, in
    one place. There is no second derivative.
    """
    weight, bias = logits.linear.weight, logits.linear.bias
    kind = torch.promote_types(weight.dtype, torch.float32)

    def made(states: Tensor) -> Tensor:
        product: Tensor = torch.nn.functional.linear(states, weight, bias).to(kind)
        return product

    class Nll(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, states: Tensor, labels: Tensor, *own: Tensor) -> Tensor:
            del own
            sums, values = (
                torch.empty(len(states), dtype=kind, device=states.device) for _ in "ab"
            )
            for cut in _cuts(len(states), rows):
                chunk, at = made(states[cut]), labels[cut].clamp(min=0)[:, None]
                values[cut] = chunk.gather(1, at)[:, 0]
                largest = chunk.amax(-1, keepdim=True)
                sums[cut] = chunk.sub_(largest).exp_().sum(-1).log_() + largest[:, 0]
            ctx.save_for_backward(states, labels, sums)
            return (sums - values).where(labels >= 0, 0)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
            states, labels, sums = ctx.saved_tensors
            slope = slope.where(labels >= 0, 0)[:, None]
            needed = ctx.needs_input_grad[2:]
            of_states = torch.empty_like(states)
            sized: Any = {"dtype": kind, "device": states.device}
            of_own = [
                torch.zeros(w.shape, **sized) if is_needed else None
                for w, is_needed in zip((weight, bias), needed, strict=False)
            ]
            for cut in _cuts(len(states), rows):
                chunk = made(states[cut]).sub_(sums[cut, None]).exp_().mul_(slope[cut])
                chunk.scatter_add_(1, labels[cut].clamp(min=0)[:, None], -slope[cut])
                half = chunk.to(weight.dtype)
                torch.mm(half, weight, out=of_states[cut])
                if of_own[0] is not None and half.dtype == kind:
                    of_own[0].addmm_(half.T, states[cut])
                elif of_own[0] is not None:
                    of_own[0] += half.T @ states[cut]
                if len(of_own) > 1 and of_own[1] is not None:
                    of_own[1] += chunk.sum(0)
            return of_states, None, *(None if g is None else g.to(weight.dtype) for g in of_own)

    find: Any = Nll.apply
    own = [one for one in (weight, bias) if one is not None]
    found: Tensor = find(logits.states.to(weight.dtype), labels, *own)
    return found


def _cuts(count: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, count, rows)]


def wide(values: Tensor) -> Tensor:
    """Return values in float32 at least: losses are never computed in half precision."""
    return values.float() if values.dtype.itemsize < 4 else values


def _as_they_are(made: Tensor) -> Tensor:
    return made
