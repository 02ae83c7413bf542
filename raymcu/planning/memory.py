"""What one device holds at most while a checkpoint is made: a formula, checked against trainings.

Of the moments of a training the fullest counts. Each is a sum of what is held throughout (weights,
optimizer states, what a method asks for besides), gradients, what autograd keeps of the sequences
that are read at once, logits, and for sharded models what is gathered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from raymcu.curves._base import CURVES
from raymcu.masks._base import MASKS
from raymcu.methods._parts import Part, turns_of
from raymcu.models.shapes import Shape
from raymcu.planning.passes import Lengths, Passes
from raymcu.planning.recipes import Recipe
from raymcu.study.training_tables import Training

GIB = 2**30
KINDS = ("weights", "gradients", "states", "beside", "activations", "logits", "gathered")
"""What a device's memory goes to, in the order in which it is told."""

_STATES = {"sgd": 4.0, "sign_sgd": 0.0, "spsa": 0.0, "adamw_8bit": 2.0 + 8 / 256}
"""Bytes of a weight's optimizer states, where they are not two numbers in float32."""
_SCALED = {"sophia_g": 4.0, "soul": 4.0}
"""Bytes of a weight that a step of the optimizer holds for a while: scaled gradients."""
_LARGEST = {"sgd": 1.0, "sign_sgd": 1.0, "sophia_g": 3.0, "soul": 3.0, "spsa": 3.0, "muon": 5.0}
"""How many times the largest weight it holds besides, in float32."""
_ROUNDED = {"float32": 0.0, "kahan": 16.0, "stochastic": 8.0}
"""Bytes of the largest weight while it is stepped in float32 and rounded."""
_NF4 = 0.5 + 4 / 64
"""Bytes of a weight in 4 bits, its share of a scale included."""
_MADE = 9.0
"""Bytes of a weight while it is made of 4 bits, or rounded to them."""
_QUARTER = 0.25
"""Of a GPU: where what is trained takes less, there is room for what blocks compute."""
_RESIDENT_ENDS = 3
"""Ends of curves that a process keeps, where there are so many."""


@dataclass(frozen=True)
class Peak:
    """What a device holds at the fullest moment, in bytes."""

    parts: Mapping[str, float]
    """By `KINDS`."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    @property
    def gib(self) -> float:
        """All of it, in GiB."""
        return self.total / GIB


def peak(
    recipe: Recipe,
    shape: Shape,
    lengths: Lengths,
    *,
    device_gib: float | None = None,
    num_ends: int = 2,
) -> Peak:
    """Predict what a device holds at most while it trains a recipe.

    Within 15% of what tensors take on a CPU. A GPU's context, libraries and fragments are not
    tensors: `room` leaves space for them. Dropout of attention, which a CPU holds for every pair of
    tokens, is left out.

    Args:
        recipe: What is made; one without a training takes no device.
        shape: Of its model.
        lengths: Of the sequences of a step.
        device_gib: Memory of a GPU, by which ``recompute = "auto"`` goes; None of a CPU.
        num_ends: Different ends of all curves of the study, of which a process keeps some.
    """
    if recipe.training is None:
        return Peak(dict.fromkeys(KINDS, 0.0))
    is_again = recomputes(recipe.training, shape.num_parameters, device_gib)
    passes = Passes(recipe, recipe.training, shape, lengths, is_again=is_again)
    making = _Making(passes, num_ends, device_gib)
    moments = [_filled(moment) for moment in making.moments()]
    return Peak(max(moments, key=lambda moment: sum(moment.values())))


def room(device_gib: float) -> float:
    """Return the GiB of a device that tensors may take: the rest is its libraries' and lost."""
    return max(0.0, 0.9 * device_gib - 2.0)


def recomputes(training: Training, num_parameters: int, device_gib: float | None) -> bool:
    """Say whether blocks are computed again in the backward pass.

    ``auto`` does so on a GPU of which what is trained takes a quarter or more.
    """
    if training.recompute != "auto" or device_gib is None:
        return training.recompute == "blocks"
    each = 16 if training.lora is None else 4  # adapters are small, what they adapt stays
    return (
        each * num_parameters / (training.world // training.replicas) >= _QUARTER * device_gib * GIB
    )


def _filled(moment: Mapping[str, float]) -> dict[str, float]:
    return {kind: float(moment.get(kind, 0.0)) for kind in KINDS}


class _Making:
    """One training, from one moment to the next."""

    def __init__(self, passes: Passes, num_ends: int, device_gib: float | None) -> None:
        self.passes = passes
        self.recipe, self.training, self.shape = passes.recipe, passes.training, passes.shape
        self.workers = passes.workers
        self.shards = self.workers // self.training.replicas
        self.is_working = passes.is_half and self.workers == 1
        """Whether it computes with a copy in bfloat16; several workers gather one in its place."""
        self.is_bend = self.recipe.role == "bend"
        self.has_masters = self.training.weights == "float32"
        self.each = 4.0 if self.has_masters else 2.0
        """Bytes of a weight that is moved, and of its gradient."""
        is_small = self.is_working or (passes.is_half and self.training.lora is not None)
        self.computed = 2.0 if is_small else 4.0
        """Bytes of a weight that is computed with, where it lies."""
        lora = self.training.lora
        is_known = bool(self.shape.layers)
        linear = self.shape.linear_weights if is_known else self.shape.num_parameters
        self.in_4_bits = linear if lora is not None and lora.base is not None else 0
        """Weights that are held so."""
        whole = passes.itemsize * self.shape.num_parameters + 4.0 * passes.num_moved
        self.stays = device_gib is not None and whole <= _QUARTER * device_gib * GIB
        """Whether a sharded model stays gathered through a step, where there is so much room."""
        self.num_ends = num_ends
        self.bends = 1
        if self.is_bend:
            self.bends = CURVES[self.recipe.curve or ""](**self.recipe.curve_options).num_bends

    @cached_property
    def held(self) -> dict[str, float]:
        """What is held throughout, of one worker."""
        moved = self.passes.num_moved
        weights = self._model(self.computed)
        weights += (2.0 if self.is_working else 4.0) * self.passes.num_adapters
        if self.is_bend or (self.is_working and self.has_masters):  # beside what is computed with
            weights += 4.0 * moved * self.bends
        beside = 0.0
        if self.is_bend:
            ends = min(_RESIDENT_ENDS, max(2, self.num_ends))
            beside += self.passes.itemsize * ends * self.shape.num_parameters
        if self.training.average is not None:
            beside += 4.0 * moved * self.bends
        if self.recipe.mask is not None:  # which elements, and the values that those keep
            keep = float(self.recipe.mask.options["keep"])
            beside += (1.0 + self.each * (1.0 - keep)) * moved * (keep < 1)
        heads = sum(
            any(getattr(needs, key) for needs in self.passes.needs.values())
            for key in ("reference_logits", "random_logits")
        )
        of_head = (2.0 if self.is_working else 4.0) * self.shape.embedding
        return {
            "weights": weights / self.shards,
            "states": self.bends * self._states() / self.shards,
            "beside": beside / self.shards + of_head * heads,
        }

    def _model(self, width: float) -> float:
        """Return the bytes of the model without adapters, of so many for each weight."""
        rest = self.shape.num_parameters - self.in_4_bits
        return width * rest + _NF4 * self.in_4_bits

    def _states(self) -> float:
        """Return the bytes of what the optimizer remembers of one bend, of all workers."""
        use, moved = self.training.optimizer, self.passes.num_moved
        rest = 2.0 * moved * (self.training.weights == "kahan")  # of what was rounded
        if self.training.offload or (use.resolved == "sgd" and not use.momentum):
            return rest
        found = rest + _STATES.get(use.resolved, 8.0) * moved
        if use.resolved == "muon" and not self.passes.adapted:
            matrices = moved - (self.shape.root if self.passes.is_whole else 0)
            found -= 4.0 * matrices
        return found

    def moments(self) -> Iterator[dict[str, float]]:
        """Yield what is held at the moments that may be the fullest."""
        yield from self.preparing()
        name, is_alone = self.training.optimizer.resolved, self.is_working and not self.is_bend
        gradients = self.each * self.passes.num_moved / self.shards
        copied = _SCALED.get(name, 0.0) * self.passes.num_moved / self.shards
        if name in {"spsa", "alternating"} and not (is_alone and self.has_masters):
            copied = gradients  # the weights that a difference of losses returns to
        of_one = 4.0 * _LARGEST.get(name, 0.0) + _ROUNDED[self.training.weights]
        of_one += _STATES.get(name, 8.0) * self.training.offload
        scratch = of_one * self.passes.largest / self.shards
        yield {**self.held, "gradients": self.bends * (gradients + copied) + scratch}
        turns = turns_of(self.passes.methods, self.passes.needs)
        if name in {"spsa", "alternating"}:
            most = max(self.passes.tokens(turn, self.passes.questions) for turn in turns)
            yield {
                **self.held,
                "gradients": self.bends * (gradients + copied),
                **self.passes.forward(*most),
                "gathered": self.in_layer,
            }
        if name != "spsa":
            for number, turn in enumerate(turns):
                is_later = number > 0 or self.passes.rounds > 1
                yield from self.reading(turn, gradients, is_later=is_later)
        if self.recipe.g_effects is not None:
            for turn in turns:
                for moment in self.reading(turn, gradients, is_later=False):
                    yield {**moment, "beside": moment["beside"] + 2 * gradients}

    def preparing(self) -> Iterator[dict[str, float]]:
        """Yield what is held while models are opened and asked, and a mask is found."""
        is_small = self.computed == 2.0 and self.training.lora is not None
        opened = 2.0 if is_small and (self.workers > 1 or self.recipe.parents) else 4.0
        both = opened + 2.0 * (self.is_working and opened > 2.0)  # until it is known what moves
        is_read = bool(self.recipe.parents or self.recipe.model.path)  # and rounded one by one
        start = opened * self.shape.num_parameters
        if is_read and self.in_4_bits:
            start = self._model(opened) + opened * self.shape.hidden * self.shape.inner
        yield {"weights": start / self.shards, "gathered": self.in_layer - self.gathered}
        start = self._model(both) / self.shards
        for part, needs in self.passes.needs.items():
            if needs.reads_reference or needs.random_logits:
                is_other = self.is_bend or needs.random_logits
                other = (4.0 + 2.0 * self.is_working) * self.shape.num_parameters * is_other
                asked = self.passes.forward(*self.passes.tokens((part,), self.passes.questions))
                beside = {"beside": other / self.shards, "gathered": self.in_layer}
                yield {"weights": start, **asked, **beside}
        if self.recipe.mask is not None:
            both_sets = MASKS[self.recipe.mask.name].needs_retain
            part = next(iter(self.passes.needs))
            gradients = self.each * self.passes.num_moved / self.shards
            rows = self.training.batch_size
            for moment in self.reading((part,), gradients, is_later=True, questions=rows):
                more = moment["gradients"] + both_sets * gradients
                yield {**moment, "states": 0.0, "beside": 0.0, "gradients": more}

    @property
    def gathered(self) -> float:
        """What is gathered of a sharded model: what lies in no layer, and two layers, or all."""
        if self.workers == 1:
            return 0.0
        own = self.shape.num_parameters if self.stays else self.shape.root + 2 * self.shape.block
        return float(self.passes.itemsize * own) + 4.0 * self.passes.num_moved * self.stays

    @property
    def in_layer(self) -> float:
        """What is gathered while a layer computes; of one in 4 bits, a weight that is made."""
        made = _MADE * self.shape.hidden * self.shape.inner
        return self.gathered + made * bool(self.in_4_bits)

    def reading(
        self, turn: tuple[Part, ...], gradients: float, *, is_later: bool, questions: int = 0
    ) -> Iterator[dict[str, float]]:
        """Yield what is held in the forward and backward pass of a turn.

        Args:
            turn: Parts that are read together.
            gradients: Of all weights, of one worker.
            is_later: Whether there are gradients of an earlier turn.
            questions: In place of a piece's.
        """
        shape, passes, number = self.shape, self.passes, questions or self.passes.questions
        tokens, positions = passes.tokens(turn, number)
        kept, behind, _ = passes.graph(tokens, positions)
        one, read = max(passes.tokens((part,), number) for part in turn)
        under_way = passes.graph(one, read)[2] * one
        # Of a weight whose gradient is being added up or shared out.
        each = self.each + passes.itemsize * (self.workers > 1)
        of_head = self.each * shape.embedding * passes.is_whole
        of_block = each * shape.block * passes.is_whole
        is_apart = is_later and self.workers == 1  # gradients are there, and one is added at a time
        of_layer = each * shape.hidden * shape.inner * passes.is_whole if is_apart else of_block
        in_chunks = of_head * (read > passes.at_once)  # added up beside the gradient
        earlier = gradients if is_later else 0.0
        alone = {**self.held, "gathered": self.gathered}
        yield {
            **alone,
            "gradients": earlier + in_chunks,
            "activations": kept + behind,
            "logits": passes.logits(read) + passes.kept_logits(positions - read),
        }
        alone["gathered"] = self.in_layer
        of_root = of_head * (not is_apart)
        if self.workers > 1:  # which waits, as it was computed, for the rest of what is outside
            of_root = passes.itemsize / 4 * of_head
        yield {
            **alone,
            "gradients": earlier + of_root + of_layer,
            "activations": kept + under_way,
        }
        if not is_later and self.workers == 1:  # the first layer, the last to get its gradients
            rest = max(0.0, gradients - of_block - of_head * (not shape.is_tied))
            first = kept / max(1, shape.layers)
            yield {**alone, "gradients": rest, "activations": first + under_way}
        # Gradients of an embedding that is read at both ends, or by several parts, come together.
        if self.workers > 1:
            at_last = each * shape.root * passes.is_whole
        else:
            times = 2 + (passes.rounds > 1) if shape.is_tied else 2 * (len(turn) > 1) + is_later
            at_last = float(passes.itemsize * times * shape.embedding * passes.is_whole)
        yield {**self.held, "gradients": gradients + at_last}
