"""The moving average of weights, against one taken by hand of what stood along the loop."""

import pytest
import torch
from safetensors.torch import load_file

from raymcu.curves._base import CURVES
from raymcu.errors import WorkError
from raymcu.study.training_tables import Average
from raymcu.training.averaging import MovingAverage
from raymcu.training.walk import Walk

ETA = 0.675


def followed(loop):
    """Weights before the first step and after each, in float64, and those at the end."""
    moved = loop.moved
    seen = [{n: w.detach().double().clone() for n, w in moved.items()}]
    for _ in loop.run():
        seen.append({n: w.detach().double().clone() for n, w in moved.items()})
    return seen, {n: w.detach().double().clone() for n, w in moved.items()}


def ema(snapshots, eta):
    """avg_0 = the first, avg_k = eta · w_k + (1 - eta) · avg_(k-1)."""
    found = snapshots[0]
    for one in snapshots[1:]:
        found = {name: eta * one[name] + (1 - eta) * found[name] for name in found}
    return found


def gap(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_known_values():
    """From 1 through 2 and 4 with eta 0.25: 1, 1.25, 1.9375."""
    weight = torch.tensor([1.0])
    average = MovingAverage({"w": weight}, Average(eta=0.25, every="step"))
    found = [float(average.values["w"])]
    for value in (2.0, 4.0):
        weight.fill_(value)
        average.follow({"w": weight}, is_epoch_end=False)
        found.append(float(average.values["w"]))
    assert found == [1.0, 1.25, 1.9375]
    assert float(weight) == 4.0
    average.put_in({"w": weight})
    assert float(weight) == 1.9375


@pytest.mark.parametrize("epochs", [2.0, 1.7])
@pytest.mark.parametrize("every", ["step", "epoch"])
def test_the_weights_end_as_the_average_of_what_they_were(make, every, epochs):
    """Three steps an epoch; an epoch that is cut short after two counts."""
    loop = make("grad_diff", double=True, average=Average(eta=ETA, every=every), epochs=epochs)
    seen, end = followed(loop)
    assert len(seen) == (7 if epochs == 2.0 else 6)
    epochs_seen = [seen[0], seen[3], seen[-1]]
    expected = ema(seen if every == "step" else epochs_seen, ETA)
    assert gap(end, expected) < 1e-14
    assert gap(end, seen[-1]) > 1e-5


def test_a_training_that_stops_early_ends_with_its_epochs_average(make):
    loop = make("grad_diff", double=True, average=Average(eta=ETA), until_loss=100.0)
    seen, end = followed(loop)
    assert len(seen) == 4
    assert gap(end, ema([seen[0], seen[3]], ETA)) < 1e-14


def test_the_average_leaves_the_training_alone(make):
    plain, averaged = (
        [p.history[-1]["loss"] for p in make("grad_diff", average=average).run()]
        for average in (None, Average(eta=0.1, every="step"))
    )
    assert plain == averaged


@pytest.mark.parametrize("every", ["step", "epoch"])
def test_eta_1_averages_nothing_to_the_bit(study, store, recipes, lab, every):
    found = []
    for average in (None, Average(eta=1.0, every=every)):
        recipe = recipes.unlearner(study.original, training=recipes.training(average=average))
        lab.train(store, recipe)
        found.append(lab.weights(store, recipe))
    assert lab.same_bits(*found)


def test_the_average_commutes_with_extrapolation(make):
    """MOX's momentum: EMA of (1+a)·ref - a·mem_k is (1+a)·ref - a·EMA(mem_k)."""
    alpha = 4.0
    loop = make("mox", double=True, average=Average(eta=ETA, every="step"))
    memorizers, end = followed(loop)
    start = memorizers[0]

    def away(weights):
        return {n: (1 + alpha) * start[n] - alpha * w for n, w in weights.items()}

    assert gap(away(end), ema([away(one) for one in memorizers], ETA)) < 1e-12
    assert gap(away(end), away(memorizers[-1])) > 1e-4


def test_bends_are_averaged_each_by_itself(make, study, lab):
    ends = [lab.weights(study.store, one) for one in (study.first, study.second)]
    coefficients = CURVES["bezier"]().coefficients
    loop = make(
        "grad_diff",
        walk=lambda weights: Walk.on_chord(coefficients, weights, *ends),
        average=Average(eta=ETA, every="step"),
    )
    seen, end = followed(loop)
    assert len(end) == 2 * len(loop.weights)
    assert gap(end, ema(seen, ETA)) < 1e-6
    assert gap(end, seen[-1]) > 1e-5
    for number, bend in enumerate(loop.walk.bends):
        for name, weight in bend.items():
            key = f"{name} of bend {number}" if number else name
            assert torch.equal(weight.double(), end[key])


def test_the_checkpoint_is_the_average(study, store, recipes, lab):
    """By hand from the states of an interrupted training: one epoch of two steps each."""
    use = Average(eta=ETA)
    training = recipes.training(average=use, batch_size=10, epochs=2.0)
    recipe = recipes.unlearner(study.original, training=training)
    lab.train(store, recipe, save_every_s=0, stop_after=3)
    folder = store.local_dir(f".partial/{recipe.id}")
    average = load_file(folder / "average.safetensors")
    start = lab.weights(store, study.original)
    assert {w.dtype for w in average.values()} == {torch.float32}
    assert (
        0
        < lab.distance(average, start)
        < lab.distance(load_file(folder / "weights.safetensors"), start)
    )
    lab.train(store, recipe)
    found = lab.weights(store, recipe)
    last = {n: (found[n] - (1 - ETA) * average[n]) / ETA for n in found}
    plain = recipes.unlearner(
        study.original, training=training.model_copy(update={"average": None})
    )
    lab.train(store, plain)
    assert lab.distance(last, lab.weights(store, plain)) < 1e-6


def test_adapters_are_not_averaged(study, store, recipes, lab):
    training = recipes.training(lora=recipes.lora(), average=Average())
    recipe = recipes.unlearner(study.original, training=training)
    with pytest.raises(WorkError, match=r"training\.average cannot average adapters") as caught:
        lab.train(store, recipe)
    assert caught.value.reason == "averaged_adapters"
    assert not store.is_done(recipe.id)
