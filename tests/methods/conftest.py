"""Batches of known probabilities, and pieces of batches."""

import dataclasses
import math

import pytest
import torch

from raymcu.methods._base import Labelled
from raymcu.methods._logits import Logits

P = ((0.9, 0.5, 0.2), (0.8, 0.25))
P_REFERENCE = ((0.6, 0.5, 0.4), (0.9, 0.5))
"""Reference sheet A.30: two sequences of UNEQUAL length."""


class Batches:
    """Labelled positions in float64."""

    def of(self, p, reference=None):
        """Two classes; the label has these probabilities, sequence by sequence."""
        flat = torch.tensor([x for row in p for x in row], dtype=torch.float64)
        logits = torch.stack([flat.log(), (1 - flat).log()], 1).requires_grad_()
        nll = [-math.log(x) for row in reference for x in row] if reference else None
        return Labelled(
            current=Logits.of(logits),
            labels=torch.zeros(len(flat), dtype=torch.long),
            sequence=torch.tensor([i for i, row in enumerate(p) for _ in row]),
            num_sequences=len(p),
            total_positions=len(flat),
            total_sequences=len(p),
            reference_nll=None if nll is None else torch.tensor(nll, dtype=torch.float64),
        )

    def known(self):
        """The token batch of the reference sheet, with its reference."""
        return self.of(P, P_REFERENCE)

    def table(self):
        """The logit batch of the reference sheet: three tokens, four classes."""
        return Labelled(
            current=Logits.of(
                torch.tensor(
                    [(2, 1, 0, -1), (0, 3, 1, 0), (1, 1, 2, 0)], dtype=torch.float64
                ).requires_grad_()
            ),
            labels=torch.tensor([0, 1, 3]),
            sequence=torch.tensor([0, 0, 1]),
            num_sequences=2,
            total_positions=3,
            total_sequences=2,
            reference=Logits.of(
                torch.tensor([(2.5, 1, 0, -1), (0, 2, 1, 0), (1, 0, 2, 1)], dtype=torch.float64)
            ),
        )

    def replace(self, batch, **changes):
        """The batch with other fields."""
        return dataclasses.replace(batch, **changes)


@pytest.fixture
def batches():
    """Labelled positions in float64."""
    return Batches()


def gradient(loss, batch):
    """The loss's gradient with respect to the logits."""
    return torch.autograd.grad(loss, batch.logits, retain_graph=True)[0]


@pytest.fixture
def gradient_of():
    """The gradient of a loss with respect to a batch's logits."""
    return gradient


def sequence_pulls(loss, batch):
    """Weight of each sequence: a loss's gradient over that of ascent on sequence sums."""
    ascent = gradient(batch.sequence_mean(-batch.sequence_sum(batch.nll)), batch)
    ratio = (gradient(loss, batch) / ascent)[:, 0]
    first = [int((batch.sequence == i).nonzero()[0]) for i in range(batch.num_sequences)]
    assert torch.allclose(ratio, ratio[first][batch.sequence], rtol=1e-12)
    return ratio[first].tolist()


@pytest.fixture
def pulls_of():
    """How strongly a loss pulls at each sequence of a batch."""
    return sequence_pulls
