"""G-effect: what a step on the objective does to the forget and the retain risk, along training.

e = <gradient of the objective, gradient of the risk R>, over the weights that move. A descent step
of a small rate r changes R by -r · e, so e < 0 is wanted where R is of the forget set, and e >= 0
where it is of the retain set. Wang et al. 2025, arXiv:2502.19301.

It is a property of the objective, whatever optimizer then takes the step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from raymcu.methods._base import FORGET, RETAIN, Method, Needs, Part, all_needs
from raymcu.models.causal_lm import local
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import GEffects
from raymcu.training.group import sum_of_shards
from raymcu.training.loop import Loop
from raymcu.training.material import Material
from raymcu.training.reading import Batch, Picked
from raymcu.training.reference import Reference
from raymcu.training.start_model import Job, check_length

GROUPS = ("embeddings", "first_third", "middle_third", "last_third", "final_norm", "lm_head")
"""Weights by where they are: thirds of the decoder's layers; ``final_norm`` is all else outside
of them. A head tied to the embeddings is one weight with them and counted there."""

_SETS = (FORGET, RETAIN)
_Effect = tuple[tuple[float, ...], ...]
"""By risk (forget, retain) and group."""


@dataclass(frozen=True)
class GEffectRecorder:
    """Records the G-effect in a training, without changing it.

    Objective and risks are taken over the same questions at every record, so that records differ
    by the weights alone: rows spread evenly over the forget and the retain set, in evaluation mode
    (no dropout), with the other answers of epoch 0 where a method draws such. A mask, which keeps
    weights from moving, masks the objective's gradient; adapters are the weights that move where
    there are any; a curriculum weighs sequences as it would in the step. For a method that trains a
    model to step away from (``task_vector``), the effect is that of training this model.

    The forget term is split exactly by forget example, for every method whose loss is a sum over
    questions; all are, but for ``rmu`` with ``reduction = "ou_broadcast"``, whose whole is then the
    sum of what it is for each question by itself.

    A record costs, for n questions of each set, n backward passes of one forget question, as many
    of retain questions in batches, and the gradients of both risks: about three training steps of n
    questions. Both risks' gradients are held, as much memory as twice the weights that move.
    """

    every: int
    """Steps between two records; the first is made before the first step."""
    examples: tuple[int, ...]
    """Rows of the forget set."""
    batch: Batch
    """Forget and retain questions, with all sequences the objective and the risks read."""

    def __call__(self, loop: Loop, number: int) -> list[dict[str, Any]]:
        """Return rows of table ``g_effects`` before step ``number``, from 0; none if not due."""
        if number % self.every:
            return []
        was_training = loop.scorer.training
        loop.scorer.eval()
        with torch.random.fork_rng(devices=[loop.device] if loop.device.type == "cuda" else []):
            found = _over_all_workers(loop, self._measure(loop))
        loop.scorer.train(was_training)
        here = {"step": number + 1}
        groups = sorted(set(_groups(loop).values()), key=GROUPS.index)
        return [here | row for row in self._rows(found, groups)]

    def _measure(self, loop: Loop) -> dict[str, list[Tensor]]:
        """Return the effect of each forget question, and of each piece of retain questions.

        By term; each (risks, groups), of the part of the weights that this worker holds.
        """
        inner = _Products(loop, [self._risk_gradient(loop, part) for part in _SETS])
        found: dict[str, list[Tensor]] = {}
        for question in range(self.batch.size):
            loss = _terms(loop, self.batch, (question,)).get("forget")
            if loss is None:
                break
            found.setdefault("forget", []).append(inner.with_gradient(loss))
        for piece in self._pieces(loop):
            loss = _terms(loop, self.batch, piece).get("retain")
            if loss is None:
                break
            found.setdefault("retain", []).append(inner.with_gradient(loss))
        return found

    def _risk_gradient(self, loop: Loop, part: Part) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL over all of a set's answer tokens, by weight."""
        for piece in self._pieces(loop):
            labelled = loop.reader.labelled(part, self.batch, Picked(piece, is_real=True), Needs())
            torch.autograd.backward(labelled.token_mean(labelled.nll))
        return _taken(loop.weights)

    def _pieces(self, loop: Loop) -> Iterator[tuple[int, ...]]:
        size = loop.training.micro_batch_size or loop.training.batch_size
        for start in range(0, self.batch.size, size):
            yield tuple(range(self.batch.size)[start : start + size])

    def _rows(
        self, found: Mapping[str, Sequence[_Effect]], groups: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        terms = {term: _sum(effects) for term, effects in found.items()}
        for term, effect in {"objective": _sum(list(terms.values())), **terms}.items():
            for risk, values in zip(_SETS, effect, strict=True):
                row = {"term": term, "risk": risk.questions}
                yield row | {"group": "all", "example": None, "value": _finite(sum(values))}
                for group in groups:
                    value = _finite(values[GROUPS.index(group)])
                    yield row | {"group": group, "example": None, "value": value}
        for example, effect in zip(self.examples, found.get("forget", ()), strict=False):
            for risk, values in zip(_SETS, effect, strict=True):
                row = {"term": "forget", "risk": risk.questions, "group": "all"}
                yield row | {"example": example, "value": _finite(sum(values))}


class _Products:
    """Inner products of a loss's gradient with those of both risks, by group of weights."""

    def __init__(self, loop: Loop, risks: Sequence[Mapping[str, Tensor]]) -> None:
        self._loop = loop
        self._risks = risks
        self._groups = _groups(loop)

    def with_gradient(self, loss: Tensor) -> Tensor:
        """Return <gradient of the loss, gradient of each risk>: (risks, groups) float64."""
        torch.autograd.backward(loss)
        if self._loop.frozen is not None:
            self._loop.frozen.mask_gradients(self._loop.weights)
        shape = len(self._risks), len(GROUPS)
        found = torch.zeros(shape, dtype=torch.float64, device=self._loop.device)
        for name, gradient in _taken(self._loop.weights).items():
            for place, risk in enumerate(self._risks):
                if name in risk:
                    product = (local(gradient) * local(risk[name])).sum(dtype=torch.float64)
                    found[place, GROUPS.index(self._groups[name])] += product
        return found


def recorder(asked: GEffects, methods: Sequence[Method], material: Material) -> GEffectRecorder:
    """Choose the questions that the G-effect of a training is taken over.

    Args:
        asked: How often, and over how many.
        methods: The training's objective.
        material: Its sets; what the start model answers has been drawn.
    """
    forget, retain = (len(material.rows(part).encoded) for part in _SETS)
    count = min(asked.examples, forget)
    rows: dict[str, tuple[int, ...]] = {
        part.questions: tuple(place * total // count for place in range(count))
        for part, total in zip(_SETS, (forget, retain), strict=True)
    }
    sequences = {
        part: [material.sequences(part, row, 0) for row in rows[part.questions]]
        for part in {**all_needs(methods), **dict.fromkeys(_SETS)}
    }
    return GEffectRecorder(asked.every, rows["forget"], Batch(count, sequences, rows))


def with_watched(
    reference: Reference, job: Job, recorder: GEffectRecorder, scorer: Scorer
) -> Reference:
    """Return what the start model said, of the recorder's sequences too.

    The reference given stays as it is, and what it knows is not asked anew: the training, and those
    after it, read the same bits.

    Raises:
        WorkError: If a sequence is too long for the model.
    """
    wider = replace(reference, said=dict(reference.said))
    for part, need in all_needs(job.methods).items():
        rows = list(chain.from_iterable(recorder.batch.sequences[part]))
        check_length(rows, getattr(job.model.config, "max_position_embeddings", None))
        missing = wider.missing(need, part, rows)
        wider.ask(scorer, missing, job.asked_at_once)
    return wider


def _terms(loop: Loop, batch: Batch, questions: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the weighted forget term of some questions, and what else they add to the objective.

    Those of them that there are, as parts of the whole batch's.
    """
    found: dict[str, list[Tensor]] = {}
    losses = loop.losses(batch, Picked(questions, is_real=True))
    for method, loss in zip(loop.methods, losses, strict=True):
        rest = loss.total
        if loss.forget is not None:
            forget = method.forget_weight * loss.forget
            found.setdefault("forget", []).append(forget)
            rest = rest - forget  # the two gradients cancel to the bit
        if loss.retain is not None:
            found.setdefault("retain", []).append(rest)
    return {term: torch.stack(parts).sum() / len(losses) for term, parts in found.items()}


def _groups(loop: Loop) -> dict[str, str]:
    """Return the group of each weight that moves, by name."""
    model, layers = loop.scorer.model, loop.scorer.layers
    of = {id(weight): "lm_head" for weight in loop.scorer.head.parameters()}
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:  # a network for images, whose first convolution is none
        embeddings = torch.nn.Module()
    of |= {id(weight): "embeddings" for weight in embeddings.parameters()}
    for number, layer in enumerate(layers):
        third = GROUPS[1 + 3 * number // len(layers)]
        of |= {id(weight): third for weight in layer.parameters()}
    own = loop.weights if loop.working is None else {**loop.weights, **loop.working.own}
    return {name: of.get(id(weight), "final_norm") for name, weight in own.items()}


def _taken(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients that there are, and clear them."""
    found = {}
    for name, weight in weights.items():
        if weight.grad is not None:
            found[name], weight.grad = weight.grad, None
    return found


def _over_all_workers(
    loop: Loop, found: Mapping[str, Sequence[Tensor]]
) -> dict[str, list[_Effect]]:
    """Add up the products of all workers' shards; every worker has seen every question."""
    flat = torch.stack(list(chain.from_iterable(found.values()))).flatten()
    sums = iter(sum_of_shards(loop.group, flat.tolist(), loop.training.replicas))
    return {
        term: [tuple(tuple(islice(sums, len(GROUPS))) for _ in _SETS) for _ in effects]
        for term, effects in found.items()
    }


def _sum(effects: Sequence[_Effect]) -> _Effect:
    risks = zip(*effects, strict=True)
    return tuple(tuple(map(sum, zip(*values, strict=True))) for values in risks)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
