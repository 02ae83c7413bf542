"""Writing blends against copying the same bytes."""

import statistics
import time

import pytest
import torch

from raymcu.blend import Blend
from raymcu.models.blending import write_blend

pytestmark = [pytest.mark.speed, pytest.mark.timeout(900)]

ROUNDS = 7
SHAPES = {f"layer.{n}": (2048, 2048) for n in range(8)}  # 128 MiB


def took(way):
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


@pytest.mark.parametrize("num", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bandwidth_of_a_blend_against_a_copy(num, dtype):
    """Goal: 70% of the copy bandwidth, counting what has to be read and written once."""
    made = torch.Generator().manual_seed(0)
    names = [f"end{n}" for n in range(num)]
    ends = {
        name: {key: torch.randn(shape, generator=made).to(dtype) for key, shape in SHAPES.items()}
        for name in names
    }
    weights = {key: torch.empty(shape, dtype=dtype) for key, shape in SHAPES.items()}
    blend = Blend.of({name: (n + 1) / sum(range(1, num + 1)) for n, name in enumerate(names)})

    def copy():
        for key, weight in weights.items():
            weight.copy_(ends["end0"][key])

    shares = []
    copy()
    write_blend(weights, blend, ends)
    for _ in range(ROUNDS):
        of_copy = took(copy) / 2  # one read, one write
        shares.append((num + 1) * of_copy / took(lambda: write_blend(weights, blend, ends)))
    print(
        f"\nblend of {num}, {dtype}: {statistics.median(shares):.0%} of the copy bandwidth "
        f"({min(shares):.0%} to {max(shares):.0%} over {ROUNDS} rounds)"
    )
