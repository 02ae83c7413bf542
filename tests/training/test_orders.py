"""What optimizers of other orders make of a training, and curricula that order its rows."""

import numpy as np
import pytest
import torch

from raymcu.curricula.difficulty import Difficulty
from raymcu.models.scorer import Scorer
from raymcu.training import loop as loops
from raymcu.training.group import Alone
from raymcu.training.start_model import order_rows
from raymcu.training.workshop import Workshop


@pytest.fixture
def estimated(monkeypatch):
    """Steps whose gradient was estimated; their weights must end as they began."""
    steps, real = [], loops.estimate

    def watched(weights, loss, *, step, **how):
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        mean = real(weights, loss, step=step, **how)
        assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
        steps.append(step)
        return mean

    monkeypatch.setattr(loops, "estimate", watched)
    return steps


def run(loop):
    for _ in loop.run():
        pass
    return loop.progress.history


def plain_losses(loop):
    """Loss of each step's rows at a loop's present weights, by a loop that stands there."""
    with torch.no_grad():
        return [
            loop._evaluate(loop.reader.batch(number), lambda *_: None).total for number in range(6)
        ]


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("spsa", [0, 1, 2, 3, 4, 5]), ("alternating", [1, 3, 5])]
)
def test_which_steps_are_estimated(make, recipes, estimated, optimizer, expected):
    history = run(make("npo", training=recipes.training(optimizer)))
    assert estimated == expected
    assert all(np.isfinite(row["gradient_norm"]) for row in history)


def test_every_third_step_may_be_estimated(make, recipes, estimated):
    training = recipes.training("alternating")
    use = training.optimizer.model_copy(update={"zeroth_every": 3})
    run(make("npo", training=training, optimizer=use))
    assert estimated == [2, 5]


def test_an_estimated_training_tells_the_losses_of_its_batches(make, recipes):
    """At a rate that moves nearly nothing, the means of both sides are the batches' losses."""
    training = recipes.training("spsa", learning_rate=1e-5, weight_decay=0.0)
    loop = make("grad_diff", training=training)
    loop.progress.memory = {"method 0": {}}
    expected = plain_losses(loop)
    found = run(make("grad_diff", training=training))
    assert [row["loss"] for row in found] == pytest.approx(expected, abs=2e-3)
    assert [row["forget_loss"] + row["retain_loss"] for row in found] == pytest.approx(
        expected, abs=2e-2
    )


@pytest.mark.parametrize("optimizer", ["spsa", "alternating", "sophia_g"])
def test_a_training_that_draws_repeats(make, recipes, optimizer):
    training = recipes.training(optimizer)
    one, two = (make("npo", training=training) for _ in range(2))
    first = run(one), {name: weight.detach().clone() for name, weight in one.weights.items()}
    two = make("npo", training=training)
    assert run(two) == first[0]
    assert all(torch.equal(first[1][name], weight) for name, weight in two.weights.items())


def test_many_directions_estimate_the_gradient_of_the_batch(make, recipes):
    """The cosine of an estimate from n directions of d weights is about sqrt(n / (n + d))."""
    exact = make("finetune", weight_decay=0.0)
    exact._seed(0)
    exact.progress.memory = {"method 0": {}}
    exact._backward(exact.reader.batch(0))
    gradients = {name: weight.grad.clone() for name, weight in exact.weights.items()}
    training = recipes.training("spsa")
    use = training.optimizer.model_copy(update={"directions": 60})
    loop = make("finetune", training=training, optimizer=use)
    loop.progress.memory = {"method 0": {}}
    loop._estimate(loop.reader.batch(0), 0, None)
    pairs = [(gradients[name].flatten(), w.grad.flatten()) for name, w in loop.weights.items()]
    one, two = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    expected = (60 / (60 + len(one))) ** 0.5
    assert float(torch.cosine_similarity(one, two, dim=0)) == pytest.approx(expected, rel=0.4)
    assert float(one @ two / (one @ one)) == pytest.approx(1, rel=0.4)


def test_sophia_looks_at_the_curvature_of_sampled_labels(make, recipes):
    """Expected: n · (mean gradient)² of labels drawn from the model, whatever the true ones."""
    loop = make("grad_ascent", training=recipes.training("sophia_g"))
    next(iter(loop.run()))
    (optimizer, _), *_ = loop.optimizer.parts
    curvature = [optimizer.state[weight]["curvature"] for weight in loop.weights.values()]
    assert all((value >= 0).all() for value in curvature)
    assert sum(float(value.sum()) for value in curvature) > 0
    other = make("grad_diff", training=recipes.training("sophia_g", max_gradient_norm=1e-6))
    other.reader.needs = loop.reader.needs
    other.progress.memory = {"method 0": {}}
    other._seed(0)
    other._look_at_curvature(other.reader.batch(0), None)
    (optimizer, _), *_ = other.optimizer.parts
    again = [optimizer.state[weight]["curvature"] for weight in other.weights.values()]
    assert all(torch.equal(*pair) for pair in zip(curvature, again, strict=True))


@pytest.mark.parametrize("by", ["loss", "gradient_norm", "length"])
@pytest.mark.parametrize("direction", ["ascending", "descending"])
def test_rows_come_in_the_order_of_their_difficulty(study, store, recipes, by, direction):
    curriculum = recipes.choice("difficulty", by=by, direction=direction, start=0.3, reach=0.6)
    recipe = recipes.unlearner(
        study.original, curriculum=curriculum, training=recipes.training(epochs=4.0)
    )
    job = Workshop(store, 1e9)._prepare(recipe)
    order_rows(job, Scorer(job.model), Alone())
    found = [difficulty(job, row, by) for row in job.stream.forget]
    order = np.argsort(found if direction == "ascending" else np.negative(found), kind="stable")
    per_epoch = job.stream.steps_per_epoch
    for epoch, available in enumerate((6, 12, 18, 20)):  # 0.3 + 0.7 · t / 0.6 of 20 rows
        rows = [
            row
            for number in range(per_epoch)
            for row in job.stream.step(epoch * per_epoch + number).forget
        ]
        assert len(rows) == 20
        assert rows[:available] == order[:available].tolist()
        assert set(rows) == set(order[:available].tolist())


def difficulty(job, row, by):
    if by == "length":
        return len(row.answer)
    ids = torch.tensor([row.prompt + row.answer])
    labels = ids.clone()
    labels[:, : len(row.prompt)] = -100
    job.model.zero_grad()
    loss = job.model(input_ids=ids, labels=labels).loss
    if by == "loss":
        return float(loss.detach())
    loss.backward()
    return float(sum(w.grad.double().square().sum() for w in job.model.parameters()) ** 0.5)


def test_the_curriculum_orders_a_training(study, store, recipes, lab):
    """The easiest first, descending the hardest: told by the loss of the first step."""
    first = {}
    for direction in ("ascending", "descending"):
        recipe = recipes.unlearner(
            study.original,
            "grad_ascent",
            curriculum=recipes.choice("difficulty", direction=direction),
            training=recipes.training(epochs=0.5),
        )
        lab.train(store, recipe)
        first[direction] = -lab.history(store, recipe)[0]["loss"]
    assert first["ascending"] < first["descending"]
    assert Difficulty().available(0, 20) == 20
