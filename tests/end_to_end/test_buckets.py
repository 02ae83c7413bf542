"""A whole study in a bucket: the same tables as on a disk, and how often the bucket is asked."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from raymcu.store.run_folder import RunFolder

from .conftest import SPACE, command, environment, run_command, score_table
from .test_nodes import wait_for
from .test_search import CHANGES, SEARCH, trials, values

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

_ID = "[0-9a-f]{16}"


def small(folder: Path) -> Path:
    """The small study with one method, and more points: each measuring process asks a few times for
    the reference models, whatever the number of points."""
    text = SPACE.replace("num_points = 4", "num_points = 10").replace("epochs = 8", "epochs = 2")
    text = text[: text.index("[[attacks]]")] + text[text.index("[measurement]") :]
    text = text.replace('[[methods]]\nname = "npo"\nretain = "kl"\n', "")
    text = text.replace("[unlearning.training]", '[unlearning]\nsettings = ["Rand"]\n\n\\g<0>', 1)
    text = text.replace("\\g<0>", "[unlearning.training]")
    path = folder / "small.toml"
    path.write_text(text.replace("save_every_s = 0.3", "measure_actors = 2"))
    return path


def test_a_study_in_a_bucket_is_that_on_a_disk_in_few_requests(bucket: Any, tmp_path: Path) -> None:
    space, out = small(tmp_path), f"{bucket.url}/run"
    with bucket.counted() as asked:
        done = run_command("run", space, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {out}/report/index.html" in done.stdout
    on_disk = tmp_path / "run"
    assert run_command("run", space, "--out", on_disk).returncode == 0
    assert score_table(out).equals(score_table(on_disk))

    run = RunFolder.open(out)
    recipes, points = run.plan["recipes"], run.plan["points"]
    assert {*run.checkpoints.done()} == {recipe["id"] for recipe in recipes}
    of_points = [
        line for line in asked if re.search(f"tables/[a-z]+/{_ID}|tables%2F[a-z]+%2F{_ID}", line)
    ]
    of_checkpoints = [line for line in asked if re.search(r"checkpoints(/|%2F)", line)]
    parts = [
        line
        for line in of_checkpoints
        if re.search(f"/{_ID}/", line) and "manifest.json" not in line
    ]
    told = f"{len(asked)} requests for {len(recipes)} trainings and {len(points)} points"
    told += f"; {len(of_points)} of points, {len(of_checkpoints) - len(parts)} of checkpoints"
    assert len(of_points) <= 3 * len(points), told
    assert len(of_checkpoints) - len(parts) <= 8 * len(recipes), told
    assert not [line for line in asked if "tune" in line]

    with bucket.counted() as asked:
        done = run_command("run", space, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(asked) <= 20, "\n".join(asked)

    with run.lock():
        done = run_command("run", space, "--out", out)
    assert done.returncode == 2
    assert "another raymcu is running there (process" in done.stderr
    assert run_command("status", out).returncode == 0


def test_two_drivers_of_one_bucket_and_one_is_killed(
    bucket: Any, space_path: Path, finished: Path, tmp_path: Path
) -> None:
    """The first has processes of its own, as a container: nobody sees from outside that it died."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("makes processes that are seen by nobody else, which takes root")
    out = f"{bucket.url}/run"
    run = RunFolder(out)
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(
            [*apart, *command("run", space_path, "--out", out)],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        wait_for(lambda: len(run.parts("measurements")) >= 4, first)
        assert 0 < seconds_left(space_path, out) <= 120
    finally:
        first.kill()
        first.wait()
    time.sleep(seconds_left(space_path, out) + 1)
    measured = run.files("tables/measurements")
    assert len(measured) >= 4
    second = run_command("run", space_path, "--out", out)
    assert second.returncode == 0, second.stdout + second.stderr
    assert RunFolder.open(out).parts("failures") == []
    assert score_table(out).equals(score_table(finished))
    assert run.files("tables/measurements").items() >= measured.items(), "measured twice"


def seconds_left(space: Path, out: str) -> int:
    """Be refused by a lease; return how long it lasts, as one is told."""
    done = run_command("run", space, "--out", out)
    assert done.returncode == 2, done.stdout + done.stderr
    told = re.search(
        r"another raymcu is running there \(process \d+ on .*, since .*"
        r"its lease ends by itself in (\d+) s",
        done.stderr,
    )
    assert told, done.stderr
    return int(told[1])


def test_a_search_in_a_bucket_is_that_on_a_disk(
    bucket: Any, space_path: Path, tmp_path: Path
) -> None:
    """Two trials and, in another run, a third; on the disk all three at once."""
    space, out, on_disk = tmp_path / "search.toml", f"{bucket.url}/run", tmp_path / "run"
    space.write_text(space_path.read_text() + SEARCH)
    changes = {**CHANGES, "original.training.epochs": "1", "search.grid.method": "['npo']"}
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    more = ["--set", "search.trials=3"]
    with bucket.counted() as asked:
        done = run_command("search", space, "--out", out, *sets)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"trials: {out}/optuna.db" in done.stdout
    assert not [line for line in asked if "/tune" in line]
    for folder in (out, on_disk):
        done = run_command("search", space, "--out", folder, *sets, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    there, here = RunFolder.open(out), RunFolder.open(str(on_disk))
    assert len(trials(there)) == 3
    assert trials(there) == trials(here)
    assert values(there) == values(here)


def test_a_gang_trains_into_a_bucket_and_what_it_made_is_packed(
    bucket: Any, tmp_path: Path
) -> None:
    out, on_disk, packed = f"{bucket.url}/run", tmp_path / "run", tmp_path / "study.zip"
    gangs = ["--set", "original.training.workers=2", "curves.num_points=3"]
    for folder in (out, on_disk):
        done = run_command("run", small(tmp_path), "--out", folder, *gangs)
        assert done.returncode == 0, done.stdout + done.stderr
    assert score_table(out).equals(score_table(on_disk))
    for words in (
        ["verify", out],
        ["pack", out, "--to", packed],
        ["unpack", packed, "--out", tmp_path / "unpacked"],
        ["verify", tmp_path / "unpacked"],
        ["report", tmp_path / "unpacked"],
    ):
        done = run_command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert score_table(tmp_path / "unpacked").equals(score_table(on_disk))
    there, here = (
        RunFolder.open(str(x)).checkpoints.done() for x in (on_disk, tmp_path / "unpacked")
    )
    assert there == here
