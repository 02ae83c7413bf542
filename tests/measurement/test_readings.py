"""Readings through a measuring process, as a study has them: two orders, two processes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from raymcu.blend import Blend
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.attacked import Done
from raymcu.measurement.measurer import Measurer
from raymcu.measurement.representations import end_states
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.planning.ledger import Ledger
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource, ScratchModel
from raymcu.training.workshop import Workshop

ATTACKS = [
    {"name": "linear_probe", "facts": 8, "folds": 2, "label": "probe"},
    {"name": "knn", "facts": 8, "folds": 2, "neighbours": 3},
    {"name": "soft_prompt", "examples": 3, "steps": 2, "tokens": 4},
]
CONTENT = {
    "name": "inside",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {"hidden_size": 32, "num_layers": 2, "num_heads": 2,
                          "intermediate_size": 64, "vocab_size": 400}},
    "original": {"training": {"learning_rate": 1e-2, "epochs": 0.1, "batch_size": 16}},
    "retrained": {"train": False},
    "unlearning": {"settings": [], "training": {"epochs": 1.0}},
    "methods": [{"name": "grad_diff"}],
    "measurement": {"probes": ["forget"], "generate": [], "max_examples": 8},
}  # fmt: skip
OTHER = """
import json, sys
from raymcu.attacks._base import ATTACKS
from raymcu.blend import Blend
from raymcu.measurement.attacked import Done
from raymcu.measurement.measurer import Measurer
from raymcu.store.checkpoints import CheckpointStore
from raymcu.planning.surroundings import load_space
import torch
torch.set_num_threads(1)
store, content, blend, calls = json.loads(sys.argv[1])
space = load_space(content)
measurer = Measurer(CheckpointStore(store), space.benchmark, space.model, space.measurement)
rows = [measurer.read("p", Blend.model_validate(blend), "forget10", Done.of(c)) for c in calls]
print(json.dumps([table.drop_columns("point_id").to_pylist() for table in rows]))
"""


class Study:
    """A study's points, measured one after the other by the actor, without Ray."""

    def __init__(self, folder, attacks, store=None):
        self.content = {**CONTENT, "attacks": attacks}
        space = load_space(self.content)
        self.plan = plan_study(space)
        self.run = RunFolder(str(folder), store)
        Ledger(self.run, self.plan).begin(space, extend=False)
        workshop = Workshop(self.run.checkpoints, 1e9)
        for level in self.plan.levels:
            for recipe in level:
                workshop.make(recipe, lambda *_: None)
        actor = PointActor(setup_of(self.run, space))
        for point in self.plan.points.values():
            call = point.attack.call if point.attack else None
            actor.measure(point.id, point.blend.model_dump_json(), point.forget_size, call)

    def parts(self, name):
        keys = [key for key in self.plan.points if self.run.has_part(name, key)]
        return {key: self.run.read_part(name, key) for key in keys}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Three readings of an original."""
    return Study(tmp_path_factory.mktemp("read"), ATTACKS)


def test_a_reading_is_a_point_with_scores_of_its_own(read):
    scores = {
        read.plan.points[key].label: {row["metric"]: row["value"] for row in table.to_pylist()}
        for key, table in read.parts("scores").items()
    }
    assert set(scores) == {
        "original", "original after probe", "original after knn", "original after soft_prompt"
    }  # fmt: skip
    assert set(scores["original after probe"]) == {"linear_probe_forget"}
    assert set(scores["original after knn"]) == {"knn_forget"}
    soft = {"soft_prompt_forget", "soft_prompt_area_forget"}
    assert set(scores["original after soft_prompt"]) == soft
    own = scores.pop("original")
    assert not soft & set(own)
    assert all(value is not None for table in scores.values() for value in table.values())
    assert set(read.parts("samples")) == set(read.plan.points), "none of them is along a curve"
    readings = read.parts("readings")
    assert len(readings) == 3
    for key in readings:
        assert len(read.parts("measurements")[key]) == 0


def test_the_order_of_attacks_changes_no_number(read, tmp_path):
    turned = Study(tmp_path, ATTACKS[::-1], read.run.checkpoints.folder.url)
    assert list(turned.plan.points) != list(read.plan.points)
    for name in ("readings", "scores", "measurements"):
        assert turned.parts(name) == read.parts(name)


def test_another_process_reads_the_same_bits(read):
    points = [point for point in read.plan.points.values() if point.attack]
    calls = [point.attack.call for point in points]
    told = [read.run.checkpoints.folder.url, read.content, points[0].blend.model_dump(), calls]
    done = subprocess.run(
        [sys.executable, "-c", OTHER, json.dumps(told)], capture_output=True, text=True, check=True
    )
    ours = [read.parts("readings")[point.id].drop_columns("point_id") for point in points]
    assert json.loads(done.stdout) == [table.to_pylist() for table in ours]


def test_measuring_after_reading_gives_the_same_bits(study):
    """Nothing that a reading does to the model stays."""
    source, use = ModelSource(scratch=ScratchModel()), study.first.benchmark
    assert isinstance(use, BenchmarkUse)
    asked = Measurement(probes=("forget", "retain"), generate=("forget",), max_examples=6)
    measurer = Measurer(study.store, use, source, asked)
    blend = Blend.of({study.first.id: 1.0})
    before = measurer.measure("p", blend, "forget10")
    for attack in ATTACKS:
        options = {key: value for key, value in attack.items() if key not in ("name", "label")}
        call = json.dumps({"name": attack["name"], "options": options, "beside": None})
        measurer.read("p", blend, "forget10", Done.of(call))
    assert measurer.measure("p", blend, "forget10").equals(before)


def test_end_states_are_those_of_the_last_word(tiny_llama):
    """Of an answer that ends, the state at the token in front of the end; else at the last."""
    rows = [Encoded((1, 9), (20, 21, 2)), Encoded((1, 9, 8), (30,)), Encoded((1, 9), (20, 21, 2))]
    found = end_states(Scorer(tiny_llama), rows, 512, {2})
    for number, ids in enumerate(([1, 9, 20, 21], [1, 9, 8, 30], [1, 9, 20, 21])):
        with torch.no_grad():
            out = tiny_llama(input_ids=torch.tensor([ids]), output_hidden_states=True)
        expected = [states[0, -1] for states in out.hidden_states[1:]]
        assert len(found) == 3
        for states, one in zip((found[0], found[2]), expected, strict=True):
            assert np.allclose(states[number], one, atol=1e-5)
