"""BS-S against the reference sheet, A.17."""

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, Needs, Part
from raymcu.methods._logits import Logits

OWN = Part("forget", "sampled")


@pytest.mark.parametrize("renormalize", [False, True])
def test_bs_s_mixes_bs_t_on_both_answers(batches, gradient_of, renormalize):
    options = {"lam": 0.3, "k": 2, "renormalize": renormalize}
    method = METHODS["bs_s"](lam_s=0.25, **options)
    assert method.needs() == {FORGET: Needs(), OWN: Needs()}
    table = batches.table()
    own = batches.replace(table, current=Logits.of(table.logits.detach().flip(0).requires_grad_()))
    loss = method.loss({FORGET: table, OWN: own}).total
    bs_t = METHODS["bs_t"](**options)
    expected = 0.0
    for part, share in ((table, 0.75), (own, 0.25)):
        alone = bs_t.loss({FORGET: part}).total
        expected += share * alone.item()
        assert torch.allclose(gradient_of(loss, part), share * gradient_of(alone, part))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("lam", "renormalize", "total"),
    [
        (0.0, False, -3.2777106968),
        (0.2, False, -2.9606494918),
        (0.2, True, -3.0329684342),
        (0.5, False, -2.4850576842),
        (0.5, True, -2.6658550402),
    ],
)
@pytest.mark.parametrize(("lam_s", "part"), [(0.0, FORGET), (1.0, OWN)])
def test_bs_s_at_its_ends_is_bs_t(batches, lam, renormalize, total, lam_s, part):
    step = {FORGET: batches.of(((0.3, 0.9), (0.5,))), OWN: batches.of(((0.6,), (0.2, 0.1)))}
    step[part] = batches.table()
    method = METHODS["bs_s"](lam=lam, k=2, renormalize=renormalize, lam_s=lam_s)
    # the sheet gives the sum over both sequences
    assert 2 * method.loss(step).total.item() == pytest.approx(total, abs=2e-10)
