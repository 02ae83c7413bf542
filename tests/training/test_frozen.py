"""What is frozen stays to the bit, whatever the optimizer's memory and decay do."""

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from raymcu.training.frozen import Frozen


def some_weights():
    torch.manual_seed(0)
    shapes = {"matrix": (6, 4), "vector": (5,), "scalar": ()}
    return {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}


def walk(weights, kind, frozen=None):
    """Five steps, the first of them unmasked so that momentum is there to leak."""
    if kind == "adamw":
        optimizer = torch.optim.AdamW(list(weights.values()), lr=0.1, weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD(list(weights.values()), lr=0.1, momentum=0.9, weight_decay=0.1)
    random = torch.Generator().manual_seed(1)
    for step in range(5):
        for weight in weights.values():
            weight.grad = torch.randn(weight.shape, generator=random)
        if frozen is not None and step > 0:
            frozen.mask_gradients(weights)
        optimizer.step()
        if frozen is not None:
            frozen.restore(weights)
    return {name: weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("kind", ["adamw", "momentum"])
def test_frozen_weights_stay_bit_for_bit_and_the_others_move_as_without(kind):
    movable = {
        "matrix": torch.rand(6, 4) < 0.5,
        "vector": torch.ones(5, dtype=torch.bool),
        "scalar": torch.zeros((), dtype=torch.bool),
    }
    start, weights = some_weights(), some_weights()
    masked = walk(weights, kind, Frozen(weights, movable))
    free = walk(some_weights(), kind)
    for name, mask in movable.items():
        assert torch.equal(masked[name], torch.where(mask, free[name], start[name]))
        assert not torch.equal(free[name], start[name])


@pytest.mark.parametrize("kind", ["adamw", "momentum"])
def test_a_mask_that_keeps_all_changes_nothing(kind):
    weights = some_weights()
    movable = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
    masked, free = walk(weights, kind, Frozen(weights, movable)), walk(some_weights(), kind)
    assert all(torch.equal(masked[name], free[name]) for name in free)


def test_gradients_are_zeroed_in_place_where_they_are_masked():
    weight = torch.zeros(3, requires_grad=True)
    idle = torch.zeros(3, requires_grad=True)
    mask = torch.tensor([True, False, True])
    frozen = Frozen({"w": weight, "idle": idle}, {"w": mask, "idle": mask})
    weight.grad = gradient = torch.tensor([1.0, torch.inf, 3.0])
    frozen.mask_gradients({"w": weight, "idle": idle})
    assert gradient.tolist() == [1, 0, 3]
    assert idle.grad is None


def test_only_the_frozen_values_are_kept():
    weight = torch.randn(100)
    frozen = Frozen({"w": weight, "free": weight}, {"w": torch.arange(100) >= 7})
    assert [values.numel() for _, values in frozen._held.values()] == [7]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_shard_is_frozen_by_its_own_mask(rank):
    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=(f"as_{rank}",))

        def split(tensor):
            return distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None)

        mask = torch.tensor([True, False, True, False, True])
        here = mask.chunk(2)[rank]
        weight = torch.nn.Parameter(split(torch.arange(5.0)))
        weight.grad = split(torch.ones(5))
        frozen = Frozen({"w": weight}, {"w": here})
        frozen.mask_gradients({"w": weight})
        assert torch.equal(weight.grad.to_local(), here.float())
        weight.data.to_local().fill_(-1.0)
        frozen.restore({"w": weight})
        expected = torch.where(mask, -1.0, torch.arange(5.0)).chunk(2)[rank]
        assert torch.equal(weight.detach().to_local(), expected)
    finally:
        distributed.destroy_process_group()
