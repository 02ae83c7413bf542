"""The files of cluster/slurm/ on a real Slurm: preempted, put back by hand, and finished."""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from raymcu.cluster.templates import fill, template
from raymcu.store.run_folder import RunFolder

from .conftest import command, score_table
from .slurm_nodes import PROGRAMS, Slurm
from .test_interrupted import stage

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.getuid() != 0, reason="machines of their own take root"),
    pytest.mark.skipif(
        not all(
            shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") for program in PROGRAMS
        ),
        reason="needs Debian's slurmctld, slurmd, slurm-client and munge",
    ),
]


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with closing(Slurm()) as machines:
        machines.start()
        yield machines


@dataclass
class Watched:
    """A job and its log."""

    slurm: Slurm
    log: Path
    job: str

    def told(self) -> str:
        """Return what Slurm says of it, and the log."""
        log = self.log.read_text() if self.log.exists() else ""
        return self.slurm.run(f"scontrol show job {self.job}") + log

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until that is so."""
        deadline = time.monotonic() + 900
        while not what():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.2)

    def wait_for_line(self, line: str) -> None:
        """Wait for a line of the log."""
        self.wait_for(lambda: line in self.told())

    def wait_for_end(self) -> None:
        """Wait until it has ended, and well."""
        self.wait_for(lambda: re.search("JobState=(COMPLETED|FAILED|CANCELLED)", self.told()))
        told = self.told()
        assert "JobState=COMPLETED" in told, told
        assert "ExitCode=0:0" in told, told


@pytest.fixture
def submitted(slurm: Slurm, tmp_path: Path) -> Callable[..., Watched]:
    """Runs what submits a job; returns the job."""
    log = tmp_path / "log"
    slurm.env |= {"SBATCH_OUTPUT": str(log), "HOME": str(tmp_path)}

    def submit(words: list[str]) -> Watched:
        told = slurm.run(shlex.join(words))
        (job,) = re.findall(r"Submitted batch job (\d+)", told)
        return Watched(slurm, log, job)

    return submit


def test_a_preempted_job_saves_and_goes_on_when_it_is_its_turn(
    submitted: Callable[..., Watched], space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """Preempted while it trains; put back by hand, which kills it, while it measures."""
    out, file = tmp_path / "run", tmp_path / "job.sbatch"
    folder = RunFolder(str(out))
    wanted = ["--to", "slurm", "--out", out, "--queue", "patient", "--file", file]
    wanted += ["--workers", "2", "--per-node", "1", "--memory", "3"]
    rare = ["--set", "execution.save_every_s=1e9"]
    job = submitted(command("submit", space_path, *wanted, *rare))

    job.wait_for(lambda: stage(out) == ("train", True))
    urgent = "--partition=urgent --nodes=2 --exclusive --output=/dev/null"
    job.slurm.run(f"sbatch {urgent} --wrap='sleep 5'")
    job.wait_for_line("back into the queue")
    told = job.told()
    assert "the time is nearly over: states are saved" in told
    assert re.search(r"raymcu: stopped\. \d trainings? ha(s|ve) saved how far ", told), told
    assert list(out.glob("checkpoints/.partial/*/progress.json"))

    job.wait_for(lambda: len(folder.parts("measurements")) >= 4)
    job.slurm.run(f"scontrol requeue {job.job}")
    job.wait_for_line(f"job {job.job}, start 3: 2 nodes")
    job.wait_for_end()
    assert folder.parts("failures") == []
    assert score_table(out).equals(score_table(finished))


def test_on_parts_of_nodes_a_job_whose_time_is_over_goes_on(
    submitted: Callable[..., Watched], space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """Measures models that are there."""
    out, file = tmp_path / "run", tmp_path / "job.sbatch"
    folder = RunFolder(str(out))
    run = ["raymcu", "run", space_path, "--out", out, "--set", f"store='{finished}/checkpoints'"]
    values = {"name": "small", "nodes": "2", "cpus": "1", "gpus": "0", "memory": "3G"}
    values |= {"time": "01:00:00", "out": str(out), "environment": sys.prefix}
    values |= {"command": f"({shlex.join(map(str, run))})"}
    file.write_text(fill(template("slurm/raymcu-shared.sbatch"), values))
    job = submitted(["sbatch", str(file)])

    job.wait_for(lambda: len(folder.parts("measurements")) >= 4)
    job.slurm.run(f"scancel --signal=USR1 --batch {job.job}")
    job.wait_for_line("back into the queue")
    assert "raymcu: stopped." in job.told()
    job.wait_for_line(f"job {job.job}, start 2: 2 nodes")
    job.wait_for_end()
    assert folder.parts("failures") == []
    assert score_table(out).equals(score_table(finished))
