"""MOX against the reference sheet, A.21. Lower is better memorised."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, REFUSED, RETAIN, Needs

KNOWN = (0.09 / 0.12, 0.2 / 0.45)
"""pi / pi_start of the sheet's two answers."""


def term(batch, **options):
    return METHODS["mox"](retain="none", **options).forget_term({FORGET: batch})


def pulls(batch, gradient_of, **options):
    """Each sequence's gradient over that of descent on sequence sums."""
    sums = batch.sequence_mean(batch.sequence_sum(batch.nll))
    ratio = (gradient_of(term(batch, **options), batch) / gradient_of(sums, batch))[:, 0]
    return [ratio[batch.sequence == i].mean().item() for i in range(batch.num_sequences)]


def test_mox_memorises_by_nll_and_keeps_by_kl(batches):
    method = METHODS["mox"]()
    assert method.needs() == {FORGET: Needs(), RETAIN: Needs(reference_logits=True)}
    loss = method.loss({FORGET: batches.known(), RETAIN: batches.table()})
    assert loss.forget.item() == pytest.approx(0.803477, abs=5e-7)
    assert loss.retain.item() == pytest.approx(0.085512747, abs=5e-10)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_negnpo_is_minus_npo(batches, gradient_of, beta):
    batch = batches.known()
    npo = METHODS["npo"](beta=beta).loss({FORGET: batch}).total
    loss = term(batch, memorizer="negnpo", beta=beta)
    assert loss.item() == pytest.approx(-npo.item(), rel=1e-15)
    assert torch.equal(gradient_of(loss, batch), -gradient_of(npo, batch))


def test_dpo_pos_is_npo_of_the_inverse_ratio(batches, gradient_of):
    batch = batches.known()
    options = {"memorizer": "dpo_pos", "beta": 0.5}
    expected = sum(4 * math.log(1 + ratio**-0.5) / 2 for ratio in KNOWN)
    assert term(batch, **options).item() == pytest.approx(expected, rel=1e-12)
    weights = [2 / (1 + ratio**0.5) for ratio in KNOWN]
    assert pulls(batch, gradient_of, **options) == pytest.approx(weights, rel=1e-12)


@pytest.mark.parametrize("memorizer", ["negnpo", "dpo_pos"])
def test_preferences_at_the_start_model_are_descent_on_sequence_sums(
    batches, gradient_of, memorizer
):
    p = ((0.9, 0.5, 0.2), (0.8, 0.25))
    assert pulls(batches.of(p, p), gradient_of, memorizer=memorizer) == pytest.approx([1, 1])


def test_pull_of_negnpo_grows_to_two_and_that_of_dpo_pos_fades(batches, gradient_of):
    learnt = batches.of(((0.99,),), ((1e-9,),))
    assert pulls(learnt, gradient_of, memorizer="negnpo", beta=1.0)[0] == pytest.approx(2)
    assert pulls(learnt, gradient_of, memorizer="dpo_pos", beta=1.0)[0] < 1e-8


def test_target_drives_the_memoriser_away_from_the_refusals(batches, gradient_of):
    forget, refused = batches.known(), batches.of(((0.5,), (0.25, 0.01)), ((0.5,), (0.5, 0.02)))
    step = {FORGET: forget, REFUSED: refused}
    method = METHODS["mox"](retain="none", target_weight=0.7)
    assert method.needs() == {FORGET: Needs(), REFUSED: Needs()}
    loss = method.forget_term(step)
    expected = forget.nll.mean() - 0.7 * refused.nll.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    assert (gradient_of(loss, refused)[:, 0] > 0).all()

    clamped = METHODS["mox"](retain="none", target_weight=0.7, target_clamp=2.0).forget_term(step)
    expected = forget.nll.mean() - 0.7 * (math.log(2) + math.log(4) + 2) / 3
    assert clamped.item() == pytest.approx(expected.item(), rel=1e-14)
    assert gradient_of(clamped, refused)[2].abs().max() == 0
    assert (gradient_of(clamped, refused)[:2, 0] > 0).all()

    method = METHODS["mox"](retain="none", target_weight=0.7, target="npo")
    assert method.needs()[REFUSED] == Needs(reference_nll=True)
    npo = METHODS["npo"]().loss({FORGET: refused}).total
    expected = forget.nll.mean() + 0.7 * npo
    assert method.forget_term(step).item() == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 4.0])
def test_unlearner_is_extrapolated_away_from_the_memoriser(alpha):
    c = METHODS["mox"](alpha=alpha).coefficient()
    start, memoriser = 0.7, 0.9
    expected = (1 + alpha) * start - alpha * memoriser
    assert (1 - c) * start + c * memoriser == pytest.approx(expected)


def test_mox_without_kl_is_a_task_vectors_negation(batches, gradient_of):
    batch, method = batches.table(), METHODS["mox"](retain="none", alpha=5)
    other = METHODS["task_vector"](scale=5)
    ours, theirs = (m.loss({FORGET: batch}).total for m in (method, other))
    assert torch.equal(gradient_of(ours, batch), gradient_of(theirs, batch))
    assert method.coefficient() == other.coefficient()
