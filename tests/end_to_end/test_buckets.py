"""A whole study in a bucket: the same tables as on a disk, and how often the bucket is asked."""

import re
from pathlib import Path
from typing import Any

import pytest

from raymcu.store.run_folder import RunFolder

from .conftest import SPACE, run_command, score_table

pytestmark = [pytest.mark.ray, pytest.mark.slow]

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
