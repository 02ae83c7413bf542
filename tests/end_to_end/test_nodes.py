"""Nodes that leave in every stage, and others that join late: the tables stay the same."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from raymcu.store.run_folder import RunFolder

from .conftest import command, environment, score_table
from .test_interrupted import stage

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

SIZE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs and two nodes of one, each a raylet of its own."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head = {**SIZE, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**SIZE)
    yield cluster
    cluster.shutdown()


def wait_for(what: Callable[[], object], driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not what():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_node_leaves_in_each_stage_and_another_joins(
    three: Cluster, space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """With one attempt each, so that whatever counted as one would be a failure."""
    out = tmp_path / "run"
    sets = ["--set", "execution.max_attempts=1"]
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            command("run", space_path, "--out", out, *sets),
            env={**environment(), "RAY_ADDRESS": three.address},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        marks = {
            "train": lambda: list(out.glob("checkpoints/.partial/*/progress.json")),
            "connect": lambda: stage(out) == ("connect", True),
            "measure": lambda: len(list(out.glob("tables/measurements/*.parquet"))) >= 2,
        }
        times = {}
        for name, has_come in marks.items():
            wait_for(has_come, driver)
            wait_for(lambda name=name: stage(out) == (name, True), driver)
            times[name] = time.monotonic()
            three.remove_node(three.worker_nodes.copy().pop(), allow_graceful=False)
            time.sleep(5)
            three.add_node(wait=False, **SIZE)
        code = driver.wait(timeout=900)
    told = (tmp_path / "log").read_text()
    assert code == 0, told
    assert RunFolder(str(out)).parts("failures") == []
    assert score_table(out).equals(score_table(finished))
    if "RAYMCU_TIMES" in os.environ:
        print({name: round(time.monotonic() - when) for name, when in times.items()})  # noqa: T201
