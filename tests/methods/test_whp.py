"""WHP's inference rule against the reference sheet, A.19."""

import torch

from raymcu.methods._whp import suppressed_logits


def test_raised_logits_are_lowered_by_their_rise():
    base, reinforced = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5])
    assert suppressed_logits(base, reinforced).tolist() == [-1, 2, 0.5]
    assert suppressed_logits(base, reinforced, 0.5).tolist() == [0, 2, 0.5]
    assert suppressed_logits(base, reinforced, 0).tolist() == base.tolist()


def test_logits_are_suppressed_in_float32_at_least():
    base, reinforced = torch.tensor([[1.0]]).bfloat16(), torch.tensor([[1.0078125]]).bfloat16()
    found = suppressed_logits(base, reinforced, 0.1)
    assert found.dtype == torch.float32
    assert found.shape == (1, 1)
    assert abs(found.item() - 0.99921875) < 1e-7
