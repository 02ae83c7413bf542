"""The bends of a curve: where the model stands, and where its gradient goes."""

import math

import pytest
import torch
from torch.func import functional_call

from raymcu.curves._base import CURVES
from raymcu.models import causal_lm
from raymcu.models.encoding import collate
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import ScratchModel
from raymcu.training.walk import Walk

SHAPE = ScratchModel(
    hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, vocab_size=400
)
GRID = [0.0, 0.1, 0.25, 0.5, 0.8, 1.0]


@pytest.fixture
def ends(tiny_tokenizer):
    """Weights of three models: first, bend, second."""
    made = [causal_lm.create(SHAPE, tiny_tokenizer, seed, "float32") for seed in (1, 2, 3)]
    return [{n: w.detach() for n, w in causal_lm.trainable(model).items()} for model in made]


@pytest.fixture
def resident(tiny_tokenizer):
    return Scorer(causal_lm.create(SHAPE, tiny_tokenizer, 0, "float32"))


def walk(resident, first, bend, second):
    weights = causal_lm.trainable(resident.model)
    return Walk(CURVES["quadratic"]().coefficients, weights, first, second, [bend])


def chord(first, second):
    return {name: (first[name] + second[name]) / 2 for name in first}


def placed(a_walk, t):
    a_walk.place(t)
    return {name: weight.detach().clone() for name, weight in a_walk.weights.items()}


FAMILIES = [("quadratic", 1), ("bezier", 2), ("bezier", 3), ("polygon", 2)]


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("name", "num_bends"), FAMILIES)
def test_a_bends_gradient_is_that_of_autograd_through_the_curve(
    resident, ends, encoder, tiny_tokenizer, name, num_bends, t
):
    """dL/dbend = its coefficient times dL/dphi, against functional_call on interpolated weights."""
    first, bend, second = ends
    bends = [{n: w * (1 + k / 8) for n, w in bend.items()} for k in range(num_bends)]
    family = CURVES[name](**({} if name == "quadratic" else {"num_bends": num_bends}))
    batch = collate([encoder.encode("Who?", "Ada."), encoder.encode("Q", "No")], 0, "cpu")
    inputs = (batch.inputs, batch.row, batch.column)

    leaves = [{n: w.clone().requires_grad_() for n, w in one.items()} for one in bends]
    controls = [first, *leaves, second]
    phi = {
        f"model.{n}": sum(
            c * one[n] for c, one in zip(family.coefficients(t), controls, strict=True)
        )
        for n in first
    }
    logits = functional_call(resident, phi, inputs, tie_weights=True)
    torch.nn.functional.cross_entropy(logits, batch.labels).backward()

    own = Walk(family.coefficients, causal_lm.trainable(resident.model), first, second, bends)
    own.place(t)
    loss = torch.nn.functional.cross_entropy(resident(*inputs), batch.labels)
    for part in (0.25, 0.75):  # as a batch in two pieces, which add up
        (loss * part * own.slope(t)).backward(retain_graph=True)
    own.take_gradients(t)
    for trained, leaf in zip(bends, leaves, strict=True):
        for n in first:
            assert torch.allclose(trained[n].grad, leaf[n].grad, rtol=1e-4, atol=1e-7), n
            assert own.weights[n].grad is None


@pytest.mark.parametrize(("name", "num_bends"), FAMILIES)
def test_bends_begin_on_the_chord_at_equal_steps(resident, ends, name, num_bends):
    first, _, second = ends
    family = CURVES[name](**({} if name == "quadratic" else {"num_bends": num_bends}))
    weights = causal_lm.trainable(resident.model)
    own = Walk.on_chord(family.coefficients, weights, first, second)
    assert len(own.bends) == num_bends
    for number, bend in enumerate(own.bends, start=1):
        for n in first:
            step = torch.lerp(first[n], second[n], number / (num_bends + 1))
            assert torch.allclose(bend[n], step, atol=1e-6)
    for t in GRID:
        found = placed(own, t)
        assert all(
            torch.allclose(found[n], torch.lerp(first[n], second[n], t), atol=1e-6) for n in first
        )


def test_all_bends_move_under_names_of_their_own(resident, ends):
    first, _, second = ends
    own = Walk.on_chord(
        CURVES["bezier"]().coefficients, causal_lm.trainable(resident.model), first, second
    )
    name = next(iter(first))
    moved = own.movable([name])
    assert list(moved) == [name, f"{name} of bend 1"]
    assert [w.data_ptr() for w in moved.values()] == [b[name].data_ptr() for b in own.bends]


@pytest.mark.parametrize("t", GRID)
def test_the_model_stands_on_the_curve(resident, ends, t):
    first, bend, second = ends
    found = placed(walk(resident, first, bend, second), t)
    for name, weight in found.items():
        expected = (1 - t) ** 2 * first[name] + 2 * t * (1 - t) * bend[name] + t**2 * second[name]
        assert torch.allclose(weight, expected, atol=1e-6)


def test_the_ends_of_the_walk_are_the_end_points_bit_for_bit(resident, ends):
    first, bend, second = ends
    for t, end in ((0.0, first), (1.0, second)):
        found = placed(walk(resident, first, bend, second), t)
        assert all(torch.equal(found[name], end[name]) for name in end)


@pytest.mark.parametrize("t", GRID)
def test_between_equal_ends_the_curve_is_constant_at_the_start(resident, ends, t):
    first = ends[0]
    found = placed(walk(resident, first, chord(first, first), first), t)
    assert all(torch.allclose(found[name], first[name], rtol=1e-6, atol=1e-8) for name in first)


@pytest.mark.parametrize("t", GRID)
def test_the_curve_starts_as_the_chord(resident, ends, t):
    first, _, second = ends
    found = placed(walk(resident, first, chord(first, second), second), t)
    for name, weight in found.items():
        assert torch.allclose(weight, torch.lerp(first[name], second[name], t), atol=1e-6)


@pytest.mark.parametrize("t", GRID)
def test_swapping_the_ends_mirrors_the_walk(resident, ends, t):
    first, bend, second = ends
    there = placed(walk(resident, first, bend, second), t)
    back = placed(walk(resident, second, bend, first), 1 - t)
    assert all(torch.allclose(there[name], back[name], atol=1e-6) for name in there)


def plane(along):
    """Ends (0, 0) and (2, 0), bend (1, 1), as the one weight of a model."""
    first, bend, second = ({"w": torch.tensor(p)} for p in ((0.0, 0.0), (1.0, 1.0), (2.0, 0.0)))
    coefficients = CURVES["quadratic"]().coefficients
    return Walk(coefficients, {"w": torch.zeros(2)}, first, second, [bend], along)


def test_positions_along_the_arc_give_the_average_over_its_length():
    """Of the loss y²: over t 2/15, over the length .1238903360 (equations 5 to 7)."""
    shares = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for along, mean in (("uniform", 2 / 15), ("arc_length", 0.1238903360)):
        walk = plane(along)
        found = 0.0
        for share in shares.tolist()[::8]:
            walk.place(walk.position(share))
            found += float(walk.weights["w"][1]) ** 2 / 500
        assert found == pytest.approx(mean, rel=2e-5)


def test_positions_follow_the_bend_and_carry_no_gradient():
    walk = plane("arc_length")
    assert walk.position(0.25) < 0.25  # it is faster near its ends
    walk.bends[0]["w"] = torch.tensor([0.2, 0.0], requires_grad=True)  # near the first end
    t = (math.sqrt(0.16 + 3.2) - 0.4) / 3.2  # 0.4 t + 1.6 t² is passed at t, 2 in all
    assert walk.position(0.25) == pytest.approx(t, rel=2e-5)
    assert walk.bends[0]["w"].grad is None
    walk.bends[0]["w"] = walk.second["w"] = walk.first["w"]
    assert walk.position(0.3) == 0.3  # no length: as t comes


def test_parts_of_weights_on_several_workers_have_the_products_of_the_whole():
    class Two:
        size, rank = 2, 0

        def sum(self, values):
            return [2 * value for value in values]

    alone = plane("arc_length")
    shared = plane("arc_length")
    shared.group = Two()
    assert shared._products().tolist() == (2 * alone._products()).tolist()
    assert alone._products().tolist() == [[0, 0, 0], [0, 2, 2], [0, 2, 4]]
