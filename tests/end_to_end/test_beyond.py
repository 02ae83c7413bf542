"""Beyond the segment: walks, calibration, layers, ensembles and hand-written blends, in one run."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from raymcu.store.run_folder import RunFolder

from .conftest import run_command

pytestmark = pytest.mark.ray

CHANGES = {
    "model.scratch.num_layers": "2",
    "original.training.epochs": "4",
    "unlearning.settings": '["Met"]',
    "methods": '[{ name = "grad_diff" }, { name = "mox", memorizer = "ce", alpha = 2.0, '
    'training = { average = { eta = 0.5, every = "step" } } }]',
    "curves": '{ families = [{ name = "bezier", num_bends = 2 }], num_points = 3, ensemble = 3, '
    'bend = { objective_along = "arc_length", '
    "training = { learning_rate = 1e-3, epochs = 0.5, batch_size = 4 } } }",
    "surfaces": '[{ label = "plane", corners = ["original", "grad_diff/seed0", "mox/seed0"], '
    "num_points = 2, margin = 0 }]",
    "walks": '[{ name = "mixing", at = [0.0, 0.5, 1.0] }, '
    '{ name = "extrapolation", at = [-1.0, 0.0, 2.0] }, { name = "layers" }, '
    '{ name = "layer_groups", methods = ["grad_diff"] }]',
    "blends": '[{ label = "mine", terms = { original = 0.25, "grad_diff/seed0" = 0.75 }, '
    'layers = { "model.layers.1." = { retrained = 1.0 } } }]',
    "calibration": '{ metric = "retain_probability", rank_by = ["forget_loss"], '
    "resolution = 0.13 }",
    "layer_choice": '{ utility = "retain_probability", forget = "forget_quality_log10", '
    "keep = 0.5 }",
    "attacks": "[]",
    "measurement.generate": "[]",
    "measurement.probes": '["forget", "retain"]',
    "execution.loggers": '["tensorboard"]',
}


@pytest.fixture(scope="module")
def beyond(space_path: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("beyond") / "run"
    arguments = [part for key, value in CHANGES.items() for part in ("--set", f"{key}={value}")]
    done = run_command("run", space_path, "--out", out, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "output.txt").write_text(done.stdout)
    (out / "again.txt").write_text(run_command("run", space_path, "--out", out, *arguments).stdout)
    return RunFolder(str(out))


def weights(run: RunFolder, label: str) -> dict[str, np.ndarray]:
    rows = run.read_table("recipes").to_pylist()
    (key,) = [row["recipe_id"] for row in rows if row["label"] == label]
    return load_file(Path(run.url) / "checkpoints" / key / "model.safetensors")


def test_an_unlearner_lies_beyond_the_original_from_its_memorizer(beyond: RunFolder) -> None:
    original, memorizer = weights(beyond, "original"), weights(beyond, "mox/seed0/memorizer")
    for name, weight in weights(beyond, "mox/seed0").items():
        expected = 3.0 * original[name].astype(float) - 2.0 * memorizer[name].astype(float)
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_every_planned_point_was_scored_and_nothing_failed(beyond: RunFolder) -> None:
    assert beyond.parts("failures") == []
    planned = {point["id"] for point in beyond.plan["points"]}
    assert set(beyond.parts("scores")) == planned
    roles = {point["role"] for point in beyond.plan["points"]}
    assert {"ensemble", "blend", "walk", "curve", "layers", "unlearner"} - roles <= {"layers"}


def test_calibration_halved_the_step_after_the_last_that_retains(beyond: RunFolder) -> None:
    rows = beyond.read_table("calibrations").to_pylist()
    assert {row["second"] for row in rows} == {"grad_diff/seed0", "mox/seed0"}
    scores = {
        (row["point_id"], row["metric"]): row["value"]
        for row in beyond.read_table("scores").to_pylist()
    }
    original = next(p["id"] for p in beyond.plan["points"] if p["role"] == "original")
    for row in rows:
        assert row["at_original"] == scores[original, "retain_probability"]
        assert row["bar"] == pytest.approx(0.95 * row["at_original"])
        assert row["value"] == scores[row["point_id"], "retain_probability"] >= row["bar"]
        if row["fails_at"] is not None:
            assert 0 < row["fails_at"] - row["t"] <= 0.13
    assert sorted(row["rank_after"] for row in rows) in ([1, 1], [1, 2])


def test_a_choice_of_layers_is_made_on_one_half_and_told_on_both(beyond: RunFolder) -> None:
    rows = beyond.read_table("layer_choices").to_pylist()
    for second in ("grad_diff/seed0", "mox/seed0"):
        mine = [row for row in rows if row["second"] == second]
        assert sum(row["is_chosen"] for row in mine) == 1
        kept = [row["forget"] for row in mine if row["keeps_utility"] and row["kind"] != "layer"]
        (chosen,) = [row for row in mine if row["is_chosen"]]
        assert chosen["forget"] == max(kept)


def test_the_geometry_of_weights_is_that_of_the_checkpoints(beyond: RunFolder) -> None:
    rows = [r for r in beyond.read_table("geometry").to_pylist() if r["layer"] is None]
    original, one, two = (
        weights(beyond, label) for label in ("original", "grad_diff/seed0", "mox/seed0")
    )
    ways = [np.concatenate([(w[n].astype(float) - original[n]).ravel() for n in original])
            for w in (one, two)]  # fmt: skip
    norms = {row["first"]: row["norm"] for row in rows if row["kind"] == "update"}
    expected = [float(np.linalg.norm(way)) for way in ways]
    assert [norms["grad_diff/seed0"], norms["mox/seed0"]] == pytest.approx(expected)
    (pair,) = [row for row in rows if {row["first"], row["second"]}
               == {"grad_diff/seed0", "mox/seed0"} and row["kind"] == "pair"]  # fmt: skip
    assert pair["cosine"] == pytest.approx(float(ways[0] @ ways[1]) / np.prod(expected))
    (curve,) = [row for row in rows if row["kind"] == "curve"]
    assert curve["chord"] == pytest.approx(float(np.linalg.norm(ways[0] - ways[1])))
    assert curve["length"] > curve["chord"]
    assert curve["forget_loss_uniform"] != curve["forget_loss_arc_length"]
    plane = beyond.read_table("surfaces").to_pylist()
    grid = [row for row in plane if row["line"] is None]
    assert all(row["forget_loss"] is not None for row in grid)
    apart = {(row["a"], row["b"]): row for row in grid}
    assert apart[1, 0]["x"] == pytest.approx(expected[0])
    assert np.hypot(apart[0, 1]["x"], apart[0, 1]["y"]) == pytest.approx(expected[1])
    # The walk to mox goes towards its memorizer, which is no corner.
    assert {row["line"] for row in plane if row["line"]} == {"mixing: original ↔ grad_diff/seed0"}


def test_each_training_curve_and_model_reached_the_logger_once(beyond: RunFolder) -> None:
    known = set(beyond.names("logged/tensorboard"))
    plan = beyond.plan
    assert {recipe["id"] for recipe in plan["recipes"]} <= known
    assert {curve["id"] for curve in plan["curves"]} <= known
    assert {point["id"] for point in plan["points"] if point["role"] == "unlearner"} <= known
    files = list(Path(beyond.url, "tensorboard").glob("*/*/events.out.tfevents.*"))
    assert len(files) == len(known)


def test_the_same_command_again_has_nothing_to_do(beyond: RunFolder) -> None:
    again = Path(beyond.url, "again.txt").read_text()
    done = ("train", "connect", "measure", "geometry")
    assert not any(line.startswith(done) for line in again.splitlines())


def test_the_console_and_the_page_tell_of_all(beyond: RunFolder) -> None:
    output = Path(beyond.url, "output.txt").read_text()
    page = Path(beyond.url, "report/index.html").read_text()
    for told in ("mine", "ensemble", "mixing", "mox/seed0"):
        assert told in output + page
        assert told in page
    assert json.loads(Path(beyond.url, "plan.json").read_text())["counts"]["walks"] == 6
