"""RMU against the reference sheet, A.6 and A.30."""

import re

import pytest
import torch

from raymcu.methods import rmu
from raymcu.methods._base import FORGET, METHODS, RETAIN, Labelled, Needs, Part
from raymcu.methods._logits import Logits

RMU = METHODS["rmu"]
STATES = ((1, 0), (0, 1), (2, 2), (1, 1), (0, 0), (0, 0))
EVERYWHERE = {kind: Part(kind, every_position=True, read="token") for kind in ("forget", "retain")}
AT = {kind: Part(kind, read="token") for kind in ("forget", "retain")}


def states(rows, sequence, reference=None):
    return Labelled(
        current=Logits.of(torch.empty(len(rows), 0)),
        labels=torch.zeros(len(rows), dtype=torch.long),
        sequence=torch.tensor(sequence),
        num_sequences=max(sequence) + 1,
        total_positions=len(rows),
        total_sequences=max(sequence) + 1,
        states=torch.tensor(rows, dtype=torch.float64).requires_grad_(),
        reference_states=None if reference is None else torch.tensor(reference).double(),
    )


def everything():
    return states(STATES, (0, 0, 0, 1, 1, 1))


def masked():
    return states(STATES[:4], (0, 0, 0, 1))


@pytest.fixture
def known_vector(monkeypatch):
    """u of the reference sheet, whose norm is 1."""
    monkeypatch.setattr(rmu, "control_vector", lambda *_: torch.tensor([0.6, 0.8]).double())


@pytest.mark.usefixtures("known_vector")
def test_wmdp_is_the_mean_over_all_tokens():
    part = EVERYWHERE["forget"]
    term = RMU(steering=2).forget_term({part: everything()})
    assert term.item() == pytest.approx(1.133333, abs=5e-7)


@pytest.mark.usefixtures("known_vector")
@pytest.mark.parametrize(
    ("reduction", "value"), [("sequence", 0.533333), ("ou_broadcast", 0.933333), ("token", 0.7)]
)
def test_ou_masks_the_prompt(reduction, value):
    method = RMU(variant="ou", reduction=reduction)
    assert method.forget_term({AT["forget"]: masked()}).item() == pytest.approx(value, abs=5e-7)
    assert RMU(variant="ou") == RMU(variant="ou", reduction="ou_broadcast", steering=2)


@pytest.mark.usefixtures("known_vector")
@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_pieces_add_up(batches, reduction):
    batch, method = masked(), RMU(variant="ou", reduction=reduction)
    pieces = [
        batches.replace(batch, states=batch.states[own], sequence=zeros, num_sequences=1)
        for own, zeros in (
            (slice(0, 3), torch.zeros(3).long()),
            (slice(3, 4), torch.zeros(1).long()),
        )
    ]
    total = sum(method.forget_term({AT["forget"]: piece}).item() for piece in pieces)
    assert total == pytest.approx(method.forget_term({AT["forget"]: batch}).item(), rel=1e-14)


@pytest.mark.usefixtures("known_vector")
def test_gradient_reaches_the_states_alone():
    forget = everything()
    retain = states(((1, 2), (3, 4), (5, 6)), (0, 1, 1), ((1, 1), (1, 1), (0, 6)))
    step = {EVERYWHERE["forget"]: forget, EVERYWHERE["retain"]: retain}
    loss = RMU(steering=2, retain_weight=3).loss(step)
    assert loss.retain.item() == pytest.approx((0 + 1 + 4 + 9 + 25 + 0) / 6)
    assert loss.total.item() == pytest.approx(loss.forget.item() + 3 * loss.retain.item())
    loss.total.backward()
    target = torch.tensor([1.2, 1.6]).double()
    assert torch.allclose(forget.states.grad, 2 * (forget.states.detach() - target) / 12)
    off = retain.states.detach() - retain.reference_states
    assert torch.allclose(retain.states.grad, 3 * 2 * off / 6)
    assert forget.logits.grad is None


def test_loss_vanishes_at_the_target_alone():
    method = RMU(steering=5, vector_seed=3)
    vector = 5 * rmu.control_vector(3, 8, True).double()
    batch = states(vector.expand(4, 8).tolist(), (0, 0, 0, 1))
    assert method.forget_term({EVERYWHERE["forget"]: batch}).item() == 0
    batch = states((vector + 0.1).expand(4, 8).tolist(), (0, 0, 0, 1))
    assert method.forget_term({EVERYWHERE["forget"]: batch}).item() == pytest.approx(0.01)


def test_vector_is_random_non_negative_and_repeatable():
    unit, raw = rmu.control_vector(1, 64, True), rmu.control_vector(1, 64, False)
    assert unit.norm().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(unit, raw / raw.norm())
    assert 0 <= raw.min() < 0.1
    assert 0.9 < raw.max() < 1
    rmu.control_vector.cache_clear()
    torch.manual_seed(99)
    assert torch.equal(unit, rmu.control_vector(1, 64, True))
    assert not torch.equal(unit, rmu.control_vector(2, 64, True))


def test_geffect_steers_to_the_vector_as_drawn():
    target = 2 * rmu.control_vector(42, 8, False).double()
    batch = states(target.expand(3, 8).tolist(), (0, 0, 1))
    assert RMU(variant="geffect").forget_term({FORGET: batch}).item() == pytest.approx(0, abs=1e-14)


def test_each_variant_reads_what_it_needs():
    kept = Needs(logits=False, layer=5, reference_states=True)
    steered = Needs(logits=False, layer=5)
    assert RMU(layer=5).needs() == {EVERYWHERE["forget"]: steered, EVERYWHERE["retain"]: kept}
    assert RMU(variant="ou", layer=5).needs() == {AT["forget"]: steered, AT["retain"]: kept}
    normed = Needs(logits=False, layer=5, final_norm=True)
    kl = {FORGET: normed, RETAIN: Needs(reference_logits=True)}
    assert RMU(variant="geffect", layer=5).needs() == kl
    assert RMU(variant="geffect", layer=5, retain="none").needs() == {FORGET: normed}
    before = RMU(variant="ou", layer=5, position="prediction")
    assert before.needs() == {FORGET: steered, RETAIN: kept}


def test_wmdp_trains_three_down_projections():
    names = [f"model.layers.{i}.mlp.{x}_proj.weight" for i in range(20) for x in ("up", "down")]
    trained = [name for name in names if re.fullmatch(RMU().trained(), name)]
    assert trained == [f"model.layers.{i}.mlp.down_proj.weight" for i in (5, 6, 7)]
    assert [name for name in names if re.fullmatch(RMU(layer=1).trained(), name)] == [
        f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)
    ]
    assert RMU(variant="ou").trained() == RMU(variant="geffect").trained() == ".*"
