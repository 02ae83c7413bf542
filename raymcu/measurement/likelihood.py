"""One teacher-forced pass for all likelihood metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raymcu.models import Encoded, Scorer, collate


@dataclass(frozen=True)
class Likelihood:
    """What the model thinks of one given answer, token by token."""

    logprobs: np.ndarray
    """log p of each answer token given all before it, in nats: (answer tokens,) float32."""
    choices: np.ndarray
    """The model's greedy token at each of these positions: (answer tokens,)."""
    hits: np.ndarray
    """Whether that is the answer's token: (answer tokens,) bool."""


@torch.no_grad()
def measure_likelihood(
    scorer: Scorer, rows: Sequence[Encoded], pad: int, batch_tokens: int
) -> list[Likelihood]:
    """Score every answer token of every row.

    Logits are taken at answer positions only, in float32. Equal rows are scored once.

    Args:
        scorer: The model.
        rows: Questions with one answer each.
        pad: Token to pad with.
        batch_tokens: Tokens per forward pass, padding included.
    """
    device = next(scorer.parameters()).device
    unique = list(dict.fromkeys(rows))
    found: dict[Encoded, Likelihood] = {}
    for batch in by_length(unique, batch_tokens):
        inputs = collate(batch, pad, device)
        logits = scorer(inputs.input_ids, inputs.row, inputs.column).float()
        taken = logits.gather(1, inputs.labels[:, None])[:, 0]
        logprobs = (taken - logits.logsumexp(-1)).cpu().numpy()
        choices = logits.argmax(-1)
        hits = (choices == inputs.labels).cpu().numpy()
        chosen = choices.cpu().numpy()
        start = 0
        for row in batch:
            end = start + len(row.answer)
            found[row] = Likelihood(logprobs[start:end], chosen[start:end], hits[start:end])
            start = end
    return [found[row] for row in rows]


def by_length(rows: Sequence[Encoded], batch_tokens: int) -> Iterator[list[Encoded]]:
    """Cut rows, longest first, into batches of at most ``batch_tokens`` padded tokens."""
    batch: list[Encoded] = []
    for row in sorted(rows, key=len, reverse=True):
        if batch and len(batch[0]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
