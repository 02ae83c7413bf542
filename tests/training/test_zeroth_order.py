"""Perturbation estimates on a quadratic, whose central difference has no bias."""

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from raymcu.training import counted
from raymcu.training.zeroth_order import direction, estimate


def directions(weights, seed, number):
    """A whole direction, by name."""
    found = {}
    for name, _, noise in direction(weights, seed, number):
        found.setdefault(name, []).append(noise)
    return {name: torch.cat(pieces) for name, pieces in found.items()}


class Bowl:
    """L = x'Ax / 2 - b'x over two weights."""

    def __init__(self, dtype=torch.float64):
        torch.manual_seed(0)
        root = torch.randn(5, 5, dtype=torch.float64)
        self.a, self.b = root @ root.T, torch.randn(5, dtype=torch.float64)
        self.weights = {
            "one": torch.randn(2, dtype=dtype, requires_grad=True),
            "two": torch.randn(3, 1, dtype=dtype, requires_grad=True),
        }

    def flat(self, tensors):
        return torch.cat([tensors["one"].flatten(), tensors["two"].flatten()]).double()

    def loss(self):
        x = self.flat(self.weights)
        return float((x @ self.a @ x / 2 - self.b @ x).detach())

    def gradient(self):
        return self.a @ self.flat(self.weights).detach() - self.b

    def estimated(self):
        return self.flat({name: weight.grad for name, weight in self.weights.items()})


@pytest.fixture
def bowl():
    return Bowl()


def test_a_single_estimate_is_the_slope_along_its_direction(bowl):
    for step in range(5):
        estimate(bowl.weights, bowl.loss, seed=3, step=step)
        z = bowl.flat(dict(directions(bowl.weights, 3, step)))
        expected = (bowl.gradient() @ z) * z
        assert torch.allclose(bowl.estimated(), expected, rtol=1e-9, atol=1e-9)


def test_directions_of_a_step_are_averaged(bowl):
    estimate(bowl.weights, bowl.loss, seed=3, step=2, num_directions=4)
    drawn = [bowl.flat(dict(directions(bowl.weights, 3, number))) for number in range(8, 12)]
    expected = torch.stack([(bowl.gradient() @ z) * z for z in drawn]).mean(0)
    assert torch.allclose(bowl.estimated(), expected, rtol=1e-9, atol=1e-9)


def test_the_mean_estimate_is_the_gradient(bowl):
    """An element's variance is |g|² + g_i², so four standard errors of 3000 draws bound it."""
    estimate(bowl.weights, bowl.loss, seed=0, step=0, num_directions=3000)
    g = bowl.gradient()
    error = ((g @ g + g**2) / 3000).sqrt()
    assert ((bowl.estimated() - g).abs() < 4 * error).all()


def test_the_mean_of_the_losses_is_returned(bowl):
    z = bowl.flat(dict(directions(bowl.weights, 0, 0)))
    found = estimate(bowl.weights, bowl.loss, seed=0, step=0, scale=0.1)
    assert found == pytest.approx(bowl.loss() + 0.1**2 * float(z @ bowl.a @ z) / 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_are_restored_bit_for_bit(dtype):
    bowl = Bowl(dtype)
    before = {name: weight.detach().clone() for name, weight in bowl.weights.items()}
    estimate(bowl.weights, bowl.loss, seed=0, step=0, num_directions=7)
    for name, weight in bowl.weights.items():
        assert torch.equal(weight, before[name])
        assert weight.grad.dtype == dtype


def test_weights_are_restored_when_the_loss_fails(bowl):
    before = {name: weight.detach().clone() for name, weight in bowl.weights.items()}

    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        estimate(bowl.weights, fail, seed=0, step=0)
    assert all(torch.equal(weight, before[name]) for name, weight in bowl.weights.items())


def test_same_seed_and_step_give_the_same_bits(bowl):
    found = []
    for seed, step in ((0, 0), (0, 0), (0, 1), (1, 0)):
        estimate(bowl.weights, bowl.loss, seed=seed, step=step)
        found.append(bowl.estimated().clone())
    assert torch.equal(found[0], found[1])
    assert not any(torch.allclose(found[0], other) for other in found[2:])


def test_a_direction_does_not_depend_on_the_order_of_weights(bowl):
    forward = dict(directions(bowl.weights, 0, 0))
    backward = dict(directions(dict(reversed(bowl.weights.items())), 0, 0))
    alone = dict(directions({"two": bowl.weights["two"]}, 0, 0))
    assert all(torch.equal(forward[name], backward[name]) for name in forward)
    assert torch.equal(forward["two"], alone["two"])


def test_weights_of_one_shape_have_directions_of_their_own():
    weights = {name: torch.zeros(20000) for name in ("one", "two")}
    one, two = directions(weights, 0, 0).values()
    for noise in (one, two):
        assert abs(float(noise.mean())) < 0.03
        assert float(noise.var()) == pytest.approx(1, abs=0.04)
    assert abs(float((one * two).mean())) < 0.03


@pytest.mark.parametrize("rank", [0, 1])
def test_a_shard_gets_its_part_of_the_same_estimate(rank):
    """Of five rows, the workers hold 3 and 2; neither asks the other for anything."""
    whole = {"w": torch.randn(5, 3, requires_grad=True)}
    losses = iter([2.0, 1.0] * 2)
    estimate(whole, lambda: next(losses), seed=0, step=0)
    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=(f"as_{rank}",))
        start = distribute_tensor(whole["w"].detach(), mesh, [Shard(0)], src_data_rank=None)
        shard = {"w": torch.nn.Parameter(start.clone())}
        mean = estimate(shard, lambda: next(losses), seed=0, step=0)
        assert mean == 1.5
        assert torch.equal(shard["w"].grad.to_local(), whole["w"].grad.chunk(2)[rank])
        assert torch.equal(shard["w"].to_local(), start.to_local())
    finally:
        distributed.destroy_process_group()


def test_numbers_are_those_of_splitmix64():
    """Known: the first three of seed 1234567, as Vigna's C code has them."""
    found = counted.bits(1234567, 0, torch.Size([3]), torch.device("cpu")).tolist()
    assert [number % 2**64 for number in found] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_direction_is_drawn_piece_by_piece(monkeypatch):
    weights = {"w": torch.zeros(301, 7), "v": torch.zeros(13)}
    assert [noise.shape for *_, noise in direction({"one": torch.zeros(())}, 0, 0)] == [()]
    whole = directions(weights, 0, 0)
    monkeypatch.setattr(counted, "AT_ONCE", 50)
    pieces = [noise for _, _, noise in direction(weights, 0, 0)]
    assert max(map(torch.numel, pieces)) <= 50
    assert all(torch.equal(*pair) for pair in zip(
        directions(weights, 0, 0).values(), whole.values(), strict=True
    ))  # fmt: skip


def test_normal_numbers_have_the_moments_of_a_normal():
    drawn = counted.normal(5, 0, torch.Size([400_000]), torch.device("cpu")).double()
    assert abs(float(drawn.mean())) < 4 / 400_000**0.5
    for power, known in ((2, 1.0), (4, 3.0)):
        assert float((drawn**power).mean()) == pytest.approx(known, rel=0.03)
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 4 / 400_000**0.5
    assert float((drawn.abs() > 3).double().mean()) == pytest.approx(0.0027, abs=4e-4)


def test_what_the_loss_reads_may_lie_elsewhere():
    """As bfloat16 weights beside their masters, which need no copy."""
    bowl = Bowl(torch.float32)
    masters = {name: weight.detach().clone() for name, weight in bowl.weights.items()}
    bowl.weights = {n: w.detach().bfloat16() for n, w in bowl.weights.items()}
    before = {name: weight.clone() for name, weight in bowl.weights.items()}
    estimate(masters, bowl.loss, seed=0, step=0, scale=0.1, into=bowl.weights)
    assert all(torch.equal(before[name], weight) for name, weight in bowl.weights.items())
    assert all(weight.grad.dtype == torch.float32 for weight in masters.values())
