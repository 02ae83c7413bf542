"""The two drivers on one local cluster: sharded training, failures as rows."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console
from safetensors.numpy import load_file

import raymcu
from raymcu.planning.graph import Graph
from raymcu.session import Cluster
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.run_folder import RunFolder
from raymcu.training.driver import train_ready
from raymcu.training.workshop import Workshop

if TYPE_CHECKING:
    from raymcu.planning.ledger import Ledger
    from raymcu.study.search_space import SearchSpace

pytestmark = pytest.mark.ray


def watch(ended: object, running: object) -> None:
    """Look the other way."""


def test_two_workers_of_ray_train_follow_one_workers_loss_curve(
    cluster: Cluster, space_path: Path, tmp_path: Path
) -> None:
    gentle = ["epochs=1.0", "optimizer.name=adamw", "learning_rate=1e-3", "workers=2"]
    space = raymcu.load_space(space_path, [f"original.training.{x}" for x in gentle])
    recipes = raymcu.plan_study(space).levels[0]
    run = RunFolder(str(tmp_path / "two"))
    graph = Graph(lambda recipe: 1.0)
    graph.add(recipes, (), lambda key: False)
    train_ready(graph, run, space, cluster, {"train": watch})
    assert run.parts("failures") == []
    alone = Workshop(CheckpointStore(str(tmp_path / "one")), 1e9)
    for recipe in recipes:
        alone.make(recipe, lambda step, steps, loss: None)
        one, two = (tmp_path / where / recipe.id for where in ("one", "two/checkpoints"))
        losses = [pq.read_table(f / "training.parquet")["loss"].to_numpy() for f in (one, two)]
        np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
        weights = [load_file(f / "model.safetensors") for f in (one, two)]
        for name, weight in weights[0].items():
            np.testing.assert_allclose(weight, weights[1][name], atol=2e-3)


def test_a_diverged_recipe_is_a_row_and_the_rest_goes_on(
    cluster: Cluster, space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """grad_diff cannot go below its bound; npo can; what pairs them is skipped."""
    del cluster  # the session is found and reused
    bound = ["methods.0.training.max_abs_loss=0.01", f'store="{finished / "checkpoints"}"']
    fewer = ["curves.num_points=3", "measurement.max_examples=4", "measurement.generate=[]"]
    space: SearchSpace = raymcu.load_space(space_path, [*bound, *fewer])
    ledger: Ledger = raymcu.run_study(space, str(tmp_path / "run"), Console(), is_quiet=True)
    rows = ledger.failures().to_pylist()
    diverged = {row["label"] for row in rows if row["reason"] == "diverged"}
    assert diverged == {"grad_diff/seed0", "grad_diff/seed1"}
    assert all("max_abs_loss" in row["message"] for row in rows if row["reason"] == "diverged")
    skipped = [row["label"] for row in rows if row["reason"] == "skipped"]
    assert "bend(grad_diff/seed0, npo/seed0)" in skipped
    findings = ledger.run.read_table("findings").to_pylist()
    assert {(row["first"], row["second"]) for row in findings} == {("npo/seed0", "npo/seed1")}
    assert ray.is_initialized(), "a session that was there before must stay"
    again = raymcu.run_study(space, str(tmp_path / "run"), Console(), is_quiet=True)
    assert again.failures().to_pylist() == rows, "divergence is not tried again"
