"""The training loop: one objective, one stream of steps, weights that move. No Ray.

The same loop trains an original model, unlearns, and finds the bend of a curve. It knows nothing
of methods but their loss, and nothing of sharding but a `Group` to sum over.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from raymcu.curves.blend import combine
from raymcu.errors import WorkError
from raymcu.methods._base import Labelled, Method

StepInputs = dict
from raymcu.models import Scorer, collate
from raymcu.search_space import Training
from raymcu.training.data import StepIndices, Stream
from raymcu.training.optimizers import Optimizer, local, schedule
from raymcu.training.reference import Reference


class Group(Protocol):
    """The workers that share one training."""

    @property
    def rank(self) -> int:
        """This worker, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all workers."""
        ...


@dataclass(frozen=True)
class Alone:
    """A group of one."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)


@dataclass
class Walk:
    """The curve whose bend is trained: the model's weights are a point of it at every step.

    Only the bend is private memory; both ends stay mapped from the store.
    """

    coefficients: Callable[[float], tuple[float, ...]]
    """t to coefficients of (first, bend, second)."""
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    bend: dict[str, Tensor]

    def place(self, weights: Mapping[str, Tensor], t: float) -> None:
        """Write phi(t) into the model in place."""
        c = self.coefficients(t)
        for name, weight in weights.items():
            terms = [(c[0], self.first[name]), (c[1], local(self.bend[name]))]
            combine(local(weight.detach()), [*terms, (c[2], self.second[name])])

    def pull_gradients(self, weights: Mapping[str, Tensor], t: float) -> None:
        """Move gradients from phi(t) to the bend by the chain rule, in place."""
        c = self.coefficients(t)[1]
        for name, weight in weights.items():
            if weight.grad is not None:
                self.bend[name].grad = weight.grad.mul_(c)
                weight.grad = None


@dataclass
class Progress:
    """Where a training stands; all it needs to go on, besides weights and optimizer."""

    step: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    is_finished: bool = False


class Loop:
    """One training, from wherever its progress says to its end.

    Args:
        scorer: The model, perhaps sharded.
        weights: What the loss is differentiated by: the model's trainable weights.
        methods: The objective is the mean of their losses.
        stream: Steps of forget and retain rows.
        training: Optimizer, budget and bounds.
        reference: What the start model said, where a method needs it.
        pad: Token to pad with.
        walk: Curve whose bend is trained in place of the weights; None trains the weights.
        dtype: ``bfloat16`` computes under autocast; weights stay float32.
        group: Workers that share the training.
    """

    def __init__(  # noqa: PLR0913 - the one place where all parts of a training meet
        self,
        *,
        scorer: Scorer,
        weights: Mapping[str, Tensor],
        methods: Sequence[Method],
        stream: Stream,
        training: Training,
        reference: Reference,
        pad: int,
        walk: Walk | None = None,
        dtype: str = "float32",
        group: Group | None = None,
    ) -> None:
        self.scorer = scorer
        self.weights = weights
        self.methods = methods
        self.stream = stream
        self.training = training
        self.reference = reference
        self.pad = pad
        self.walk = walk
        self.is_bfloat16 = dtype == "bfloat16"
        self.group = group or Alone()
        self.moved: Mapping[str, Tensor] = weights if walk is None else walk.bend
        self.optimizer = Optimizer(self.moved, training)
        self.num_steps = max(1, round(training.epochs * stream.steps_per_epoch))
        self.progress = Progress()
        self.device = next(iter(weights.values())).device

    def run(self) -> Iterator[Progress]:
        """Train, yielding after every step; the consumer may save, report, or stop reading.

        Raises:
            WorkError: ``diverged`` on a loss or gradient that is NaN, or a loss beyond
                ``max_abs_loss``.
        """
        self.scorer.train()
        progress = self.progress
        while progress.step < self.num_steps and not progress.is_finished:
            started = time.perf_counter()
            row = self._step(progress.step)
            progress.seconds += time.perf_counter() - started
            progress.history.append(row)
            progress.step += 1
            progress.epoch_losses.append(float(row["loss"] or 0.0))
            if progress.step % self.stream.steps_per_epoch == 0:
                mean = sum(progress.epoch_losses) / len(progress.epoch_losses)
                bound = self.training.until_loss
                progress.is_finished = bound is not None and mean < bound
                progress.epoch_losses = []
            yield progress
        progress.is_finished = True
        self.scorer.eval()

    def _step(self, number: int) -> dict[str, float | None]:
        torch.manual_seed(hash((self.stream.seed, number)) % 2**63)  # dropout, if the model has it
        rows = self.stream.step(number)
        t = None
        if self.walk is not None:
            t = self.stream.position(number)
            self.walk.place(self.weights, t)
        losses = self._backward(rows)
        loss, forget, retain = self.group.sum(losses)
        if not abs(loss) <= self.training.max_abs_loss:
            bound = f" (bound: {self.training.max_abs_loss:g}, training.max_abs_loss)"
            raise self._diverged(f"loss {loss:.6g}{bound}", number)
        if self.walk is not None and t is not None:
            self.walk.pull_gradients(self.weights, t)
        norm = self._clip()
        if not math.isfinite(norm):
            raise self._diverged(f"gradient norm {norm:.6g}", number)
        factor = schedule(number, self.num_steps, self.training)
        self.optimizer.step(factor)
        for weight in self.moved.values():
            weight.grad = None
        first = self.methods[0]
        return {
            "step": number + 1,
            "epoch": (number + 1) / self.stream.steps_per_epoch,
            "loss": loss,
            "forget_loss": forget if first.uses_forget else None,
            "retain_loss": retain if first.uses_retain else None,
            "learning_rate": self.training.learning_rate * factor,
            "gradient_norm": norm,
        }

    def _diverged(self, what: str, number: int) -> WorkError:
        where = f"at step {number + 1} of {self.num_steps}"
        advice = "Lower the learning rate or train for fewer epochs."
        return WorkError("diverged", f"{what} {where}. {advice}")

    def _backward(self, rows: StepIndices) -> list[float]:
        """Add up gradients over the pieces of this worker's share; return its loss sums."""
        size = max(len(rows.forget), len(rows.retain))
        share = -(-size // self.group.size)
        piece = min(self.training.micro_batch_size or share, share)
        sums = [0.0, 0.0, 0.0]
        for start in range(0, share, piece):
            own = range(size)[self.group.rank :: self.group.size][start : start + piece]
            # Every worker makes as many passes as the others, or a sharded model would hang.
            is_empty = not own
            picked = [0] if is_empty else list(own)
            inputs = StepInputs(
                self._labelled(rows.forget, picked, is_forget=True),
                self._labelled(rows.retain, picked, is_forget=False),
            )
            parts = [method.loss(inputs) for method in self.methods]
            scale = 0.0 if is_empty else 1 / len(parts)
            total = torch.stack([part.total for part in parts]).sum() * scale
            torch.autograd.backward(total * self.group.size)  # FSDP averages over workers
            sums[0] += float(total.detach())
            for place, terms in ((1, [p.forget for p in parts]), (2, [p.retain for p in parts])):
                sums[place] += sum(float(x.detach()) * scale for x in terms if x is not None)
        return sums

    def _labelled(
        self, rows: Sequence[int], picked: Sequence[int], *, is_forget: bool
    ) -> Labelled | None:
        is_used = any(m.uses_forget if is_forget else m.uses_retain for m in self.methods)
        if not rows or not is_used:
            return None
        data = self.stream.forget if is_forget else self.stream.retain
        chosen = [rows[i] for i in picked]
        batch = collate([data[row] for row in chosen], self.pad, self.device)
        with self._autocast():
            logits = self.scorer(batch.input_ids, batch.row, batch.column)
            reference_logits = (
                None if is_forget else self.reference.logits_of(chosen, self.scorer, self.device)
            )
        return Labelled(
            logits=logits,
            labels=batch.labels,
            sequence=batch.row,
            num_sequences=len(chosen),
            total_positions=sum(len(data[row].answer) for row in rows),
            total_sequences=len(rows),
            reference_nll=self.reference.nll_of(chosen, self.device) if is_forget else None,
            reference_logits=reference_logits,
        )

    def _clip(self) -> float:
        bound = self.training.max_gradient_norm
        gradients = [w for w in self.moved.values() if w.grad is not None]
        norm: Any = torch.nn.utils.clip_grad_norm_(gradients, bound or math.inf, foreach=None)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.is_bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()
