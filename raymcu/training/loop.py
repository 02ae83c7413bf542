"""The training loop: one objective, one stream of steps, weights that move. No Ray.

The same loop trains an original model, unlearns, and finds the bends of a curve. It knows nothing
of methods but their loss, and nothing of sharding but a `Group` to sum over.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from raymcu.curricula._base import Weighing
from raymcu.errors import WorkError
from raymcu.masks._base import Frozen
from raymcu.methods._base import Labelled, Method, Needs, Part, StepLoss, all_needs
from raymcu.models.causal_lm import local
from raymcu.models.encoding import Encoded, collate
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Training
from raymcu.training.averaging import MovingAverage
from raymcu.training.data import Stream
from raymcu.training.group import Alone, Group
from raymcu.training.material import Material, num_labelled
from raymcu.training.optimizers import Optimizer, schedule
from raymcu.training.reference import Reference
from raymcu.training.walk import Walk
from raymcu.training.zeroth_order import estimate


@dataclass
class Progress:
    """Where a training stands; all it needs to go on, besides weights and optimizer."""

    step: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    is_finished: bool = False
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """What methods (by number) and the curriculum (by part) carry from step to step."""
    effects: list[dict[str, Any]] = field(default_factory=list)
    """Rows of table ``g_effects``."""


@dataclass(frozen=True)
class _Losses:
    """The objective of a whole batch, and its two terms where it has them."""

    total: float
    forget: float | None
    retain: float | None
    own_retain: tuple[float, ...] = ()
    """The retain term of each method by itself; 0 where it has none."""


@dataclass(frozen=True)
class Batch:
    """The sequences of one step."""

    size: int
    """Questions, forget and retain ones counted once."""
    sequences: Mapping[Part, Sequence[Sequence[Encoded]]]
    """By part and question."""


@dataclass(frozen=True)
class Picked:
    """The questions of one piece."""

    questions: tuple[int, ...]
    is_real: bool
    """False for a pass that a worker without questions makes to keep pace."""


class Loop:
    """One training, from wherever its progress says to its end.

    Args:
        scorer: The model, perhaps sharded.
        weights: What the loss is differentiated by: the model's weights that may move.
        methods: The objective is the mean of their losses.
        stream: Steps of forget and retain rows.
        material: The sequences behind them.
        training: Optimizer, budget and bounds.
        reference: What the start model said, where a method needs it.
        pad: Token to pad with.
        walk: Curve whose bends are trained in place of the weights; None trains the weights.
        frozen: Weights that an update mask keeps from moving; None lets all move.
        superloss: Curriculum that weighs sequences; None weighs them alike.
        dtype: ``bfloat16`` computes under autocast; weights stay float32.
        group: Workers that share the training.
        observe: Asked for rows of ``g_effects`` before every step, which it must not change.
    """

    def __init__(  # noqa: PLR0913 - the one place where all parts of a training meet
        self,
        *,
        scorer: Scorer,
        weights: Mapping[str, Tensor],
        methods: Sequence[Method],
        stream: Stream,
        material: Material,
        training: Training,
        reference: Reference,
        pad: int,
        walk: Walk | None = None,
        frozen: Frozen | None = None,
        superloss: Weighing | None = None,
        dtype: str = "float32",
        group: Group | None = None,
        observe: Callable[["Loop", int], list[dict[str, Any]]] | None = None,
    ) -> None:
        self.scorer = scorer
        self.weights = weights
        self.methods = methods
        self.needs = all_needs(methods)
        self.stream = stream
        self.material = material
        self.training = training
        self.reference = reference
        self.pad = pad
        self.walk = walk
        self.frozen = frozen
        self.superloss = superloss
        self.is_bfloat16 = dtype == "bfloat16"
        self.group = group or Alone()
        self.observe = observe
        self.moved: Mapping[str, Tensor] = weights if walk is None else walk.movable(weights)
        self.average = MovingAverage(self.moved, training.average) if training.average else None
        self.optimizer = Optimizer(self.moved, training)
        self.num_steps = stream.num_steps(training.epochs)
        self.progress = Progress()
        self.device = next(iter(weights.values())).device

    def run(self) -> Iterator[Progress]:
        """Train, yielding after every step; the consumer may save, report, or stop reading.

        Weights are averaged, where asked, beside the training; after the last step the average
        takes their place.

        Raises:
            WorkError: ``diverged`` on a loss or gradient that is NaN, or a loss beyond
                ``max_abs_loss``; ``nothing_moved`` if the first step changes no weight.
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
        if self.average is not None:
            self.average.put_in(self.moved)
        self.scorer.eval()

    def _step(self, number: int) -> dict[str, float | None]:
        self._seed(number)
        batch = self._batch(number)
        t = None
        if self.walk is not None:
            t = self.stream.position(number)
            self.walk.place(t)
        if number == 0:
            self._begin(batch)
        if self.observe is not None:
            self.progress.effects += self.observe(self, number)
        if self.optimizer.samples_curvature(number):
            self._look_at_curvature(batch, t)
        if self.optimizer.is_estimated(number):
            losses = self._estimate(batch, number, t)
        else:
            losses = self._backward(batch, t)
        if not abs(losses.total) <= self.training.max_abs_loss:
            bound = f" (bound: {self.training.max_abs_loss:g}, training.max_abs_loss)"
            raise self._diverged(f"loss {losses.total:.6g}{bound}", number)
        norm = self._clip()
        if not math.isfinite(norm):
            raise self._diverged(f"gradient norm {norm:.6g}", number)
        if number == 0 and norm == 0:
            raise _unmoved()
        factor = schedule(number, self.num_steps, self.training)
        self._move(factor, number)
        is_epoch_end = (number + 1) % self.stream.steps_per_epoch == 0
        for place, method in enumerate(self.methods):
            memory = self.progress.memory[f"method {place}"]
            now = method.remember(memory, losses.own_retain[place], is_epoch_end=is_epoch_end)
            self.progress.memory[f"method {place}"] = dict(now)
        return {
            "step": number + 1,
            "epoch": (number + 1) / self.stream.steps_per_epoch,
            "loss": losses.total,
            "forget_loss": losses.forget,
            "retain_loss": losses.retain,
            "learning_rate": self.training.learning_rate * factor,
            "gradient_norm": norm,
        }

    def _seed(self, number: int) -> None:
        """Seed what a step draws beside its rows: dropout, sampled labels."""
        torch.manual_seed(hash((self.stream.seed, number)) % 2**63)

    def _begin(self, batch: Batch) -> None:
        """Set up what methods and the curriculum carry from step to step."""
        means = {
            part: self.reference.means[part]
            for part, needs in self.needs.items()
            if needs.reference_nll
        }
        for place, method in enumerate(self.methods):
            self.progress.memory[f"method {place}"] = dict(method.begin(means))
        if self.superloss is not None:
            found: dict[Part, list[float]] = {part: [0.0, 0.0] for part in self.needs}
            with torch.no_grad():
                for picked in self._pieces(batch):
                    for part in self.needs:  # an idle worker keeps pace, or the others wait
                        piece = self.labelled(part, batch, picked, self.needs[part])
                        losses = self._sequence_losses(part, piece, batch, picked)
                        found[part][0] += float(losses.sum()) * picked.is_real
                        found[part][1] += len(losses) * picked.is_real
            for part, sums in found.items():
                total, count = self.group.sum(sums)
                mean = torch.tensor([total / count], dtype=torch.float64)
                self.progress.memory[_key(part)] = dict(self.superloss.begin(mean))

    def _move(self, factor: float, number: int) -> None:
        """Let the optimizer move what may move, and the average follow."""
        if self.frozen is not None:
            self.frozen.mask_gradients(self.moved)
        before = _sampled(self.moved) if number == 0 else None
        self.optimizer.step(factor)
        if self.frozen is not None:
            self.frozen.restore(self.moved)
        for weight in self.moved.values():
            weight.grad = None
        if before is not None:
            moved = sum(not torch.equal(flat[places], values) for flat, places, values in before)
            if self.group.sum([float(moved)])[0] == 0:
                raise _unmoved()
        if self.average is not None:
            is_last = number + 1 == self.num_steps  # where an epoch may be cut short
            is_epoch_end = is_last or (number + 1) % self.stream.steps_per_epoch == 0
            self.average.follow(self.moved, is_epoch_end=is_epoch_end)

    def _diverged(self, what: str, number: int) -> WorkError:
        where = f"at step {number + 1} of {self.num_steps}"
        advice = "Lower the learning rate or train for fewer epochs."
        return WorkError("diverged", f"{what} {where}. {advice}")

    def _batch(self, number: int) -> Batch:
        rows = self.stream.step(number)
        epoch = number // self.stream.steps_per_epoch
        return Batch(
            max(len(rows.forget), len(rows.retain)),
            {
                part: [self.material.sequences(part, row, epoch) for row in rows.of(part.questions)]
                for part in self.needs
            },
        )

    def _pieces(self, batch: Batch) -> Iterator[Picked]:
        """Yield the questions of this worker's share, as many at once as fit.

        Every worker makes as many passes as the others, or a sharded model would hang.
        """
        share = -(-batch.size // self.group.size)
        piece = min(self.training.micro_batch_size or share, share)
        for start in range(0, share, piece):
            own = range(batch.size)[self.group.rank :: self.group.size][start : start + piece]
            yield Picked(tuple(own) or (0,), bool(own))

    def _backward(self, batch: Batch, t: float | None = None) -> _Losses:
        """Add up gradients over the pieces of this worker's share; return the batch's losses."""
        slope = self._slope(t)
        losses = self._evaluate(batch, lambda loss: torch.autograd.backward(loss * slope))
        if self.walk is not None and t is not None:
            self.walk.take_gradients(t)
        return losses

    def _slope(self, t: float | None) -> float:
        return 1.0 if self.walk is None or t is None else self.walk.slope(t)

    def _estimate(self, batch: Batch, number: int, t: float | None) -> _Losses:
        """Estimate the gradient from losses alone; return those at the last place tried.

        A curriculum does not learn from them: a difference needs two losses of equal weights.
        """
        losses = _Losses(0.0, None, None)

        def loss() -> float:
            nonlocal losses
            self._seed(number)  # the same dropout on both sides of a difference
            _drop_gathered(self.scorer)
            if self.walk is not None and t is not None:
                self.walk.place(t)
            losses = self._evaluate(batch, lambda _: None, remembers=False)
            return losses.total

        how = self.training.optimizer
        mean = estimate(
            self.moved,
            loss,
            seed=self.stream.seed,
            step=number,
            scale=how.perturbation,
            num_directions=how.directions,
        )
        return replace(losses, total=mean)

    def _evaluate(
        self, batch: Batch, use: Callable[[Tensor], None], *, remembers: bool = True
    ) -> _Losses:
        """Compute the loss piece by piece, hand each to ``use``, and return the batch's."""
        found: list[StepLoss] = []
        scales: list[float] = []
        seen: dict[Part, Tensor] = {}
        for picked in self._pieces(batch):
            parts = self.losses(batch, picked, seen)
            scale = picked.is_real / len(parts)
            objective = torch.stack([part.total for part in parts]).sum() * scale
            use(objective * self.group.size)  # FSDP averages over workers
            found += [part.detached() for part in parts]
            scales += [scale] * len(parts)
        if self.superloss is not None and remembers:
            for part, told in seen.items():
                loss_sum, weight_sum, count = self.group.sum(told.tolist())
                past = self.progress.memory[_key(part)]
                now = self.superloss.remember(past, loss_sum, weight_sum, int(count))
                self.progress.memory[_key(part)] = dict(now)
        forget, retain = [one.forget for one in found], [one.retain for one in found]
        count = len(self.methods)
        own = [_weighted(retain[i::count], scales[i::count]) * count for i in range(count)]
        terms = ([one.total for one in found], forget, retain)
        sums = self.group.sum([*(_weighted(values, scales) for values in terms), *own])
        has = [any(value is not None for value in values) for values in terms]
        known = [value if is_there else None for value, is_there in zip(sums, has, strict=False)]
        return _Losses(sums[0], known[1], known[2], tuple(sums[3:]))

    def losses(
        self, batch: Batch, picked: Picked, seen: dict[Part, Tensor] | None = None
    ) -> list[StepLoss]:
        """Return each method's loss of a piece; count in ``seen`` what a curriculum learns."""
        told = {} if seen is None else seen
        step = {
            part: self._weighed(
                part, self.labelled(part, batch, picked, needs), batch, picked, told
            )
            for part, needs in self.needs.items()
        }
        memory = self.progress.memory
        return [m.loss(step, memory[f"method {i}"]) for i, m in enumerate(self.methods)]

    def _weighed(
        self, part: Part, piece: Labelled, batch: Batch, picked: Picked, seen: dict[Part, Tensor]
    ) -> Labelled:
        """Give a piece the curriculum's weights; add up what it will have learned from it."""
        if self.superloss is None:
            return piece
        losses = self._sequence_losses(part, piece, batch, picked)
        weights = self.superloss.weights(losses, self.progress.memory[_key(part)])
        sums = torch.stack([losses.sum().cpu(), weights.sum().cpu(), torch.tensor(len(losses))])
        seen[part] = seen.get(part, torch.zeros(3)).double() + sums.double() * picked.is_real
        return replace(piece, weights=weights)

    def _sequence_losses(self, part: Part, piece: Labelled, batch: Batch, picked: Picked) -> Tensor:
        """Return the mean NLL per token of each sequence: what a curriculum calls its loss."""
        if part.read != "prediction":  # its logits predict other tokens: another pass has the loss
            plain = replace(part, read="prediction")
            same = replace(batch, sequences={plain: batch.sequences[part]})
            with torch.no_grad():
                piece = self.labelled(plain, same, picked, Needs())
        return (piece.sequence_sum(piece.nll) / piece.lengths).detach()

    def _look_at_curvature(self, batch: Batch, t: float | None) -> None:
        """Estimate the Gauss-Newton diagonal from labels sampled from the model (Sophia-G).

        The estimator is n · g², g the gradient of the mean NLL of the n sampled labels.
        """
        total = 0
        for picked in self._pieces(batch):
            parts = [self.labelled(p, batch, picked, needs) for p, needs in self.needs.items()]
            total = sum(part.total_positions for part in parts)  # the same in every piece
            losses = []
            for part in parts:
                log_probs = part.log_probs[part.labels >= 0]  # padding is not drawn for
                labels = torch.multinomial(log_probs.detach().exp(), 1)
                losses.append(-log_probs.gather(1, labels).sum())
            scale = self._slope(t) * self.group.size / total * picked.is_real
            torch.autograd.backward(torch.stack(losses).sum() * scale)
        if self.walk is not None and t is not None:
            self.walk.take_gradients(t)
        self.optimizer.update_curvature(total**0.5)
        for weight in self.moved.values():
            weight.grad = None

    def labelled(self, part: Part, batch: Batch, picked: Picked, needs: Needs) -> Labelled:
        """Return the labelled positions of a piece, with what is needed of them."""
        questions = batch.sequences[part]
        rows = [row for i in picked.questions for row in questions[i]]
        tokens = collate(
            rows, self.pad, self.device, every_position=part.every_position, read=part.read
        )
        is_weighed = self.superloss is not None and part.read == "prediction"
        wants_logits = needs.logits or is_weighed or self.optimizer.is_sampling
        states = reference_logits = None
        with self._autocast():
            where = (tokens.input_ids, tokens.row, tokens.column)
            how = {"mask": tokens.mask, "final_norm": needs.final_norm}
            if needs.layer is None:
                logits = self.scorer(*where, **how)
            else:
                logits, states = self.scorer(*where, needs.layer, wants_logits, **how)
            if needs.reference_logits:
                reference_logits = self.reference.logits(part, rows, self.scorer, self.device)
        return Labelled(
            logits=logits,
            labels=tokens.labels,
            sequence=tokens.row,
            num_sequences=len(rows),
            total_positions=sum(num_labelled(part, r) for rows in questions for r in rows),
            total_sequences=sum(len(rows) for rows in questions),
            reference_logits=reference_logits,
            states=states,
            **self._said(part, needs, rows),
        )

    def _said(self, part: Part, needs: Needs, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """Return what the start model said that costs no product."""
        said = {}
        if needs.reference_nll:
            said["reference_nll"] = self.reference.nll(part, rows, self.device)
        if needs.reference_states:
            said["reference_states"] = self.reference.states(part, needs, rows, self.device)
        return said

    def _clip(self) -> float:
        bound = self.training.max_gradient_norm
        gradients = [w for w in self.moved.values() if w.grad is not None]
        norm: Any = torch.nn.utils.clip_grad_norm_(gradients, bound or math.inf, foreach=None)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.is_bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def _weighted(values: Sequence[Tensor | None], scales: Sequence[float]) -> float:
    there = [(v, s) for v, s in zip(values, scales, strict=True) if v is not None]
    return sum(float(value) * scale for value, scale in there)


def _drop_gathered(scorer: Scorer) -> None:
    """Let a sharded model gather its weights anew: without a backward pass it keeps the old."""
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _key(part: Part) -> str:
    return repr(part).replace(", read='prediction'", "")  # the key of before there was a choice


def _unmoved() -> WorkError:
    return WorkError(
        "nothing_moved",
        "the first step changed no weight: its gradient is zero, or the learning rate is lost in "
        "rounding. Check the method's weights, its mask and the rate.",
    )


@torch.no_grad()
def _sampled(weights: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return each weight's values, places among them, and what is there now.

    The place of the largest gradient is one of them.
    """
    found = []
    for weight in weights.values():
        if weight.grad is not None and local(weight.grad).numel():
            flat = local(weight.detach()).view(-1)
            largest = local(weight.grad).flatten().abs().argmax()[None]
            spread = torch.arange(0, len(flat), max(1, len(flat) // 256), device=flat.device)
            places = torch.cat([largest, spread])
            found.append((flat, places, flat[places].clone()))
    return found
