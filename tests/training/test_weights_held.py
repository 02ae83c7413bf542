"""Weights that must not move: those an update mask holds, and those a method does not train."""

import re

import pytest
import torch

from raymcu.errors import WorkError
from raymcu.masks._base import MASKS
from raymcu.methods._base import METHODS
from raymcu.training import start_model
from raymcu.training.workshop import Workshop


def moved(lab, store, study, recipe):
    """Which elements of the saved weights differ from the start model's."""
    start, now = (lab.weights(store, one) for one in (study.original, recipe))
    assert start.keys() == now.keys()
    return {name: now[name] != start[name] for name in start}


def share(masks):
    return sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "spsa"])
@pytest.mark.parametrize(("mask", "keep"), [("wagle", 0.3), ("salun", 0.05)])
def test_a_mask_lets_its_share_of_the_weights_move(
    study, store, recipes, lab, mask, keep, optimizer
):
    """Decay and momentum would move the others too, bit by bit."""
    training = recipes.training(optimizer, weight_decay=0.1, epochs=1.0)
    recipe = recipes.unlearner(
        study.original, "npo", training=training, mask=recipes.choice(mask, keep=keep)
    )
    lab.train(store, recipe)
    assert share(moved(lab, store, study, recipe)) == pytest.approx(keep, abs=0.01)


def test_salun_moves_where_the_forget_loss_is_steepest(study, store, recipes, lab, rows_of):
    """By hand: the gradient of every batch's mean NLL, summed over an epoch's batches."""
    training = recipes.training(weight_decay=0.1, epochs=0.5)
    recipe = recipes.unlearner(
        study.original, "grad_ascent", training=training, mask=recipes.choice("salun", keep=0.2)
    )
    job = Workshop(store, 1e9)._prepare(recipe)
    for number in range(job.stream.steps_per_epoch):
        nll, count = 0.0, 0
        for row in job.stream.step(number).forget:
            ids = torch.tensor([job.stream.forget[row].prompt + job.stream.forget[row].answer])
            labels = ids.clone()
            labels[:, : len(job.stream.forget[row].prompt)] = -100
            size = len(job.stream.forget[row].answer)
            nll = nll + job.model(input_ids=ids, labels=labels).loss * size
            count += size
        (nll / count).backward()
    gradients = {name: w.grad.abs() for name, w in job.model.named_parameters()}
    flat = torch.cat([g.flatten() for g in gradients.values()])
    bound = flat.kthvalue(round(0.8 * len(flat))).values
    lab.train(store, recipe)
    wrong = sum(
        int((mask != (gradients[name] > bound)).sum())
        for name, mask in moved(lab, store, study, recipe).items()
    )
    assert wrong <= 1e-3 * len(flat)  # but for rounding at the bound, and moves lost in it


def test_a_mask_of_nothing_is_told(make):
    loop = make("grad_ascent")
    frozen = start_model.Frozen(
        loop.weights, {n: torch.zeros_like(w, dtype=torch.bool) for n, w in loop.weights.items()}
    )
    before = {name: weight.detach().clone() for name, weight in loop.weights.items()}
    loop = make("grad_ascent", frozen=frozen, weight_decay=0.1)
    with pytest.raises(WorkError) as caught:
        next(iter(loop.run()))
    assert caught.value.reason == "nothing_moved"
    assert all(torch.equal(before[name], w) for name, w in loop.weights.items())


def test_a_mask_keeps_at_least_one_weight():
    assert MASKS["salun"](keep=1e-9).count(1000) == 1


def test_counts_beyond_float32_are_added_exactly(monkeypatch):
    """A group adds in floats; 2^24 + 1 weights of one digit are more than float32 can count."""

    class Floats:
        def sum(self, values):
            return [float(value) for value in values]

    caught = []
    monkeypatch.setattr(start_model, "freeze", lambda *rest: caught.append(rest[-1]))
    stream = type("S", (), {"steps_per_epoch": 0, "forget": (), "retain": ()})()
    choice = type("C", (), {"name": "salun", "options": {}})()
    recipe = type("R", (), {"mask": choice})()
    alone = type("T", (), {"replicas": 1})
    job = type("J", (), {"recipe": recipe, "stream": stream, "training": alone})
    start_model.freeze_weights(job, None, {}, Floats())
    (add,) = caught
    assert add(torch.tensor([2**24 + 1, 2**40 + 1])).tolist() == [2**24 + 1, 2**40 + 1]


@pytest.mark.parametrize("optimizer", ["adamw", "soul"])
def test_rmu_trains_its_down_projections_only(study, store, recipes, lab, optimizer):
    training = recipes.training(optimizer, weight_decay=0.1)
    recipe = recipes.unlearner(study.original, "rmu", options={"layer": 1}, training=training)
    lab.train(store, recipe)
    masks = moved(lab, store, study, recipe)
    found = {name for name, mask in masks.items() if mask.any()}
    assert found == {f"model.layers.{n}.mlp.down_proj.weight" for n in (0, 1)}
    pattern = METHODS["rmu"](layer=1).trained()
    assert found == {name for name in masks if re.fullmatch(pattern, name)}
    assert share({name: masks[name] for name in found}) > 0.99


def test_a_layer_the_model_lacks_is_told(study, store, recipes):
    recipe = recipes.unlearner(study.original, "rmu", options={"layer": 2})
    with pytest.raises(WorkError, match="layers 0 to 1") as caught:
        Workshop(store, 1e9).make(recipe, lambda *_: None)
    assert caught.value.reason == "no_such_layer"
    assert not store.is_done(recipe.id)


def test_adapters_beside_what_a_method_trains_are_told(study, store, recipes):
    lora = {"rank": 2, "targets": ("q_proj",)}
    training = recipes.few.model_copy(update={"lora": recipes.lora(**lora)})
    recipe = recipes.unlearner(study.original, "rmu", options={"layer": 1}, training=training)
    with pytest.raises(WorkError, match="leave out lora") as caught:
        Workshop(store, 1e9).make(recipe, lambda *_: None)
    assert caught.value.reason == "no_weights"
