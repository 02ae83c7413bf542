"""Labels that are sampled from the model itself, the same ones however a batch is shared out."""

import torch
from torch import Tensor

from raymcu.methods._base import Part
from raymcu.methods._logits import Logits, read
from raymcu.training.counted import key_of, uniform
from raymcu.training.material import num_labelled
from raymcu.training.reading import Batch, Picked

_WHOLE = 2.0**40
"""Into how many parts probability is cut: sums of whole numbers are exact, in any order."""


@torch.no_grad()
def sample(logits: Logits, seed: int, part: Part, batch: Batch, picked: Picked) -> Tensor:
    """Return a label for each labelled position of a piece, drawn from what the model says.

    A draw depends on the seed, the step and the position's place in the whole batch.

    Args:
        logits: Of the piece's labelled positions.
        seed: Of the training.
        part: What is read.
        batch: A step's.
        picked: The piece.
    """
    told = (part.questions, part.answers, part.every_position, part.read)
    key = key_of(seed, batch.step, *told)
    counts = [sum(num_labelled(part, row) for row in rows) for rows in batch.sequences[part]]
    device = logits.states.device
    shares = [
        uniform(key, sum(counts[:question]), torch.Size([counts[question]]), device)
        for question in picked.questions
    ]
    return read(logits, _reached, torch.cat(shares))


def _reached(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the class at which the probabilities so far pass a share of them all."""
    passed = logits.softmax(-1).mul_(_WHOLE).long().cumsum_(-1)
    bound = (shares * passed[:, -1]).long()
    return torch.searchsorted(passed, bound[:, None], right=True)[:, 0]
