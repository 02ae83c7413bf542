"""The frozen start model, asked once: no second model in the training loop.

NPO-like methods need only -log p of each answer token, KL only the final hidden states at answer
positions (one product with the start model's head then gives its logits).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raymcu.models import Batch, Encoded, Scorer, collate


@dataclass
class Reference:
    """What the start model said, by row of the data set."""

    nll: dict[int, Tensor] = field(default_factory=dict)
    """Forget row to (answer tokens,)."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Retain row to (answer tokens, hidden)."""
    head: nn.Module | None = None
    """The start model's output embedding, if ``hidden`` is to be turned into logits."""

    def nll_of(self, rows: Sequence[int], device: torch.device) -> Tensor | None:
        """Return -log p over the rows' answer tokens, in order: (positions,)."""
        return torch.cat([self.nll[row] for row in rows]).to(device) if self.nll else None

    def logits_of(self, rows: Sequence[int], scorer: Scorer, device: torch.device) -> Tensor | None:
        """Return logits over the rows' answer tokens, in order: (positions, vocab)."""
        if self.head is None:
            return None
        with torch.no_grad():
            hidden = torch.cat([self.hidden[row] for row in rows]).to(device)
            return scorer.logits(hidden, self.head)


@torch.no_grad()
def ask_nll(scorer: Scorer, rows: Sequence[Encoded], pad: int, batch: int) -> dict[int, Tensor]:
    """Return -log p of every answer token of every row under the model as it is."""
    found: dict[int, Tensor] = {}
    for chunk, piece in _pieces(scorer, range(len(rows)), rows, pad, batch):
        logits = scorer(piece.input_ids, piece.row, piece.column).float()
        nll = nn.functional.cross_entropy(logits, piece.labels, reduction="none")
        found |= _split(chunk, nll, rows)
    return found


@torch.no_grad()
def ask_hidden(
    scorer: Scorer, wanted: Sequence[int], rows: Sequence[Encoded], pad: int, batch: int
) -> tuple[dict[int, Tensor], nn.Module]:
    """Return final hidden states at the answer positions of the wanted rows, and the head."""
    found: dict[int, Tensor] = {}
    for chunk, piece in _pieces(scorer, wanted, rows, pad, batch):
        hidden = scorer.hidden(piece.input_ids, piece.row, piece.column)
        found |= _split(chunk, hidden, rows)
    head = copy.deepcopy(scorer.model.get_output_embeddings())
    return found, head.requires_grad_(False)


def _pieces(
    scorer: Scorer, wanted: Iterable[int], rows: Sequence[Encoded], pad: int, batch: int
) -> Iterator[tuple[list[int], Batch]]:
    device = next(scorer.parameters()).device
    was_training = scorer.training
    scorer.eval()
    order = sorted(wanted, key=lambda row: len(rows[row]))
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        yield chunk, collate([rows[row] for row in chunk], pad, device)
    scorer.train(was_training)


def _split(chunk: Sequence[int], values: Tensor, rows: Sequence[Encoded]) -> dict[int, Tensor]:
    pieces = torch.split(values.cpu(), [len(rows[row].answer) for row in chunk])
    return {row: piece.clone() for row, piece in zip(chunk, pieces, strict=True)}
