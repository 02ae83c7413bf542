"""Killing any process, at any stage: the same command then gives the same numbers."""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from .conftest import command, environment, run_command, score_table

pytestmark = [pytest.mark.ray, pytest.mark.long]


def start(space: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", space, "--out", out),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers(driver: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Ray workers of this driver whose title holds the word."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def named(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def wait_for(what: Callable[[], object], driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def test_a_killed_training_worker_and_a_killed_measuring_actor_change_nothing(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    driver = start(space_path, out)
    wait_for(lambda: list(out.glob("checkpoints/.partial/*/progress.json")), driver)
    trainers = workers(driver, "ray::ImplicitFunc") or workers(driver, "raymcu original")
    assert trainers, "no training worker was found by its name"
    trainers[0].send_signal(signal.SIGKILL)
    wait_for(lambda: len(list(out.glob("tables/measurements/*.parquet"))) >= 3, driver)
    measurers = workers(driver, "ray::MeasuringActor")
    assert measurers, "no measuring actor was found by its name"
    measurers[0].send_signal(signal.SIGKILL)
    output = driver.communicate(timeout=500)[0]
    assert driver.returncode == 0, output
    assert score_table(out).equals(score_table(finished))


def test_a_killed_driver_loses_at_most_the_work_in_flight(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    driver = start(space_path, out)
    wait_for(lambda: len(list(out.glob("tables/measurements/*.parquet"))) >= 4, driver)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.communicate()
    agents = [process for process in children if named(process).endswith("Agent")]
    workers_and_raylet = [process for process in children if process not in agents]
    _, alive = psutil.wait_procs(workers_and_raylet, timeout=60)
    assert not alive, f"workers outlive their driver: {alive}"
    for agent in agents:  # Ray's own, which notice late that their node is gone
        with suppress(psutil.Error):
            agent.kill()
    before = {p: p.stat().st_mtime_ns for p in out.glob("tables/measurements/*.parquet")}
    trained = {p: p.stat().st_mtime_ns for p in out.glob("checkpoints/*/training.parquet")}
    again = run_command("run", space_path, "--out", out)
    assert again.returncode == 0, again.stdout + again.stderr
    assert score_table(out).equals(score_table(finished))
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a point was measured twice"
    assert {p: p.stat().st_mtime_ns for p in trained} == trained, "trained twice"
