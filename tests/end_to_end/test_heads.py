"""The head of a cluster is lost in mid-run: another cluster goes on from the run folder alone."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from raymcu.store.run_folder import RunFolder

from .conftest import command, score_table
from .started import Started
from .test_nodes import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_lost_head_ends_the_run_and_another_cluster_goes_on(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """Lost while models are trained, and again while they are measured.

    Work is done on another node than the head's, which goes on with it for a while.
    """
    out = tmp_path / "run"
    run = command("run", space_path, "--out", out)
    folder = RunFolder(str(out))
    marks: list[Callable[[], object]] = [
        lambda: list(out.glob("checkpoints/.partial/*/progress.json")),
        lambda: len(folder.parts("measurements")) >= 4,
    ]
    with ExitStack() as clusters:
        for has_come in marks:
            cluster = clusters.enter_context(closing(Started(cpus=0)))
            cluster.add_node(cpus=2)
            told = interrupted_by(cluster, run, has_come)
            assert "raymcu: the head of the cluster at " in told
            assert "Traceback" not in told
            assert told.rstrip().endswith(f"goes on: raymcu run {space_path} --out {out}")
            with folder.lock():
                pass
        measured = {part: mtime(out, part) for part in folder.parts("measurements")}
        other = clusters.enter_context(closing(Started(cpus=2)))
        done = subprocess.run(run, env=other.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert folder.parts("failures") == []
    assert score_table(out).equals(score_table(finished))
    assert {part: mtime(out, part) for part in measured} == measured


def interrupted_by(cluster: Started, run: list[str], has_come: Callable[[], object]) -> str:
    """Kill the head when that has come; return what the driver told until it ended."""
    driver = subprocess.Popen(
        run, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(has_come, driver)
    cluster.kill_head()
    told = driver.communicate(timeout=150)[0]
    assert driver.returncode == 1, told
    return told


def mtime(out: Path, part: str) -> int:
    return (out / f"tables/measurements/{part}.parquet").stat().st_mtime_ns
