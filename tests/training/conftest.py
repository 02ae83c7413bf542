"""Runs workshops, alone or as a gang of two processes."""

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from raymcu.recipes import Recipe
from raymcu.store import CheckpointStore
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


@dataclass
class Task:
    """One recipe for the gang: where to, and when to die and begin again."""

    store: CheckpointStore
    recipe: Recipe
    stops: tuple[int, ...] = ()


@pytest.fixture(scope="session")
def gang(tmp_path_factory):
    """Runs tasks on two worker processes without Ray."""

    def run(*tasks):
        job = {
            "rendezvous": str(tmp_path_factory.mktemp("gang") / "rendezvous"),
            "tasks": [
                [task.store.folder.url, task.recipe.model_dump_json(), task.stops] for task in tasks
            ],
        }
        command = [sys.executable, str(GANG), json.dumps(job)]
        workers = [
            subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True)
            for rank in (0, 1)
        ]
        told = [worker.communicate(timeout=200)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)

    run.task = Task
    return run
