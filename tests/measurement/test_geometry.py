"""Geometry of weights against figures computed by hand, and how often the disk is read."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raymcu.errors import StoreError
from raymcu.measurement import geometry
from raymcu.measurement.geometry import Weights, add_up, layer_of, measure_layer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """Writes checkpoints, in one file or in several."""

    def write(name, weights, *, shards=1):
        (tmp_path / name).mkdir()
        names = sorted(weights)
        for n in range(shards):
            part = {key: weights[key] for key in names[n::shards]}
            save_file(part, tmp_path / name / f"model-{n + 1}-of-{shards}.safetensors")
        if shards > 1:  # what transformers writes beside them, and nothing here reads
            (tmp_path / name / "model.safetensors.index.json").write_text(json.dumps({}))
        return tmp_path / name

    return write


def moved(base, *changes):
    return {k: v + sum((c[k] for c in changes if k in c), torch.zeros(())) for k, v in base.items()}


BASE = {
    "model.embed.weight": torch.zeros(4, 3, dtype=torch.float64),
    "model.layers.10.proj.weight": torch.full((2, 2), 2.0, dtype=torch.float64),
    "model.layers.10.norm.bias": torch.ones(2, dtype=torch.float64),
}


def test_norms_cosines_signs_and_ranks_are_those_computed_by_hand(folder):
    one = moved(BASE, {"model.layers.10.proj.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]])})
    two = moved(BASE, {"model.layers.10.proj.weight": torch.tensor([[1.0, 1.0], [0.0, -1.0]]),
                       "model.layers.10.norm.bias": torch.tensor([0.0, 1.0])})  # fmt: skip
    others = [Weights(folder("one", one)), Weights(folder("two", two))]
    sums = add_up(Weights(folder("base", BASE)), others, "model.layers.10", CPU)
    assert sums.num_weights == 6
    assert sums.original == 4 * 4 + 2
    # (3, 0, 0, 4, 0, 0) and (1, 1, 0, -1, 0, 1)
    assert sums.products.tolist() == [[25, -1], [-1, 4]]
    assert sums.moved.tolist() == [[2, 2], [2, 4]]
    assert sums.agreeing.tolist() == [[2, 1], [1, 4]]
    # Singular values 3 and 4: (9 + 16)^2 / (81 + 256).
    assert sums.ranks[0] == pytest.approx(625 / 337, rel=1e-14)
    singular = np.linalg.svd([[1.0, 1.0], [0.0, -1.0]], compute_uv=False) ** 2
    assert sums.ranks[1] == pytest.approx(singular.sum() ** 2 / (singular**2).sum(), rel=1e-14)
    assert sums.full_ranks == (2, 2)
    still = add_up(Weights(folder("base2", BASE)), others, "model.embed", CPU)
    assert still.products.abs().max() == 0
    assert still.ranks == (None, None)


@pytest.mark.parametrize(("shape", "rank"), [((6, 4), 4), ((4, 6), 4), ((5, 3, 2, 2), 5)])
def test_an_update_of_equal_directions_has_their_number_as_its_rank(folder, shape, rank):
    """Whichever side is longer, and cut however small."""
    flat = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    update = flat[: shape[0], : int(np.prod(shape[1:]))]
    u, _, v = torch.linalg.svd(update, full_matrices=False)
    update = (0.5 * u[:, :rank] @ v[:rank]).reshape(shape)
    base = {"conv.weight": torch.randn(shape, dtype=torch.float64)}
    other = {"conv.weight": base["conv.weight"] + update}
    weights = Weights(folder("base", base)), [Weights(folder("other", other))]
    for room in (1, 10, 1 << 24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(geometry, "_ROOM", room)
            sums = add_up(*weights, "conv", CPU)
        assert sums.ranks[0] == pytest.approx(rank, rel=1e-12)
        assert float(sums.products[0, 0]) == pytest.approx(0.25 * rank, rel=1e-12)


def test_all_pairs_of_n_checkpoints_are_read_once_each_from_sharded_files_too(folder, monkeypatch):
    torch.manual_seed(0)
    shapes = {"embed.weight": (40, 8), "layers.0.w": (8, 16), "layers.1.w": (16, 8),
              "layers.1.b": (16,), "scale": ()}  # fmt: skip
    made = [{k: torch.randn(shape) for k, shape in shapes.items()} for _ in range(7)]
    folders = {str(n): folder(str(n), w, shards=1 + n % 3) for n, w in enumerate(made)}
    reads, numbers = Counter(), Counter()
    read = Weights.read

    def counted(self, name, axis, piece):
        found = read(self, name, axis, piece)
        reads[self.folder.name] += 1
        numbers[self.folder.name] += found.numel()
        return found

    monkeypatch.setattr(Weights, "read", counted)
    monkeypatch.setattr(geometry, "_ROOM", 1000)
    layers = sorted({layer_of(name) for name in shapes})
    labels = [(str(n), f"model {n}") for n in range(1, 7)]
    tables = [measure_layer(folders.__getitem__, "0", labels, layer, CPU) for layer in layers]
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    assert set(numbers.values()) == {total}  # of every checkpoint each number once
    assert len(set(reads.values())) == 1
    rows = [row for table in tables for row in table.to_pylist()]
    flat = torch.stack([torch.cat([w[k].flatten() for k in shapes]) for w in made]).double()
    whole = flat[1:] - flat[0]
    for i, j in ((0, 1), (2, 5)):
        pair = [r for r in rows if {r["first_id"], r["second_id"]} == {str(i + 1), str(j + 1)}]
        assert sum(r["inner_product"] for r in pair) == pytest.approx(float(whole[i] @ whole[j]))
        agreeing = int((whole[i].sign() == whole[j].sign()).sum())
        assert sum(r["num_agreeing"] for r in pair) == agreeing
    assert len({r["second_id"] for r in rows if r["kind"] == "pair"}) == 5


def test_statistics_of_batch_norm_are_no_weights(folder):
    weights = {"bn1.weight": torch.ones(3), "bn1.running_mean": torch.ones(3),
               "bn1.running_var": torch.ones(3),
               "bn1.num_batches_tracked": torch.tensor(7)}  # fmt: skip
    assert Weights(folder("resnet", weights)).names == ["bn1.weight"]


def test_layers_are_told_by_name():
    assert layer_of("model.layers.3.mlp.experts.7.w1.weight") == "model.layers.3"
    assert layer_of("layer1.0.conv1.weight") == "layer1.0"
    assert layer_of("lm_head.weight") == "lm_head"
    assert layer_of("scale") == "scale"


def test_what_does_not_fit_or_is_damaged_is_told_by_folder(folder):
    base = Weights(folder("base", BASE))
    other = Weights(folder("other", {"model.embed.weight": torch.zeros(2, 3)}))
    with pytest.raises(StoreError, match=r"other: weight 'model.embed.weight' should have shape"):
        add_up(base, [other], "model.embed", CPU)
    with pytest.raises(StoreError, match="found no such weight"):
        add_up(base, [other], "model.layers.10", CPU)
    broken = folder("broken", BASE)
    next(broken.glob("*.safetensors")).write_bytes(b"short")
    with pytest.raises(StoreError, match="broken: is damaged"):
        Weights(broken)
