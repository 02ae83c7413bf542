"""What is measured on a CUDA device is what is measured on the CPU; blends in both places too."""

import numpy as np
import pytest
import torch

from raymcu.blend import Blend
from raymcu.measurement.measurer import Measurer
from raymcu.models import causal_lm
from raymcu.models.blending import load_weights, write_blend
from raymcu.study.search_space import Measurement

from .place import DEVICE

pytestmark = pytest.mark.gpu

ASKED = Measurement(
    probes=("forget", "retain"),
    generate=("forget", "retain"),
    moments=("forget",),
    gradient_norms=("forget",),
    representations=("forget",),
    max_examples=40,
    max_new_tokens=24,
)


@pytest.fixture(scope="module")
def blend(study):
    return Blend.of({study.first.id: 0.3, study.second.id: 0.9, study.original.id: -0.2})


def measurer(study, **changes):
    source = study.original.model.model_copy(update=changes)
    return Measurer(study.store, study.original.benchmark, source, ASKED)


def test_a_point_is_the_same_in_both_places(study, blend, on_cpu):
    def look():
        here = measurer(study)
        table = here.measure("p", blend, "forget10")
        alike = here.compare("p", blend, "forget10", {"original": Blend.of({study.original.id: 1})})
        return table, alike, here.device.type

    table, alike, place = look()
    with on_cpu():
        their_table, their_alike, their_place = look()
    assert (place, their_place) == (DEVICE.type, "cpu")
    assert table.schema == their_table.schema
    assert len(table) == len(their_table) > 0
    for ours, theirs in zip(table.to_pylist(), their_table.to_pylist(), strict=True):
        assert ours.keys() == theirs.keys()
        for column, value in theirs.items():
            _same(ours[column], value, column)
    for ours, theirs in zip(alike.to_pylist(), their_alike.to_pylist(), strict=True):
        for column, value in theirs.items():
            _same(ours[column], value, column)


def _same(ours, theirs, what):
    """Compare numbers to what float32 in another order of sums allows, all else exactly."""
    if isinstance(theirs, float) or (
        isinstance(theirs, list) and theirs and isinstance(theirs[0], float)
    ):
        assert np.allclose(ours, theirs, rtol=2e-3, atol=2e-4, equal_nan=True), what
    else:
        assert ours == theirs, what


def test_a_point_is_the_same_bits_again(study, blend):
    tables = [measurer(study).measure("p", blend, "forget10") for _ in range(2)]
    assert tables[0].equals(tables[1])


def test_bfloat16_is_near_float32(study, blend):
    exact, half = (
        measurer(study, dtype=dtype).measure("p", blend, "forget10")
        for dtype in ("float32", "bfloat16")
    )
    ours, theirs = (
        [sum(row) for row in table["logprobs"].to_pylist() if row] for table in (half, exact)
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("place", sorted({"cpu", DEVICE.type}))
def test_blends_are_those_of_the_cpu_wherever_their_terms_are(study, blend, dtype, place):
    folder = study.store.local_dir(study.original.id)
    found = []
    for device in ("cpu", DEVICE.type):
        model = causal_lm.open_model(
            folder, str(dtype).removeprefix("torch."), torch.device(device)
        )
        where = "cpu" if device == "cpu" else place
        sources = {
            key: {n: w.to(where) for n, w in load_weights(study.store.local_dir(key)).items()}
            for key in blend.checkpoints
        }
        weights = causal_lm.resident_weights(model)
        for _ in range(3):  # a stream that runs ahead shows when it is asked again at once
            write_blend(weights, blend, sources)
        found.append({name: weight.detach().cpu() for name, weight in weights.items()})
    for name, weight in found[0].items():
        torch.testing.assert_close(
            found[1][name], weight, rtol=1e-6 if dtype == torch.float32 else 8e-3, atol=1e-7
        )
