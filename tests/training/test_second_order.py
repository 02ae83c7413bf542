"""Sophia and sign descent against the sheet's known first steps, and shard by shard."""

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from raymcu.training.second_order import FORMS, SignSGD, Sophia


def sophia(weights, form="sophia_g", lr=0.1, scale=1.0, weight_decay=0.0):
    found = FORMS[form]
    return Sophia(weights, lr, found.betas, found.rho, weight_decay, found.double_momentum, scale)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("gradient", "moved"), [(0.5, -0.1), (1000.0, -0.00875), (-0.5, 0.1), (0.0, 0.0)]
)
def test_sophia_takes_the_known_first_step(gradient, moved):
    weight = leaf(0.0)
    optimizer = sophia([weight])
    weight.grad = torch.tensor([gradient], dtype=torch.float64)
    optimizer.update_curvature([weight.grad])
    optimizer.step()
    assert weight.item() == pytest.approx(moved, rel=1e-9)


def test_a_step_without_curvature_is_the_sign():
    weight = leaf(1.0, 1.0, 1.0)
    optimizer = sophia([weight])
    weight.grad = torch.tensor([1e-8, -1e8, 0.0], dtype=torch.float64)
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.9, 1.1, 1.0], rel=1e-12)


def test_soul_applies_its_momentum_twice():
    weight = leaf(0.0)
    optimizer = sophia([weight], "soul")
    expected = 0.0
    for gradient in (1.0, 0.0, 3.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        for _ in range(2):
            expected = 0.9 * expected + 0.1 * gradient
        assert optimizer.state[weight]["momentum"].item() == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(0.81**2 * 0.19 + 0.19 * 3)


def test_the_scale_multiplies_the_curvature():
    """h is 0.05·g²; |m| / (rho·5120·h) = 0.19·g / (0.04·5120·0.05·g²)."""
    weight = leaf(0.0)
    optimizer = sophia([weight], "soul", scale=FORMS["soul"].curvature_scale)
    weight.grad = torch.tensor([2.0], dtype=torch.float64)
    optimizer.update_curvature([weight.grad])
    optimizer.step()
    assert weight.item() == pytest.approx(-0.1 * 0.19 * 2 / (0.04 * 5120 * 0.05 * 4), rel=1e-9)


def test_weight_decay_comes_off_the_weight_before_the_step():
    weight = leaf(2.0)
    optimizer = sophia([weight], weight_decay=0.5)
    weight.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    assert weight.item() == pytest.approx(2 - 0.1 * 0.5 * 2 - 0.1, rel=1e-12)


def test_curvature_averages_squares_and_outlasts_the_steps_between():
    first, second = leaf(1.0), leaf(1.0)
    optimizer = sophia([first, second])
    optimizer.update_curvature([torch.full_like(first, 3.0), None])
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    optimizer.step()
    optimizer.update_curvature([torch.full_like(first, 1.0), torch.full_like(first, 2.0)])
    curvatures = [optimizer.state[w]["curvature"].item() for w in (first, second)]
    assert curvatures == pytest.approx([0.99 * 0.01 * 9 + 0.01, 0.01 * 4], rel=1e-12)
    assert {frozenset(state) for state in optimizer.state.values()} == {
        frozenset({"momentum", "curvature"})
    }


def test_as_many_curvatures_as_weights_are_asked_for():
    with pytest.raises(ValueError, match="shorter"):
        sophia([leaf(1.0), leaf(1.0)]).update_curvature([None])


def test_the_forms_have_their_published_constants():
    g, soul = FORMS["sophia_g"], FORMS["soul"]
    assert (g.betas, g.rho, g.weight_decay, g.curvature_every) == ((0.965, 0.99), 0.04, 0.1, 10)
    assert (soul.betas, soul.rho, soul.curvature_scale) == ((0.9, 0.95), 0.04, 5120)
    assert (g.double_momentum, g.is_sampled) == (False, True)
    assert (soul.double_momentum, soul.is_sampled, soul.curvature_every) == (True, False, 1)


def test_sign_descent_moves_by_exactly_the_learning_rate():
    weight = leaf(0.0, 0.0, 0.0, 0.0)
    weight.grad = torch.tensor([1e-300, -7.0, 0.0, -0.0], dtype=torch.float64)
    SignSGD([weight], lr=0.1).step()
    assert weight.tolist() == [-0.1, 0.1, 0.0, 0.0]


def test_sign_descent_decays_weights_apart_from_their_gradient():
    weight, idle = leaf(2.0), leaf(2.0)
    weight.grad = torch.zeros(1, dtype=torch.float64)
    SignSGD([weight, idle], lr=0.1, weight_decay=0.5).step()
    assert (weight.item(), idle.item()) == (pytest.approx(1.9, rel=1e-15), 2.0)


@pytest.fixture(params=[0, 1])
def mesh(request):
    """Two workers, of which this process is one; what would speak to the other does nothing.

    The names keep what torch remembers about one rank's mesh from the other's.
    """
    distributed.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=2)
    yield init_device_mesh("cpu", (2,), mesh_dim_names=(f"as_{request.param}",))
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["sophia_g", "soul", "sign"])
def test_a_shard_is_stepped_as_that_part_of_the_whole(mesh, kind):
    torch.manual_seed(0)
    start, *gradients = torch.randn(4, 5, 3).unbind()  # of five rows, the workers hold 3 and 2

    def split(tensor):
        return distribute_tensor(tensor.clone(), mesh, [Shard(0)], src_data_rank=None)

    def walk(place):
        weight = torch.nn.Parameter(place(start))
        optimizer = SignSGD([weight], 0.1, 0.1) if kind == "sign" else sophia([weight], kind)
        for gradient in gradients:
            weight.grad = place(gradient)
            if kind != "sign":
                optimizer.update_curvature([weight.grad])
            optimizer.step()
        return [weight.detach(), *optimizer.state[weight].values()]

    for whole, shard in zip(walk(torch.clone), walk(split), strict=True):
        assert torch.equal(shard.to_local(), split(whole).to_local())
