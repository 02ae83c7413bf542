"""Weights in bfloat16 to compute with, float32 masters beside them; and the start model alike."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from raymcu.methods._base import METHODS, Needs, Part
from raymcu.training import asking, reference, start_model
from raymcu.training.group import Alone
from raymcu.training.loop import Loop
from raymcu.training.reference import ask
from raymcu.training.working import Working


@pytest.fixture
def begun(store, lab, monkeypatch):
    """Trains recipes, and returns each one's loop as it was before its first step."""
    seen = []
    run = Loop.run

    def noted(self):
        seen.clear()
        with torch.no_grad():
            batch = self.reader.batch(0)
            for piece in self.reader.pieces(batch):
                for part, needs in self.reader.needs.items():
                    one = self.reader.labelled(part, batch, piece, needs)
                    now = (one.nll, one.logits, one.states)
                    then = (one.reference_nll, one.reference_logits, one.reference_states)
                    pairs = zip(now, then, strict=True)
                    seen.append([pair for pair in pairs if pair[1] is not None])
        return run(self)

    monkeypatch.setattr(Loop, "run", noted)

    def of(recipe):
        lab.train(store, recipe)
        return list(seen)

    return of


@pytest.mark.parametrize("piece", [None, 3])
def test_nothing_is_far_from_the_start_model_before_the_first_step(
    study, recipes, lab, store, begun, piece
):
    """To the bit: the log-ratio, the divergence, and so NPO's first loss."""
    model = study.original.model.model_copy(update={"dtype": "bfloat16"})
    training = recipes.few.model_copy(update={"batch_size": 7, "micro_batch_size": piece})
    recipe = recipes.unlearner(
        study.original, "npo", options={"retain": "kl"}, model=model, training=training
    )
    found = begun(recipe)
    assert all(len(pairs) == 1 for pairs in found)
    assert all(torch.equal(*pair) for pairs in found for pair in pairs)
    first = lab.history(store, recipe)[0]
    assert first["retain_loss"] == 0
    assert first["forget_loss"] == pytest.approx(20 * torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize("micro", [None, 3])
def test_float32_on_one_worker_is_asked_in_batches_as_ever(
    study, store, recipes, lab, monkeypatch, micro
):
    """Its id is as ever, so its bits are; rounding depends on how long a batch is padded."""
    batches = []

    def noted(scorer, rows, asked, batch):
        batches.append(batch)
        return ask(scorer, rows, asked, batch)

    monkeypatch.setattr(reference, "ask", noted)
    monkeypatch.setattr(start_model, "ask_by_pieces", None)
    training = recipes.training(batch_size=7, micro_batch_size=micro)
    recipe = recipes.unlearner(study.original, "npo", options={"retain": "kl"}, training=training)
    lab.train(store, recipe)
    assert batches == [7, 7]
    assert lab.history(store, recipe)[0]["retain_loss"] == pytest.approx(0, abs=1e-6)


def test_the_states_of_a_layer_begin_where_the_start_models_are(study, recipes, begun):
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    recipe = recipes.unlearner(study.original, "rmu", options={"layer": 1}, model=half)
    found = [pair for pairs in begun(recipe) for pair in pairs]
    assert found
    assert found[0][1].dtype == torch.bfloat16
    assert all(torch.equal(*pair) for pair in found)


def test_workers_ask_what_they_will_read_and_share_it(make, rows_of):
    """Both make as many passes; together they know what one alone knows."""
    loop = make(METHODS["npo"](retain="kl"), batch_size=3, epochs=2.0)
    part, needs = Part("forget"), Needs(reference_nll=True, reference_logits=True)
    passes = []

    def asked(rank, size):
        class Some(Alone):
            def gather(self, own):
                given.append(own)
                return [own]

        given = []
        reader = replace(loop.reader, group=Alone(), micro_batch_size=1)
        plain = reader.labelled
        count = 0

        def counted(*args):
            nonlocal count
            count += 1
            return plain(*args)

        reader.labelled = counted
        # (`replace` makes readers of its own for the rounds; those are not counted)
        asking.ask_by_pieces(reader, part, needs, loop.num_steps, Some(rank, size))
        passes.append(count)
        return given[0]

    alone, one, two = asked(0, 1), asked(0, 2), asked(1, 2)
    assert passes[1] == passes[2] < passes[0]
    for what, said in alone.items():
        assert said.keys() == one[what].keys() | two[what].keys()
        for row, value in said.items():
            other = one[what].get(row, two[what].get(row))
            assert torch.equal(value, other)


def net():
    torch.manual_seed(0)
    inner = nn.Linear(6, 6)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), inner, nn.Tanh(), inner)
    return model, dict(model.named_parameters())


def test_gradients_add_up_in_float32_and_the_copy_is_the_rounded_master():
    model, weights = net()
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    working = Working(model)
    masters = working.move(weights)
    assert {w.dtype for w in model.parameters()} == {torch.float32, torch.bfloat16}
    assert model[1].weight.dtype == torch.float32  # and its statistics
    assert model[2].weight is model[4].weight
    sums = {name: torch.zeros_like(weight) for name, weight in start.items()}
    for seed in range(16):
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.randn(4, 5)).square().mean()
        halves = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for name, half in zip(weights, halves, strict=True):
            sums[name] += half.float()
        loss.backward()
        assert all(weights[name].grad is None for name in working.own)
    for name, master in masters.items():
        assert torch.equal(master.grad, sums[name])
    for name, master in masters.items():
        assert torch.equal(master, start[name])
        master.data.add_(1e-4)  # less than bfloat16 tells
    working.write()
    for name, weight in working.own.items():
        assert torch.equal(weight, masters[name].bfloat16())
    working.put_back()
    assert model[2].weight is model[4].weight
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, start[name] + 1e-4)
    model(torch.randn(4, 5)).sum().backward()  # where it went before
    assert all(weight.grad is not None for weight in model.parameters())


def test_along_a_curve_there_are_gradients_without_values():
    model, weights = net()
    working = Working(model)
    places = working.move({"0.weight": weights["0.weight"]}, has_masters=False)
    assert working.masters == {}
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(4, 5)).sum().backward()
    (place,) = places.values()
    assert place.grad.shape == weights["0.weight"].shape
    assert place.untyped_storage().nbytes() == 4
    working.put_back()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
