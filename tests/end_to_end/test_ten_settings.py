"""All ten settings, a mask, adapters, and bends only where a straight line has a barrier."""

from pathlib import Path

import pytest

from raymcu.store.run_folder import RunFolder
from raymcu.study.settings import SETTINGS

from .conftest import run_command

pytestmark = [pytest.mark.ray, pytest.mark.long]

CHANGES = {
    "unlearning.settings": str(list(SETTINGS)).replace("'", '"'),
    "unlearning.second_order": '{ optimizer = { order = "second" }, learning_rate = 3e-4 }',
    "unlearning.curriculum": '{ name = "superloss", lam = 0.5 }',
    "methods.0.mask": '{ name = "wagle", keep = 0.5 }',
    "methods.1.training": "{ lora = { rank = 4 }, learning_rate = 1e-2 }",
    "curves.quadratic": "if_barrier",
    "curves.num_points": "3",
    "curves.bend.training.epochs": "0.5",
    "attacks": "[]",
    "measurement.probes": '["forget", "retain"]',
    "measurement.generate": "[]",
    "analysis.tolerance": "0.02",
}


@pytest.fixture(scope="module")
def grid(finished: Path, space_path: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose original and retrained model are those of the small study."""
    out = tmp_path_factory.mktemp("grid") / "run"
    sets = {**CHANGES, "store": str(finished / "checkpoints")}
    arguments = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    done = run_command("run", space_path, "--out", out, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunFolder(str(out), str(finished / "checkpoints"))


def test_every_setting_is_trained_connected_and_judged(grid: RunFolder) -> None:
    judged = {row["setting"] for row in grid.read_table("findings").to_pylist()}
    assert judged == set(SETTINGS)
    assert grid.parts("failures") == []


def test_unlearners_of_the_settings_differ(grid: RunFolder) -> None:
    """Curriculum and order change what is trained, each for itself."""
    recipes = grid.read_table("recipes").to_pylist()
    losses = {r["label"]: r["final_loss"] for r in recipes if r["role"] == "unlearner"}
    for method in ("grad_diff", "npo"):
        of_method = [loss for label, loss in losses.items() if label.startswith(method)]
        assert len(of_method) == len(set(of_method)) == 6


def test_bends_are_trained_only_where_the_straight_line_has_a_barrier(grid: RunFolder) -> None:
    rows = grid.read_table("findings").to_pylist()
    ends = ("setting", "forget_size", "first", "second")
    lines = [row for row in rows if row["family"] == "linear"]
    straight = {tuple(row[k] for k in ends): row["is_connected"] for row in lines}
    bent = {tuple(row[k] for k in ends) for row in rows if row["family"] == "quadratic"}
    assert bent == {key for key, is_connected in straight.items() if not is_connected}
    assert 0 < len(bent) < len(straight) == 17
