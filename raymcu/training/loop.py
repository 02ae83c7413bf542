"""The training loop: one objective, one stream of steps, weights that move. No Ray.

The same loop trains an original model, unlearns, and finds the bends of a curve. It knows nothing
of methods but their loss, and nothing of sharding but a `Group` to sum over.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from raymcu.curricula._base import Weighing
from raymcu.errors import WorkError
from raymcu.methods._base import Labelled, Method, Part, StepLoss, all_needs
from raymcu.methods._logits import nll, read
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Training
from raymcu.training.averaging import MovingAverage
from raymcu.training.data import Stream
from raymcu.training.first_step import nothing_moved, num_moved, sampled
from raymcu.training.frozen import Frozen
from raymcu.training.group import Alone, Group
from raymcu.training.material import Material
from raymcu.training.optimizers import Optimizer, clip, schedule
from raymcu.training.progress import Losses, Progress, weighted
from raymcu.training.reading import Batch, Picked, Reader, longest_packed
from raymcu.training.reference import Reference
from raymcu.training.remembering import Remembering
from raymcu.training.sampling import sample
from raymcu.training.sharding import drop_gathered, sync_gradients
from raymcu.training.turns import Turn, backward, check_apart, tied_weights, turns_of
from raymcu.training.walk import Walk
from raymcu.training.working import Working
from raymcu.training.zeroth_order import estimate


class Loop:
    """One training, from wherever its progress says to its end.

    Args:
        scorer: The model, perhaps sharded.
        weights: What the loss is differentiated by: the model's weights that may move, or what
            ``working`` has in their place.
        methods: The objective is the mean of their losses.
        stream: Steps of forget and retain rows.
        material: The sequences behind them.
        training: Optimizer, budget and bounds.
        reference: What the start model said, where a method needs it.
        walk: Curve whose bends are trained in place of the weights; None trains the weights.
        frozen: Weights that an update mask keeps from moving; None lets all move.
        superloss: Curriculum that weighs sequences; None weighs them alike.
        dtype: ``bfloat16`` computes under autocast.
        working: Holds the model's weights in bfloat16, where those that move are beside it.
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
        walk: Walk | None = None,
        frozen: Frozen | None = None,
        superloss: Weighing | None = None,
        dtype: str = "float32",
        group: Group | None = None,
        observe: Callable[["Loop", int], list[dict[str, Any]]] | None = None,
        working: Working | None = None,
    ) -> None:
        self.scorer = scorer
        self.weights = weights
        self.methods = methods
        self.stream = stream
        self.training = training
        self.walk = walk
        self.frozen = frozen
        self.superloss = superloss
        self.group = group or Alone()
        self.observe = observe
        self.working = working
        self.moved: Mapping[str, Tensor] = weights if walk is None else walk.movable(weights)
        self.average = MovingAverage(self.moved, training.average) if training.average else None
        self.optimizer = Optimizer(self.moved, training, stream.seed)
        turns = turns_of(methods, all_needs(methods))
        self.tied = tied_weights(scorer.model, weights) if len(turns) > 1 else []
        self.turns = turns[::-1] if self.tied else turns  # as one backward pass goes through them
        self.num_steps = stream.num_steps(training.epochs)
        self.progress = Progress()
        self.device = next(iter(weights.values())).device
        self.reader = Reader(
            scorer=scorer,
            needs=all_needs(methods),
            stream=stream,
            material=material,
            reference=reference,
            device=self.device,
            micro_batch_size=training.micro_batch_size,
            is_weighed=superloss is not None,
            label_smoothing=training.label_smoothing,
            is_bfloat16=dtype == "bfloat16",
            group=self.group,
            longest_packed=longest_packed(scorer, training, self.device),
        )

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
        self._write()  # what a saved state has
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
            self._write()
        self.scorer.eval()

    @property
    def _remembering(self) -> Remembering:
        return Remembering(self.methods, self.progress.memory, self.num_steps)

    def _write(self) -> None:
        """Let the model compute with what the weights that move are now."""
        if self.working is not None:
            self.working.write()

    def _step(self, number: int) -> dict[str, float | None]:
        self._seed(number)
        batch = self.reader.batch(number)
        t = None
        if self.walk is not None:
            t = self.walk.position(self.stream.position(number))
            self.walk.place(t)
        if number == 0:
            self._begin(batch)
        self._remembering.identify(number, self.reader, self.training.at_once)
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
        norm = clip(self.moved.values(), self.training.max_gradient_norm)
        if not math.isfinite(norm):
            raise self._diverged(f"gradient norm {norm:.6g}", number)
        if number == 0 and norm == 0:
            raise nothing_moved()
        factor = schedule(number, self.num_steps, self.training)
        self._move(factor, number)
        is_epoch_end = (number + 1) % self.stream.steps_per_epoch == 0
        self._remembering.remember(losses, is_epoch_end=is_epoch_end)
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
        """Seed what a step draws beside its rows: dropout."""
        torch.manual_seed(hash((self.stream.seed, number)) % 2**63)

    def _begin(self, batch: Batch) -> None:
        """Set up what methods and the curriculum carry from step to step."""
        self._remembering.begin(self.reader)
        if self.superloss is not None:
            found: dict[Part, list[float]] = {part: [0.0, 0.0] for part in self.reader.needs}
            with torch.no_grad():
                for picked in self.reader.pieces(batch):
                    for part in self.reader.needs:  # an idle worker keeps pace, or the others wait
                        piece = self.reader.labelled(part, batch, picked, self.reader.needs[part])
                        losses = self.reader.sequence_losses(part, piece, batch, picked)
                        found[part][0] += float(losses.sum()) * picked.is_real
                        found[part][1] += len(losses) * picked.is_real
            for part, sums in found.items():
                total, count = self.group.sum(sums)
                mean = torch.tensor([total / count], dtype=torch.float64)
                self.progress.memory[_key(part)] = dict(self.superloss.begin(mean))
        self._check_apart(batch)

    @torch.no_grad()
    def _check_apart(self, batch: Batch) -> None:
        """See on one question, in evaluation mode, that the losses of all turns add up."""
        if len(self.turns) == 1:
            return
        first = Picked((0,), is_real=True)
        self.scorer.eval()
        whole, *shares = (self.losses(batch, first, None, t) for t in (None, *self.turns))
        self.scorer.train()
        check_apart(self.methods, whole, shares)

    def _move(self, factor: float, number: int) -> None:
        """Let the optimizer move what may move, and the average follow."""
        if self.frozen is not None:
            self.frozen.mask_gradients(self.moved)
        is_seen = number == 0 and self.training.weights == "float32"  # others move by less
        before = sampled(self.moved) if is_seen else None
        self.optimizer.step(factor, number)
        if self.frozen is not None:
            self.frozen.restore(self.moved)
        for weight in self.moved.values():
            weight.grad = None
        self._write()
        if before is not None and self.group.sum([float(num_moved(before))])[0] == 0:
            raise nothing_moved()
        if self.average is not None:
            is_last = number + 1 == self.num_steps  # where an epoch may be cut short
            is_epoch_end = is_last or (number + 1) % self.stream.steps_per_epoch == 0
            self.average.follow(self.moved, is_epoch_end=is_epoch_end)

    def _diverged(self, what: str, number: int) -> WorkError:
        where = f"at step {number + 1} of {self.num_steps}"
        advice = "Lower the learning rate or train for fewer epochs."
        return WorkError("diverged", f"{what} {where}. {advice}")

    def _backward(self, batch: Batch, t: float | None = None) -> Losses:
        """Add up gradients over the pieces of this worker's share; return the batch's losses."""
        slope = self._slope(t)
        losses = self._evaluate(batch, lambda loss, tied: backward(loss * slope, tied))
        if self.walk is not None and t is not None:
            self.walk.take_gradients(t, self.weights)
        return losses

    def _slope(self, t: float | None) -> float:
        return 1.0 if self.walk is None or t is None else self.walk.slope(t)

    def _estimate(self, batch: Batch, number: int, t: float | None) -> Losses:
        """Estimate the gradient from losses alone; return those at the last place tried.

        A curriculum does not learn from them: a difference needs two losses of equal weights.
        """
        losses = Losses(0.0, None, None)

        def loss() -> float:
            nonlocal losses
            self._seed(number)  # the same dropout on both sides of a difference
            drop_gathered(self.scorer)
            if self.walk is not None and t is not None:
                self.walk.place(t)
            losses = self._evaluate(batch, lambda *_: None, remembers=False)
            return losses.total

        how = self.training.optimizer
        mean = estimate(
            self.moved,
            loss,
            seed=self.stream.seed,
            step=number,
            scale=how.perturbation,
            num_directions=how.directions,
            into=self.working.own if self.working is not None else None,
        )
        drop_gathered(self.scorer)  # the last place tried
        return replace(losses, total=mean)

    def _evaluate(
        self,
        batch: Batch,
        use: Callable[[Tensor, Sequence[Tensor]], None],
        *,
        remembers: bool = True,
    ) -> Losses:
        """Compute the loss piece by piece and turn by turn; return the batch's.

        Each is handed to ``use``, with the weights that earlier turns of the piece used twice too.
        """
        found: list[StepLoss] = []
        scales: list[float] = []
        seen: dict[Part, Tensor] = {}
        pieces = list(self.reader.pieces(batch))
        for number, picked in enumerate(pieces, 1):
            sync_gradients(self.scorer, is_last=number == len(pieces))
            added: list[StepLoss] = []
            scale = picked.is_real / len(self.methods)
            for turn in self.turns:
                parts = self.losses(batch, picked, seen, turn)
                objective = torch.stack([part.total for part in parts]).sum() * scale
                use(objective * self.group.size, self.tied if added else ())  # FSDP averages
                one = [part.detached() for part in parts]
                del parts, objective  # and with them the graph
                added = [a + b for a, b in zip(added, one, strict=True)] if added else one
            found += added
            scales += [scale] * len(added)
        if self.superloss is not None and remembers:
            for part, told in seen.items():
                loss_sum, weight_sum, count = self.group.sum(told.tolist())
                past = self.progress.memory[_key(part)]
                now = self.superloss.remember(past, loss_sum, weight_sum, int(count))
                self.progress.memory[_key(part)] = dict(now)
        forget, retain = [one.forget for one in found], [one.retain for one in found]
        count = len(self.methods)
        own = [weighted(retain[i::count], scales[i::count]) * count for i in range(count)]
        terms = ([one.total for one in found], forget, retain)
        sums = self.group.sum([*(weighted(values, scales) for values in terms), *own])
        has = [any(value is not None for value in values) for values in terms]
        known = [value if is_there else None for value, is_there in zip(sums, has, strict=False)]
        return Losses(sums[0], known[1], known[2], tuple(sums[3:]))

    def losses(
        self,
        batch: Batch,
        picked: Picked,
        seen: dict[Part, Tensor] | None = None,
        turn: Turn | None = None,
    ) -> list[StepLoss]:
        """Return each method's loss of a piece; count in ``seen`` what a curriculum learns.

        With a turn, the other parts are empty: what its parts add to the loss.
        """
        told = {} if seen is None else seen
        step = {
            part: self._weighed(
                part, self.reader.labelled(part, batch, picked, needs), batch, picked, told
            )
            if turn is None or part in turn
            else self.reader.empty(part, batch, needs)
            for part, needs in self.reader.needs.items()
        }
        return [m.loss(step, self._remembering.of(i)) for i, m in enumerate(self.methods)]

    def _weighed(
        self, part: Part, piece: Labelled, batch: Batch, picked: Picked, seen: dict[Part, Tensor]
    ) -> Labelled:
        """Give a piece the curriculum's weights; add up what it will have learned from it."""
        if self.superloss is None:
            return piece
        losses = self.reader.sequence_losses(part, piece, batch, picked)
        weights = self.superloss.weights(losses, self.progress.memory[_key(part)])
        sums = torch.stack([losses.sum().cpu(), weights.sum().cpu(), torch.tensor(len(losses))])
        seen[part] = seen.get(part, torch.zeros(3)).double() + sums.double() * picked.is_real
        return replace(piece, weights=weights)

    def _look_at_curvature(self, batch: Batch, t: float | None) -> None:
        """Estimate the Gauss-Newton diagonal from labels sampled from the model (Sophia-G).

        The estimator is n · g², g the gradient of the mean NLL of the n sampled labels.
        """
        needed = self.reader.needs.items()
        total = sum(self.reader.empty(p, batch, needs).total_positions for p, needs in needed)
        for picked in self.reader.pieces(batch):
            for part, needs in needed:
                piece = self.reader.labelled(part, batch, picked, needs)
                logits = piece.current[piece.labels >= 0]  # padding is not drawn for
                labels = sample(logits, self.stream.seed, part, batch, picked)
                scale = self._slope(t) * self.group.size / total * picked.is_real
                backward(read(logits, nll, labels).sum() * scale)
        if self.walk is not None and t is not None:
            self.walk.take_gradients(t, self.weights)
        self.optimizer.update_curvature(total**0.5)
        for weight in self.moved.values():
            weight.grad = None


def _key(part: Part) -> str:
    return repr(part).replace(", read='prediction'", "")  # the key of before there was a choice
