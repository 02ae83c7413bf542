"""`raymcu submit --to ray`, and `ray job stop`: it saves, and the next job goes on from there."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from raymcu.store.run_folder import RunFolder

from .conftest import command, score_table
from .started import Started
from .test_interrupted import stage

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]


class Jobs:
    """What a user types beside a cluster that takes jobs."""

    def __init__(self, cluster: Started, folder: Path) -> None:
        self.env = {**cluster.env, "RAY_ADDRESS": cluster.dashboard}
        self.folder = folder

    def type(self, *words: object) -> str:
        """Run a command in the folder; return what it told."""
        done = subprocess.run(
            [*map(str, words)],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ray(self, *words: str) -> str:
        """Return what `ray job …` tells."""
        return self.type(sys.executable, "-m", "ray.scripts.scripts", "job", *words)

    def submit(self, space: Path, out: Path) -> str:
        """Submit a study whose trainings save when they are asked to, and then alone."""
        rare = ["--set", "execution.save_every_s=1e9"]
        told = self.type(*command("submit", space, "--to", "ray", "--out", out, *rare))
        (name,) = set(re.findall(r"small-\d{8}-\d{6}", told))
        return name


def wait_for(what: Callable[[], object], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + 900
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def test_a_stopped_job_saves_and_the_next_one_goes_on(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    out, folder = tmp_path / "run", tmp_path / "uploaded"
    folder.mkdir()
    # Ray waits 3 s between SIGTERM and SIGKILL unless it is told otherwise.
    patient = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
    with closing(Started(cpus=2, is_shown=True, **patient)) as cluster:
        jobs = Jobs(cluster, folder)
        first = jobs.submit(space_path, out)
        wait_for(lambda: stage(out) == ("train", True), lambda: jobs.ray("logs", first))
        assert "STOPPED" in jobs.ray("stop", first).upper()
        told = jobs.ray("logs", first)
        assert re.search(
            r"raymcu: stopped\. \d trainings? ha(s|ve) saved how far [a-z ]+\. "
            rf"{out} is free for another driver\. The same command goes on from here\.\s*$",
            told,
        ), told
        assert "Traceback" not in told
        assert list(out.glob("checkpoints/.partial/*/progress.json"))
        with RunFolder(str(out)).lock():
            pass
        second = jobs.submit(space_path, out)
        has_ended = re.compile("SUCCEEDED|FAILED|STOPPED")
        wait_for(lambda: has_ended.search(jobs.ray("status", second).upper()), lambda: "")
        assert "SUCCEEDED" in jobs.ray("status", second).upper(), jobs.ray("logs", second)
    assert RunFolder(str(out)).parts("failures") == []
    assert score_table(out).equals(score_table(finished))
