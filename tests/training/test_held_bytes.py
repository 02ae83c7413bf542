"""What a plan says that a training holds, against the tensors of one."""

import pytest
import torch

from raymcu.models.shapes import Shape, shape_of
from raymcu.planning.memory import peak
from raymcu.study.training_tables import ORDERS, Average
from raymcu.training.optimizers import Optimizer

NAMES = [name for names in ORDERS.values() for name in names]
SIZE = 100_000


def held_by(loop):
    """Bytes of weights, of their gradients, of optimizer states and of an average, per weight."""
    next(iter(loop.run()))
    weights = list(loop.weights.values())
    states = [state for key, state in loop.optimizer.state().items() if not key.endswith("|step")]
    kept = [] if loop.average is None else list(loop.average.values.values())
    tensors = [*weights, *weights, *states, *kept]  # a gradient is as large as its weight
    return sum(t.numel() * t.element_size() for t in tensors) / sum(w.numel() for w in weights)


def parts(recipe, shape):
    """What a plan says, per weight."""
    found = peak(recipe, shape, lambda part: (1, 1)).parts
    return {kind: size / shape.num_parameters for kind, size in found.items()}


@pytest.mark.parametrize("average", [None, Average(every="step")], ids=["last", "averaged"])
@pytest.mark.parametrize("name", NAMES)
def test_states_of_every_optimizer_are_counted(make, recipes, study, name, average):
    if name == "adamw_8bit":
        pytest.skip("its small weights have states of 32 bits")
    training = recipes.training(name, average=average)
    recipe = recipes.unlearner(study.original, "grad_ascent", training=training)
    told = parts(recipe, shape_of(recipe.model, None))
    held = told["weights"] + 4 + told["states"] + told["beside"]
    # Of muon's weights a plan takes norms for matrices.
    assert held == pytest.approx(held_by(make("grad_ascent", training=training)), rel=0.01)


@pytest.mark.parametrize(("rows", "each"), [(128, 2 + 8 / 256), (3, 8)])
def test_states_of_8_bits_are_what_bitsandbytes_holds(recipes, study, rows, each):
    """A byte for each of two states and a scale for 256 of each; small weights' are in float32."""
    pytest.importorskip(
        "bitsandbytes", reason="its states are compared: pip install 'raymcu[8bit]'"
    )
    training = recipes.training("adamw_8bit")
    own = {name: torch.randn(rows, 256).requires_grad_() for name in "ab"}
    optimizer = Optimizer(own, training)
    for weight in own.values():
        weight.grad = torch.randn_like(weight)
    optimizer.step(1.0)
    storages = {
        value.untyped_storage()._cdata: value.untyped_storage().nbytes()
        for key, value in optimizer.held().items()
        if torch.is_tensor(value) and not key.endswith("|step")
    }
    size = sum(weight.numel() for weight in own.values())
    tables = 2 * 4 * 256 * (each < 8)  # what the bytes mean, once for all weights
    assert sum(storages.values()) - tables == each * size
    if each < 8:  # which a plan takes all for
        recipe = recipes.unlearner(study.original, "grad_ascent", training=training)
        assert parts(recipe, Shape.unknown(size))["states"] == each


def test_workers_share_it_and_a_half_precision_model_is_computed_with_a_copy(recipes, study):
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    shape = Shape.unknown(SIZE)

    def held(**changes):
        return sum(parts(recipes.unlearner(study.original, **changes), shape).values())

    def near(expected):
        return pytest.approx(expected, rel=0.01)

    assert held() == near(16)
    assert held(model=half) == near(18)
    assert held(model=half, training=recipes.training("adamw_8bit")) == near(12)
    assert held(model=half, training=recipes.training(offload=True)) == near(10)
    assert held(model=half, training=recipes.training(weights="kahan")) == near(14)
    assert held(model=half, training=recipes.training(weights="stochastic")) == near(12)
    nf4 = recipes.training(lora=recipes.lora(base="nf4"))
    assert held(model=half, training=nf4) == held(training=nf4) == near(0.5 + 4 / 64)
    assert held(training=nf4, parents={}) == near(4)  # as it is drawn, before it is rounded
    assert held(model=half, training=recipes.training(workers=4)) == near(4)
    assert held(model=half, training=recipes.training(lora=recipes.lora())) == near(2)
    assert held(training=recipes.training(lora=recipes.lora())) == near(4)
    assert held(training=None) == 0
