"""The start model is asked as the training will read it: piece by piece, in its precision.

A sequence is asked in the piece in which the training first meets it, so what is known of it is
what the first step finds, to the bit: a log-ratio or divergence from the start model begins at 0.
No piece is larger than one of the training.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from raymcu.methods._base import Needs, Part
from raymcu.models.encoding import Encoded
from raymcu.training.group import Alone, Group
from raymcu.training.reading import Batch, Picked, Reader
from raymcu.training.reference import Asked, Said

Round = tuple[Batch, list[Picked], set[Encoded]]
"""A step, what each worker reads of it at once, and which of it nobody has read before."""


@torch.no_grad()
def ask_by_pieces(reader: Reader, part: Part, needs: Needs, num_steps: int, group: Group) -> Said:
    """Return what a model says of every sequence of a part that a training sees, on the CPU.

    Args:
        reader: Of the start model, with the training's stream.
        part: Not padded: how far its sequences are depends on all of them.
        needs: What is to be known.
        num_steps: Steps of the training.
        group: Its workers: each asks the pieces that it will read, and is told what the others
            found. All of them make as many passes.
    """
    wanted = {
        Asked.of("nll", part, needs): needs.reference_nll,
        Asked.of("hidden", part, needs): needs.reference_logits,
        Asked.of("states", part, needs): needs.reference_states,
    }
    plain = Needs(
        layer=needs.layer if needs.reference_states else None, final_norm=needs.final_norm
    )
    found: dict[Asked, dict[Encoded, Tensor]] = {
        a: {} for a, is_wanted in wanted.items() if is_wanted
    }
    was_training = reader.scorer.training
    reader.scorer.eval()
    for batch, picks, new in _rounds(reader, part, num_steps, group):
        own = picks[group.rank]
        piece = reader.labelled(part, batch, own, plain)
        lengths = piece.lengths.tolist()
        for asked, said in found.items():
            values = {"nll": lambda p: p.nll, "hidden": lambda p: p.current.states,
                      "states": lambda p: p.given("states")}[asked.what](piece)  # fmt: skip
            pieces = torch.split(values.detach().cpu(), lengths)
            for row, told in zip(_rows(part, batch, own), pieces, strict=True):
                if own.is_real and row in new:
                    said[row] = told.clone()
    reader.scorer.train(was_training)
    all_told = group.gather(found)
    return {asked: {k: v for one in all_told for k, v in one[asked].items()} for asked in found}


def _rounds(reader: Reader, part: Part, num_steps: int, group: Group) -> Iterator[Round]:
    """Yield what is read at once, where it has a sequence that no earlier one had."""
    readers = [replace(reader, needs={part: Needs()}, group=Alone(rank, group.size))
               for rank in range(group.size)]  # fmt: skip
    known: set[Encoded] = set()
    for number in range(num_steps):
        batch = readers[0].batch(number)
        for picks in zip(*(one.pieces(batch) for one in readers), strict=True):
            rows = {row for own in picks if own.is_real for row in _rows(part, batch, own)}
            if new := rows - known:
                known |= new
                yield batch, list(picks), new


def _rows(part: Part, batch: Batch, picked: Picked) -> list[Encoded]:
    return [row for number in picked.questions for row in batch.sequences[part][number]]
