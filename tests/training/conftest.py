"""Runs workshops, alone or as a gang of two processes."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from raymcu.training.workshop import Workshop

GANG = Path(__file__).with_name("gang.py")


class Lab:
    """Trains recipes and reads what came of it."""

    def train(self, store, *recipes, save_every_s=1e9, stop_after=None):
        """Make recipes in a workshop of their own; die after so many steps of the first."""
        workshop = Workshop(store, save_every_s)

        def report(step, steps, loss):
            if stop_after is not None and step > stop_after:
                raise StoppedError

        for recipe in recipes:
            with nullcontext() if stop_after is None else pytest.raises(StoppedError):
                workshop.make(recipe, report)

    def weights(self, store, recipe):
        """Return the saved weights by name."""
        return load_file(store.local_dir(recipe.id) / "model.safetensors")

    def history(self, store, recipe):
        """Return the rows of training.parquet."""
        return pq.read_table(store.local_dir(recipe.id) / "training.parquet").to_pylist()

    def same_bits(self, one, other):
        """Say whether both hold the same weights to the bit."""
        return one.keys() == other.keys() and all(one[n].equal(other[n]) for n in one)

    def distance(self, one, other):
        """Return the largest difference of a weight."""
        assert one.keys() == other.keys()
        return max(float((one[n].float() - other[n].float()).abs().max()) for n in one)


class StoppedError(Exception):
    """The process dies here."""


@pytest.fixture(scope="session")
def lab():
    """Trains recipes and reads what came of it."""
    return Lab()


@pytest.fixture
def gang(tmp_path):
    """Runs recipes on two worker processes without Ray."""

    def run(store, *recipes, stop_after=None, save_every_s=1e9):
        job = {
            "store": store.folder.url,
            "recipes": [recipe.model_dump_json() for recipe in recipes],
            "save_every_s": save_every_s,
            "stop_after": stop_after,
            "rendezvous": str(tmp_path / f"rendezvous-{len(list(tmp_path.iterdir()))}"),
        }
        command = [sys.executable, str(GANG), json.dumps(job)]
        workers = [
            subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True)
            for rank in (0, 1)
        ]
        told = [worker.communicate(timeout=120)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)

    return run
