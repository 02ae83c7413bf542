"""Gangs that die, workers with errors of their own, devices that fail: all is done or told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

pytestmark = [pytest.mark.ray, pytest.mark.long]

HERE = Path(__file__).parent


def found(scenario, space_path, tmp_path):
    """Play a scenario of faults.py in a process and a Ray session of its own."""
    done = subprocess.run(
        [sys.executable, HERE / "faults.py", scenario, space_path, tmp_path],
        env={**environment(), "PYTHONPATH": f"{HERE}:{HERE.parent.parent}"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND "))


def test_what_a_gang_leaves_when_it_dies_is_done_or_told(space_path, tmp_path):
    """Sixty recipes after the one that killed it had no row, no retry and no word."""
    told = found("gangs", space_path, tmp_path)
    assert told["done"] == ["0:", "3:"]
    rows = {row["label"]: row for row in told["failures"]}
    assert rows.keys() == {"1:dies", "2:second_worker"}
    assert rows["1:dies"]["reason"] == "worker_died"
    assert "its gang of 2 workers died 1 times" in rows["1:dies"]["message"]
    own = "worker 1 of 2: ValueError: the data of this worker is not there"
    assert rows["2:second_worker"]["message"] == own
    assert "faulty_methods.py" in rows["2:second_worker"]["traceback"]


def test_a_device_that_fails_takes_no_more_and_its_work_is_done_elsewhere(space_path, tmp_path):
    told = found("devices", space_path, tmp_path)
    assert (told["workers"], told["retired"]) == (1, 1)
    assert told["measured"] == [f"p{n}" for n in range(6)]
    assert told["training"]["done"] == [f"{n}:first_gpu" for n in range(6)]
    (row,) = told["measuring"]["failures"]
    assert row["reason"] == "device_failed"
    assert row["message"].startswith("GPU 0 of ")
    assert "failed 3 times in a row and takes no more work" in row["message"]
    (suspected,) = told["suspected"]  # in training it may not come to three before it is held
    assert suspected.startswith("GPU 0 of ")
    assert {row["reason"] for row in told["training"]["failures"]} <= {"device_failed"}
    (free,) = told["free"]
    assert free.startswith("GPU 1 of ")
