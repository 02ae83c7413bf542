"""Losses of a batch's pieces, and their gradients, add up to the batch's."""

import pytest
import torch

from raymcu.methods._base import METHODS, Labelled, all_needs
from raymcu.methods._logits import Logits

METHODS_AND_OPTIONS = [
    ("idk", {}),
    ("idk", {"mixing": "concatenated"}),
    ("dpo", {}),
    ("altpo", {}),
    ("flat", {}),
    ("flat", {"divergence": "jeffrey"}),
    ("llmu", {}),
    ("me", {}),
    ("me", {"mask": "all", "direction": "uniform_to_current"}),
    ("idk_ap", {}),
    ("idk_ap", {"reduction": "mean"}),
    ("random_labels", {}),
    ("bs_s", {"k": 2}),
    ("mox", {"target_weight": 0.5, "target_clamp": 3.0}),
    ("mox", {"memorizer": "negnpo", "target_weight": 0.5, "target": "npo"}),
    ("mox", {"memorizer": "dpo_pos", "retain": "none"}),
    ("task_vector", {}),
    ("catnip", {}),
    ("catnip", {"average": "sequences"}),
    ("dipo", {"k": 2}),
]
QUESTIONS = 3


def pieces(count, weights):
    """Three questions' random answers, of 1 to 4 tokens: at once, and by question."""
    lengths = torch.randint(1, 5, (QUESTIONS * count,)).tolist()
    logits = torch.randn(sum(lengths), 5, dtype=torch.float64).requires_grad_()
    reference = torch.randn(sum(lengths), 5, dtype=torch.float64)
    labels = torch.randint(5, (sum(lengths),))
    nll = -reference.log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    sequence = torch.arange(QUESTIONS * count).repeat_interleave(torch.tensor(lengths))

    def labelled(first, last):
        own = (sequence >= first) & (sequence < last)
        return Labelled(
            current=Logits.of(logits[own]),
            labels=labels[own],
            sequence=sequence[own] - first,
            num_sequences=last - first,
            total_positions=len(labels),
            total_sequences=len(lengths),
            reference_nll=nll[own],
            reference=Logits.of(reference[own]),
            weights=weights.repeat_interleave(count)[first:last],
        )

    whole = labelled(0, len(lengths))
    return logits, whole, [labelled(i * count, (i + 1) * count) for i in range(QUESTIONS)]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 0.0)])
@pytest.mark.parametrize(("name", "options"), METHODS_AND_OPTIONS)
def test_pieces_add_up_to_the_batch(name, options, weights):
    torch.manual_seed(0)
    method = METHODS[name](**options)
    drawn = {part: pieces(part.count, torch.tensor(weights)) for part in all_needs([method])}
    whole = method.loss({part: found[1] for part, found in drawn.items()}).total
    split = [
        method.loss({part: found[2][i] for part, found in drawn.items()}).total
        for i in range(QUESTIONS)
    ]
    total = torch.stack(split).sum()
    assert torch.isfinite(whole)
    assert total.item() == pytest.approx(whole.item(), rel=1e-12)
    leaves = [found[0] for found in drawn.values()]
    for one, other in zip(
        torch.autograd.grad(whole, leaves), torch.autograd.grad(total, leaves), strict=True
    ):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)
