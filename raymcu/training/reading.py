"""How a step is read: its sequences, piece by piece, and what the model says of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raymcu.errors import WorkError
from raymcu.methods._base import Labelled, Needs, Part
from raymcu.methods._logits import Logits
from raymcu.models import packing
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Training
from raymcu.training.data import Stream
from raymcu.training.group import Group
from raymcu.training.material import Material, num_labelled
from raymcu.training.reference import Reference
from raymcu.training.sharding import drop_gathered


@dataclass(frozen=True)
class Batch:
    """The sequences of one step."""

    size: int
    """Questions, forget and retain ones counted once."""
    sequences: Mapping[Part, Sequence[Sequence[Encoded]]]
    """By part and question."""
    rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Which rows of the ``forget`` and the ``retain`` set its questions are."""
    step: int | None = None
    """Which step it is, from 0; None for sequences that are no step's and are read as they are."""


@dataclass(frozen=True)
class Picked:
    """The questions of one piece."""

    questions: tuple[int, ...]
    is_real: bool
    """False for a pass that a worker without questions makes to keep pace."""


@dataclass
class Reader:
    """Reads steps with one model, in pieces."""

    scorer: Scorer
    """Perhaps sharded."""
    needs: Mapping[Part, Needs]
    """What is read, and what is asked of it."""
    stream: Stream
    material: Material
    reference: Reference
    """What the start model said, where a method needs it."""
    device: torch.device
    micro_batch_size: int | None
    """Questions of a piece; None takes a worker's whole share at once."""
    is_weighed: bool
    """Whether sequences are weighed by their loss."""
    label_smoothing: float
    is_bfloat16: bool
    """Whether it computes under autocast; weights stay float32."""
    group: Group
    """Workers that share each step."""
    longest_packed: float = 0
    """Tokens of the longest sequence that may be packed with others; 0 packs none."""

    def batch(self, number: int) -> Batch:
        """Return the sequences of a step."""
        rows = self.stream.step(number)
        epoch = number // self.stream.steps_per_epoch
        return Batch(
            max(len(rows.forget), len(rows.retain)),
            {
                part: [self.material.sequences(part, row, epoch) for row in rows.of(part.questions)]
                for part in self.needs
            },
            {questions: rows.of(questions) for questions in ("forget", "retain")},
            number,
        )

    def pieces(self, batch: Batch) -> Iterator[Picked]:
        """Yield the questions of this worker's share, as many at once as fit.

        Every worker makes as many passes as the others, or a sharded model would hang.
        """
        cuts = [
            self._cut(batch, range(batch.size)[rank :: self.group.size])
            for rank in range(self.group.size)
        ]
        own = cuts[self.group.rank]
        for number in range(max(map(len, cuts))):
            is_real = number < len(own)
            yield Picked(own[number] if is_real else (0,), is_real)

    def _cut(self, batch: Batch, share: Sequence[int]) -> list[tuple[int, ...]]:
        """Cut a worker's questions into pieces.

        Packed, a piece takes questions while they have, in every part, no more tokens than
        ``micro_batch_size`` of the step's longest.
        """
        most = self.micro_batch_size or max(1, len(share))
        if not all(self._is_packed(part, chain(*rows)) for part, rows in batch.sequences.items()):
            return [tuple(share[i : i + most]) for i in range(0, len(share), most)]
        tokens = np.array(
            [[sum(map(len, rows)) for rows in of] for of in batch.sequences.values()]
        )  # (parts, questions)
        room = most * tokens.max(axis=1)
        cuts: list[tuple[int, ...]] = []
        for question in share:
            if cuts and (tokens[:, [*cuts[-1], question]].sum(axis=1) <= room).all():
                cuts[-1] = (*cuts[-1], question)
            else:
                cuts.append((question,))
        return cuts

    def _is_packed(self, part: Part, rows: Iterable[Encoded]) -> bool:
        """Whether sequences of a part may be packed: none of them is too long, no padding read."""
        can = self.longest_packed > 0 and part.read != "padded"
        return can and max(map(len, rows)) <= self.longest_packed

    def sequence_losses(self, part: Part, piece: Labelled, batch: Batch, picked: Picked) -> Tensor:
        """Return the mean NLL per token of each sequence: what a curriculum calls its loss."""
        if part.read != "prediction":  # its logits predict other tokens: another pass has the loss
            plain = replace(part, read="prediction")
            same = replace(batch, sequences={plain: batch.sequences[part]})
            with torch.no_grad():
                piece = self.labelled(plain, same, picked, Needs())
        return (piece.sequence_sum(piece.nll) / piece.lengths).detach()

    def labelled(self, part: Part, batch: Batch, picked: Picked, needs: Needs) -> Labelled:
        """Return the labelled positions of a piece, with what is needed of them."""
        questions = batch.sequences[part]
        rows = [row for i in picked.questions for row in questions[i]]
        shown = rows
        if self.material.augmentation is not None and batch.step is not None:
            shown = self.material.augmented(part, questions, picked.questions, batch.step)
        is_packed = self._is_packed(part, shown) and len({len(row) for row in shown}) > 1
        together = self.scorer.pack if is_packed else self.scorer.collate
        items = together(shown, every_position=part.every_position, read=part.read)
        states = None
        with self._autocast():
            where = (items.inputs, items.row, items.column, needs.layer, False)
            hidden = self.scorer(*where, mask=items.mask, final_norm=needs.final_norm)
            if needs.layer is not None:
                hidden, states = hidden
        return Labelled(
            current=Logits(
                hidden,
                self._head(None),
                self.scorer.num_tokens,
                getattr(self.scorer, "linear_head", None),
            ),
            labels=items.labels,
            sequence=items.row,
            num_sequences=len(rows),
            **self._totals(part, batch),
            rows=self._places(part, batch, picked),
            label_smoothing=self.label_smoothing,
            states=states,
            **self._said(part, needs, rows),
        )

    def empty(self, part: Part, batch: Batch, needs: Needs) -> Labelled:
        """Return a piece of a part without a question, which knows the totals of the batch."""
        none = torch.zeros(0, dtype=torch.long, device=self.device)
        wide = torch.zeros(0, self.scorer.width, device=self.device)
        logits = Logits(wide, self._head(None), self.scorer.num_tokens)
        states = None if needs.layer is None else wide
        return Labelled(
            current=logits,
            labels=none,
            sequence=none,
            num_sequences=0,
            **self._totals(part, batch),
            reference_nll=wide[:, 0] if needs.reference_nll else None,
            reference=logits if needs.reference_logits else None,
            random=logits if needs.random_logits else None,
            states=states,
            reference_states=states if needs.reference_states else None,
            weights=wide[:, 0] if self.is_weighed else None,
            label_smoothing=self.label_smoothing,
        )

    @staticmethod
    def _totals(part: Part, batch: Batch) -> dict[str, Any]:
        questions = batch.sequences[part]
        return {
            "total_positions": sum(num_labelled(part, r) for rows in questions for r in rows),
            "total_sequences": sum(len(rows) for rows in questions),
        }

    @staticmethod
    def _places(part: Part, batch: Batch, picked: Picked) -> tuple[int, ...]:
        """Return which row of its set each sequence is of."""
        places = batch.rows.get(part.questions, ())
        if not places:
            return ()
        return tuple(places[i] for i in picked.questions for _ in batch.sequences[part][i])

    def _said(self, part: Part, needs: Needs, rows: Sequence[Encoded]) -> dict[str, Any]:
        """Return what other models said."""
        said: dict[str, Any] = {}
        if needs.reference_logits:
            said["reference"] = self._made(self.reference, part, rows)
        if needs.random_logits:
            assert self.reference.random is not None  # noqa: S101 - the start model saw to it
            said["random"] = self._made(self.reference.random, part, rows)
        if needs.reference_nll:
            said["reference_nll"] = self.reference.nll(part, rows, self.device)
        if needs.reference_states:
            said["reference_states"] = self.reference.states(part, needs, rows, self.device)
        return said

    def _made(self, reference: Reference, part: Part, rows: Sequence[Encoded]) -> Logits:
        states = reference.hidden(part, rows, self.device)
        return Logits(states, self._head(reference.head), self.scorer.num_tokens)

    def _head(self, other: nn.Module | None) -> Callable[[Tensor], Tensor]:
        """Return what makes logits of final states, by the model's own head or another."""

        def make(states: Tensor) -> Tensor:
            with self._autocast():
                made: Tensor = self.scorer.logits(states, other)
            return made

        return make

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.is_bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def longest_packed(scorer: Any, training: Training, device: torch.device) -> float:
    """Return how many tokens the longest sequence may have that a training packs; 0 packs none.

    Args:
        scorer: Holds the model, perhaps sharded, which is tried.
        training: Says whether to pack.
        device: Where it trains.

    Raises:
        WorkError: ``cannot_pack`` if it is to, and the model cannot.
    """
    is_asked = training.packing == "packed"
    if not is_asked and (training.packing == "none" or device.type != "cuda"):
        return 0
    found = packing.longest_packed(scorer) if isinstance(scorer, Scorer) else 0
    drop_gathered(scorer)  # as no backward pass followed
    if is_asked and not found:
        raise WorkError(
            "cannot_pack",
            f"training.packing is 'packed', and {type(scorer.model).__name__} cannot be fed "
            "several sequences in one row: its attention is not transformers' 'sdpa', or what it "
            "keeps from token to token goes on into the next. Set training.packing = 'auto'.",
        )
    return found
