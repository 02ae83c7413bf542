"""Geometry of 50 checkpoints of a million weights: one reading of the disk, on one core."""

import time

import pytest
import torch
from safetensors.torch import save_file

from raymcu.analysis.geometry import Products
from raymcu.measurement.geometry import Weights, layer_of, measure_layer

pytestmark = [pytest.mark.speed, pytest.mark.timeout(600)]

COUNT, BOUND_S = 50, 20.0


@pytest.fixture
def checkpoints(tmp_path):
    """An original and 50 others: a Llama of four layers, 1.05 million weights in float32."""
    torch.manual_seed(0)
    shapes = {"model.embed_tokens.weight": (2048, 128), "model.norm.weight": (128,)}
    for n in range(4):
        at = f"model.layers.{n}"
        shapes |= {f"{at}.self_attn.{w}_proj.weight": (128, 128) for w in "qkvo"}
        shapes |= {f"{at}.mlp.{w}_proj.weight": (344, 128) for w in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (128, 344)
    base = {name: torch.randn(shape) for name, shape in shapes.items()}
    for n in range(COUNT + 1):
        (tmp_path / str(n)).mkdir()
        weights = {k: w + (0.01 * torch.randn_like(w) if n else 0) for k, w in base.items()}
        save_file(weights, tmp_path / str(n) / "model.safetensors")
    return tmp_path


def test_fifty_checkpoints_of_a_million_weights_take_less_than_twenty_seconds(checkpoints):
    torch.set_num_threads(1)
    started = time.perf_counter()
    original = Weights(checkpoints / "0")
    labels = [(str(n), f"model {n}") for n in range(1, COUNT + 1)]
    layers = dict.fromkeys(map(layer_of, original.names))
    tables = [
        measure_layer(lambda key: checkpoints / key, "0", labels, layer, torch.device("cpu"))
        for layer in layers
    ]
    took = time.perf_counter() - started
    weights = sum(table["num_weights"][0].as_py() for table in tables)
    print(f"{COUNT} checkpoints of {weights:,} weights: {took:.1f} s, bound {BOUND_S:g} s")
    assert weights > 1e6
    assert Products(tables[0]).known == {key for key, _ in labels}
    assert took < BOUND_S
