"""Layers are read once: what is there stays, what is missing is read, what is stale goes."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorUnavailableError
from safetensors.torch import save_file

import raymcu
from raymcu.analysis.geometry import read_layers
from raymcu.errors import StoreError
from raymcu.measurement import pool as pools
from raymcu.measurement.actor import PointActor
from raymcu.measurement.geometry_driver import measure_geometry
from raymcu.measurement.pool import Pool, drain
from raymcu.models.devices import Devices
from raymcu.planning.geometry import WHOLE
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

SHAPES = {"embed.weight": (6, 4), "layers.0.w": (4, 4), "layers.1.w": (4, 4)}


class Shown:
    """Shows nothing."""

    def __call__(self, ended, running):
        pass

    def stage(self, name, done, total):
        return nullcontext()

    def say(self, text):
        pass


@pytest.fixture
def folder(tmp_path):
    """A run folder with an original and two unlearners."""
    run = RunFolder(str(tmp_path / "run"))
    torch.manual_seed(0)
    for key in ("o", "a", "b"):
        with run.checkpoints.writing(key) as path:
            weights = {name: torch.randn(shape) for name, shape in SHAPES.items()}
            save_file(weights, path / "model.safetensors")
    return run


@pytest.fixture
def driven(folder, monkeypatch):
    """Runs the stage with one actor that works at once; returns the layers it read."""
    space = raymcu.load_space(
        {
            "name": "toy",
            "benchmark": {"name": "authors", "forget_sizes": ["forget10"]},
            "model": {"scratch": {}},
            "methods": [{"name": "npo"}, {"name": "grad_diff"}],
            "measurement": {"geometry": True},
        }
    )
    roles = {"o": "original", "a": "unlearner", "b": "unlearner", "c": "unlearner"}
    recipes = {
        key: SimpleNamespace(id=key, role=role, label=key, forget_size="forget10", curve=None)
        for key, role in roles.items()
    }

    def drive(failed=(), lost=()):
        read, lost = [], list(lost)

        def read_layer(asked, layer, part, num_layers):
            read.append(layer)
            if lost:
                raise lost.pop()
            one = SimpleNamespace(run=folder, measurer=SimpleNamespace(device=torch.device("cpu")),
                                  lock=nullcontext())  # fmt: skip
            PointActor.read_layer(one, asked, layer, part, num_layers)

        method = SimpleNamespace(remote=lambda *what: lambda: read_layer(*what))
        where = SimpleNamespace(remote=lambda: lambda: (None, None))
        actor = SimpleNamespace(read_layer=method, where=where)

        def do(queue, send, watch):
            drain(Pool([actor], queue, Devices(folder), send=send), folder, watch)

        crew = SimpleNamespace(space=space, run=folder, need=lambda *_: None, do=do)
        ledger = SimpleNamespace(
            run=folder, plan=SimpleNamespace(recipes=recipes), failed=lambda: set(failed)
        )
        measure_geometry(ledger, crew, Shown())
        return read

    monkeypatch.setattr(pools.ray, "wait", lambda calls, **_: (calls[:1], calls[1:]))
    monkeypatch.setattr(pools.ray, "get", lambda call: call())
    return drive


def test_layers_are_read_once_and_only_what_is_missing_after(folder, driven):
    assert driven() == ["embed", "layers.0", "layers.1"]
    assert driven() == []
    first, *others = folder.parts("geometry")
    whole = read_layers(folder)
    folder.remove_part("geometry", first)
    assert read_layers(folder) is None  # no sums of some layers
    assert len(driven()) == 1
    assert set(folder.parts("geometry")) == {first, *others}
    assert read_layers(folder).equals(whole)


def test_one_more_checkpoint_has_all_read_anew_and_what_was_read_goes(folder, driven):
    driven()
    before = set(folder.parts("geometry"))
    folder.write_part("geometry", WHOLE, tables.empty("geometry"))
    with folder.checkpoints.writing("c") as path:
        save_file({n: torch.zeros(s) for n, s in SHAPES.items()}, path / "model.safetensors")
    assert len(driven()) == 3
    after = set(folder.parts("geometry"))
    assert not before & after
    assert WHOLE in after
    assert set(read_layers(folder)["first_id"].to_pylist()) == {"a", "b", "c"}


def test_what_failed_before_is_left_to_the_next_run(folder, driven):
    driven()
    part = folder.parts("geometry")[0]
    folder.remove_part("geometry", part)
    assert driven(failed=[part]) == []


def test_a_layer_is_tried_again_when_its_process_dies_but_not_for_ever(folder, driven):
    died = [ActorUnavailableError("its process died", None) for _ in range(9)]
    assert sorted(driven(lost=died[:2])) == ["embed"] * 2 + ["layers.0"] * 2 + ["layers.1"]
    assert folder.parts("failures") == []
    for part in folder.parts("geometry"):
        folder.remove_part("geometry", part)
    assert len(driven(lost=died)) == 9
    rows = folder.read_table("failures").to_pylist()
    assert {row["label"].split()[-1] for row in rows} == {"embed", "layers.0", "layers.1"}
    assert all("its process died" in row["message"] for row in rows)


def test_a_damaged_checkpoint_ends_the_run_with_its_name(folder, driven):
    file = folder.checkpoints.local_dir("b") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StoreError, match=r"b: is damaged"):
        driven()
