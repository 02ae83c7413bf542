"""What has to be learned of the frozen start model before a training: once, and kept.

Its loglikelihoods and hidden states where a method needs them, its own answers, how difficult it
finds each row, and which weights an update mask holds.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raymcu.curricula._base import Curriculum, Ordering
from raymcu.errors import WorkError
from raymcu.masks._base import MASKS
from raymcu.methods._base import Method, Needs, Part, all_needs
from raymcu.models import causal_lm
from raymcu.models.batch_norm import compute_statistics
from raymcu.models.encoding import Encoded
from raymcu.models.modality import Modality
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Recipe
from raymcu.study.training_tables import Training
from raymcu.training.adapters import base_name
from raymcu.training.asking import ask_by_pieces
from raymcu.training.attribution import freeze, gradient_square
from raymcu.training.data import Stream
from raymcu.training.frozen import Frozen
from raymcu.training.group import Alone, Group, sum_of_shards
from raymcu.training.material import Material
from raymcu.training.nf4 import quantize_base
from raymcu.training.reading import Reader, longest_packed
from raymcu.training.reference import Asked, Reference, ask, sample
from raymcu.training.sharding import drop_gathered, gathered
from raymcu.training.working import Working


@dataclass
class Job:
    """One recipe with its model opened and its data tokenised."""

    recipe: Recipe
    training: Training
    model: Any
    modality: Modality
    encoder: Any
    scorer: Any
    """Computes with the model; perhaps sharded, its adapters put in."""
    stream: Stream
    material: Material
    methods: list[Method]
    curriculum: Curriculum | None
    working: Working | None = None
    """Holds the model's weights in bfloat16, if they are so."""

    @property
    def is_asked_in_pieces(self) -> bool:
        """Whether the start model is asked as the training reads.

        float32 on one worker is asked in batches, as it was before there was anything else: its
        weights are the same to the bit, as its id is.
        """
        return self.recipe.model.dtype != "float32" or self.training.world > 1

    @property
    def asked_at_once(self) -> int:
        """Sequences that the start model is asked at once, at most, where not in pieces."""
        return self.training.at_once if self.is_asked_in_pieces else self.training.batch_size

    def hold(self) -> None:
        """Hold the model as it is computed with: in bfloat16, its base in 4 bits, if asked to."""
        if self.training.lora is not None and self.training.lora.base is not None:
            quantize_base(self.model)
        if self.recipe.model.dtype == "bfloat16":
            self.working = Working(self.model)

    def put_back(self) -> None:
        """Make the weights that `hold` took float32 again."""
        if self.working is not None:
            self.working.put_back()
            self.working = None

    def settle(self, scorer: Any) -> None:
        """Give weights that no batch has been through, of a bend or an average, statistics."""
        items = (*self.stream.forget, *self.stream.retain)
        compute_statistics(scorer, items, self.training.batch_size)

    def sequences(self, part: Part) -> dict[Encoded, None]:
        """Return every sequence of a part that the training sees, each once."""
        found: dict[Encoded, None] = {}
        for number in range(self.stream.num_steps(self.training.epochs)):
            rows = self.stream.step(number)
            epoch = number // self.stream.steps_per_epoch
            for row in rows.of(part.questions):
                found |= dict.fromkeys(self.material.sequences(part, row, epoch))
        return found


class StartModel:
    """Asks start models; keeps their own answers from recipe to recipe while they share one."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._sampled: dict[tuple[Any, ...], dict[int, list[Encoded]]] = {}

    def ask(
        self,
        job: Job,
        scorer: Scorer,
        other: Callable[[], Scorer] | None,
        random: Callable[[], Scorer] | None = None,
        group: Group | None = None,
    ) -> Reference:
        """Ask whatever the methods need to know and is not known yet.

        Args:
            job: The training.
            scorer: The start model, unless ``other`` opens it.
            other: Opens the start model where the training begins elsewhere; called if needed.
            random: Opens the untrained model that a method asks, if one does.
            group: Workers of which each asks a share.

        Raises:
            WorkError: If a method reads a layer that the model does not have, or draws answers
                too long for it.
        """
        start = job.recipe.parents.get("reference", job.recipe.parents.get("start"))
        if start != self._id:
            self._id = start
            self._sampled.clear()
        reference = Reference(
            random=None if random is None else _untrained(job, _halved(job, random()))
        )
        opened: Callable[[], Scorer] = (
            cache(lambda: _halved(job, other())) if other else lambda: scorer
        )
        needs = all_needs(job.methods)
        for part in needs:
            if part.answers == "sampled":
                job.material.sampled[part] = self._answers(job, part, opened)
        for part, need in needs.items():
            _check_layer(need.layer, len(scorer.layers))
            has_drawn = part.answers != "true"
            if not (has_drawn or need.reads_reference):
                continue
            rows = job.sequences(part)
            if has_drawn:
                check_length(rows, getattr(job.model.config, "max_position_embeddings", None))
            if part.read == "padded" or not job.is_asked_in_pieces:
                missing = reference.missing(need, part, rows)
                reference.ask(opened(), missing, job.asked_at_once)
            elif need.reads_reference:
                reader = _reader(job, opened())
                steps = job.stream.num_steps(job.training.epochs)
                said = ask_by_pieces(reader, part, need, steps, group or Alone())
                reference.learn(opened(), said)
            if need.reference_nll:
                nll = reference.nll(part, rows, torch.device("cpu"))
                reference.means[part] = float(nll.double().mean())
        return reference

    def _answers(
        self, job: Job, part: Part, opened: Callable[[], Scorer]
    ) -> dict[int, list[Encoded]]:
        """Let the start model answer every question of a part by itself."""
        recipe = job.recipe
        key = (recipe.seed, recipe.fingerprint, recipe.forget_size, recipe.retain_set, part)
        if key not in self._sampled:
            count = max(part.pool, part.count)
            scorer = opened()
            with gathered(scorer):
                self._sampled[key] = {
                    number: sample(
                        scorer.model,
                        job.encoder,
                        row.prompt,
                        count,
                        part.temperature,
                        job.recipe.seed * 1_000_003 + number,
                    )
                    for number, row in enumerate(job.material.rows(part).encoded)
                }
        return self._sampled[key]


def _halved(job: Job, scorer: Scorer) -> Scorer:
    """Return another model in the precision of the training."""
    if job.recipe.model.dtype == "bfloat16":
        Working(scorer.model).move({})
    return scorer


def _reader(job: Job, scorer: Scorer) -> Reader:
    """Return what reads the training's steps with a model as the training reads them."""
    device = next(scorer.parameters()).device
    return Reader(
        scorer=scorer,
        needs={},
        stream=job.stream,
        material=job.material,
        reference=Reference(),
        device=device,
        micro_batch_size=job.training.micro_batch_size,
        is_weighed=False,
        label_smoothing=0.0,
        is_bfloat16=job.recipe.model.dtype == "bfloat16",
        group=Alone(),
        longest_packed=longest_packed(scorer, job.training, device),
    )


def _untrained(job: Job, scorer: Scorer) -> Reference:
    """Ask an untrained model of all rows of the parts that need it, whether a step has them or not.

    The G-effect looks at rows that no step may have.
    """
    said = Reference()
    for part, needs in all_needs(job.methods).items():
        if needs.random_logits:
            rows = job.sequences(part)
            for row in range(len(job.material.rows(part).encoded)):
                rows |= dict.fromkeys(job.material.sequences(part, row, 0))
            missing = said.missing(Needs(reference_logits=True), part, rows)
            said.ask(scorer, missing, job.asked_at_once)
    return said


def check_length(rows: Iterable[Encoded], limit: int | None) -> None:
    """Refuse sequences that a model cannot take.

    Raises:
        WorkError: ``too_long``, with the longest.
    """
    longest = max(map(len, rows))
    if limit and longest > limit:
        raise WorkError(
            "too_long",
            f"a training sequence has {longest} tokens, the model takes {limit}. "
            "Use a model with a longer context.",
        )


def _check_layer(layer: int | None, num_layers: int) -> None:
    if layer is not None and not 0 <= layer < num_layers:
        raise WorkError(
            "no_such_layer",
            f"the method reads layer {layer}, the model has layers 0 to {num_layers - 1}. "
            "Set the method's layer to one of them.",
        )


def order_rows(job: Job, scorer: Scorer, group: Group) -> None:
    """Rank the anchor rows by what the start model finds difficult, if the curriculum orders."""
    curriculum = job.curriculum
    if not isinstance(curriculum, Ordering):
        return
    rows = job.stream.anchor
    if curriculum.by == "length":
        difficulty = [float(len(row.answer)) for row in rows]
    elif curriculum.by == "loss":
        said = ask(scorer, rows, Asked("nll", False), job.asked_at_once)
        difficulty = [float(said[row].double().mean()) for row in rows]
    else:
        drop_gathered(scorer)
        weights = causal_lm.trainable(job.model)
        squares = [gradient_square(scorer, weights, row) for row in rows]
        difficulty = [math.sqrt(s) for s in sum_of_shards(group, squares, job.training.replicas)]
    job.stream.follow(curriculum, np.asarray(difficulty), job.training.epochs)


def movable_weights(job: Job, llama_names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the weights that a training moves, and let gradients reach no others.

    Of a model that computes in bfloat16 they are what stands beside it; along a curve, gradients.

    Args:
        job: The training, its adapters put in.
        llama_names: What Llama calls some of the plain model's weights, by their own names.

    Raises:
        WorkError: If there are none.
    """
    wanted = [re.compile(method.trained()) for method in job.methods]
    weights: dict[str, Tensor] = {}
    for name, weight in causal_lm.trainable(job.model).items():
        own = base_name(name)
        names = (own, llama_names.get(own, own))
        if any(pattern.fullmatch(one) for pattern in wanted for one in names):
            weights[name] = weight
        else:
            weight.requires_grad_(False)
    if not weights:
        patterns = " or ".join(f"'{pattern.pattern}'" for pattern in wanted)
        raise WorkError(
            "no_weights",
            f"no weight that may be trained has a name like {patterns}, which the method trains. "
            "Set the method's layer or variant to suit the model, or leave out lora.",
        )
    if job.working is not None:
        if job.training.weights != "float32":  # without masters
            job.working.move({})
            return weights
        return job.working.move(weights, has_masters=job.recipe.role != "bend")
    return weights


def freeze_weights(
    job: Job, scorer: Scorer, weights: Mapping[str, Tensor], group: Group
) -> Frozen | None:
    """Find what the recipe's update mask keeps from moving; None without a mask.

    The gradients are those of one epoch's batches.
    """
    choice = job.recipe.mask
    if choice is None:
        return None
    mask = MASKS[choice.name](**choice.options)
    steps = [job.stream.step(number) for number in range(job.stream.steps_per_epoch)]
    forget = [[job.stream.forget[i] for i in step.forget] for step in steps]
    retain = [[job.stream.retain[i] for i in step.retain] for step in steps]

    def add(histogram: Tensor) -> Tensor:
        added = sum_of_shards(group, histogram.tolist(), job.training.replicas)
        return torch.tensor(added, dtype=torch.float64).to(torch.int64)

    return freeze(mask, scorer, weights, forget, retain, add)
