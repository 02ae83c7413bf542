"""Weights without a float32 master, states on the CPU: the same steps in less memory."""

import pytest
import torch

from raymcu.study.training_tables import Average, Lora, OptimizerUse, Training
from raymcu.training.one_by_one import rounded
from raymcu.training.optimizers import Optimizer, clip

NAMES = ["adamw", "muon", "sgd", "sign_sgd"]


def weights(dtype=torch.float32):
    torch.manual_seed(0)
    made = {"model.up.weight": torch.randn(8, 6), "model.norm.weight": torch.randn(8)}
    return {name: weight.to(dtype).requires_grad_() for name, weight in made.items()}


def walked(own, training, steps=5):
    optimizer = Optimizer(own, training)
    for step in range(steps):
        torch.manual_seed(step)
        for weight in own.values():
            weight.grad = torch.randn(weight.shape).to(torch.bfloat16).to(weight.dtype)
        optimizer.step(0.9**step, step)
    return optimizer


@pytest.mark.parametrize("name", NAMES)
def test_offloaded_states_take_the_same_steps(name):
    found = []
    for offload in (False, True):
        own = weights()
        use = OptimizerUse(order="sign" if name == "sign_sgd" else "first", name=name)
        walked(own, Training(optimizer=use, weight_decay=0.1, offload=offload))
        found.append(own)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("name", NAMES)
def test_what_rounding_takes_off_is_kept_to_the_bit(name):
    """Weight and rest together are what a float32 master is; so nothing tiny is lost."""
    use = OptimizerUse(order="sign" if name == "sign_sgd" else "first", name=name)
    training = Training(optimizer=use, learning_rate=1e-6, weight_decay=0.1)
    halves = weights(torch.bfloat16)
    masters = {name: weight.detach().float().requires_grad_() for name, weight in halves.items()}
    optimizer = walked(halves, training.model_copy(update={"weights": "kahan"}))
    walked(masters, training)
    for name, master in masters.items():
        assert torch.equal(optimizer.turns._held(name), master)
        near = master.detach().bfloat16() - halves[name].detach()
        assert (near == 0).float().mean() > 0.9  # a tie goes away from 0, not to the even one
        apart = (master - halves[name].float()).abs()
        assert (apart <= 2**-8 * master.abs()).all()


def test_tiny_steps_add_up():
    """A thousand of 1e-5 are 0.01, of which bfloat16 alone, near 1, would see nothing."""
    moved = {}
    for how in ("kahan", "stochastic"):
        own = {"w": torch.ones(5000).bfloat16().requires_grad_()}
        training = Training(
            optimizer=OptimizerUse(name="sgd", momentum=0.0), learning_rate=1e-5, weights=how
        )
        optimizer = Optimizer(own, training)
        for step in range(1000):
            own["w"].grad = -torch.ones(5000).bfloat16()
            optimizer.step(1.0, step)
        moved[how] = own["w"].detach().double()
    assert moved["kahan"].unique().tolist() == [1.0078125]  # the nearest there is to 1.01
    assert float(moved["stochastic"].mean()) == pytest.approx(1.01, abs=3e-4)
    assert (torch.ones(()).bfloat16() + torch.tensor(1e-5).bfloat16()) == 1


def test_rounding_by_chance_is_fair_and_told_from_the_key():
    value = torch.full((200_000,), 1 + 2**-7 * 0.3)  # three tenths of the way
    found = rounded(value, 1, 0)
    assert set(found.tolist()) == {1.0, 1.0078125}
    share = float((found != 1).double().mean())
    assert share == pytest.approx(0.3, abs=4 * (0.21 / 200_000) ** 0.5)
    assert torch.equal(found, rounded(value, 1, 0))
    assert torch.equal(found[1000:], rounded(value[1000:], 1, 1000))
    assert not torch.equal(found, rounded(value, 2, 0))
    assert torch.equal(rounded(-value, 1, 0), -found)
    exact = torch.randn(1000).bfloat16()
    assert torch.equal(rounded(exact.float(), 1, 0), exact)


def test_the_norm_of_bfloat16_gradients_is_float32s():
    own = {"a": torch.zeros(300), "b": torch.zeros(7, 5)}
    halves = {name: weight.bfloat16().requires_grad_() for name, weight in own.items()}
    torch.manual_seed(0)
    for weight in halves.values():
        weight.grad = torch.randn(weight.shape).bfloat16()
    flat = torch.cat([weight.grad.float().flatten() for weight in halves.values()])
    before = {name: weight.grad.clone() for name, weight in halves.items()}
    assert clip(halves.values(), 0.0) == pytest.approx(float(flat.norm()), rel=1e-6)
    assert all(torch.equal(before[name], weight.grad) for name, weight in halves.items())
    clip(halves.values(), 1.0)
    flat = torch.cat([weight.grad.float().flatten() for weight in halves.values()])
    assert float(flat.norm()) == pytest.approx(1, rel=4e-3)


@pytest.mark.parametrize("how", ["kahan", "stochastic"])
def test_a_training_without_masters_comes_to_about_the_same(study, store, recipes, lab, how):
    """And goes on where it was stopped, to the bit."""
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    plain = recipes.unlearner(study.original, model=half)
    lean = recipes.unlearner(study.original, model=half, training=recipes.training(weights=how))
    assert plain.id != lean.id
    lab.train(store, plain, lean)
    losses = [[row["loss"] for row in lab.history(store, one)] for one in (plain, lean)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    made = lab.weights(store, lean)
    store.folder.remove(lean.id)
    lab.train(store, lean, save_every_s=0, stop_after=3)
    lab.train(store, lean)
    assert lab.same_bits(lab.weights(store, lean), made)


def test_states_that_are_read_again_lie_on_the_cpu():
    """All at once they would not fit where the weights are."""
    training = Training(optimizer=OptimizerUse(name="sgd"), offload=True)
    near = {"w": torch.empty(4, 3, device="meta").requires_grad_()}
    known = torch.arange(12.0).view(4, 3)
    optimizer = Optimizer(near, training)
    optimizer.load({"w|momentum_buffer": known})
    assert torch.equal(optimizer.held()["w|momentum_buffer"], known)
    shared = Optimizer(near, training)  # what several workers wrote is filled in place
    shared.make_room("w|momentum_buffer", known.shape, known.dtype)
    assert shared.held()["w|momentum_buffer"].device.type == "cpu"
    beside = Optimizer(near, training.model_copy(update={"offload": False}))
    beside.load({"w|momentum_buffer": known})
    assert beside.held()["w|momentum_buffer"].device.type == "meta"


MODES = {
    "bfloat16": ("bfloat16", {}),
    "adamw_8bit": ("bfloat16", {"optimizer": "adamw_8bit"}),
    "offload": ("float32", {"offload": True}),
    "nf4": ("bfloat16", {"lora": Lora(base="nf4")}),
    "averaged": ("bfloat16", {"weights": "kahan", "average": Average(every="step")}),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_training_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    study, store, recipes, lab, mode
):
    dtype, changes = MODES[mode]
    if mode == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    recipe = recipes.unlearner(
        study.original,
        "npo",
        options={"retain": "kl"},
        model=study.original.model.model_copy(update={"dtype": dtype}),
        training=recipes.training(**changes),
    )
    lab.train(store, recipe)
    made, losses = lab.weights(store, recipe), lab.history(store, recipe)
    store.folder.remove(recipe.id)
    lab.train(store, recipe, save_every_s=0, stop_after=3)
    lab.train(store, recipe)
    assert lab.same_bits(lab.weights(store, recipe), made)
    assert [row["loss"] for row in lab.history(store, recipe)] == [row["loss"] for row in losses]
    assert losses[0]["retain_loss"] == pytest.approx(0, abs=0 if dtype == "bfloat16" else 1e-6)
    if mode == "offload":
        store.folder.remove(recipe.id)
        near = recipe.model_copy(update={"training": recipes.training()})
        assert near.id == recipe.id
        lab.train(store, near)
        assert lab.same_bits(lab.weights(store, near), made)


def test_offloading_is_no_part_of_the_id(study, recipes):
    plain, off = (
        recipes.unlearner(study.original, training=recipes.training(offload=offload))
        for offload in (False, True)
    )
    assert plain.id == off.id


def test_eight_bit_states_follow_adamw():
    pytest.importorskip("bitsandbytes")
    found = []
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        own = {"w": torch.randn(128, 64).requires_grad_()}
        optimizer = walked(own, Training(optimizer=OptimizerUse(name=name), learning_rate=1e-3))
        found.append(own["w"].detach())
    assert {value.dtype for key, value in optimizer.state().items() if "state" in key} == {
        torch.uint8
    }
    assert float((found[0] - found[1]).abs().max()) < 1e-3
    assert not torch.equal(*found)
    torch.manual_seed(0)
    away = {"w": torch.randn(128, 64).requires_grad_()}
    use = OptimizerUse(name="adamw_8bit")
    walked(away, Training(optimizer=use, learning_rate=1e-3, offload=True))
    assert torch.equal(away["w"], found[1])
