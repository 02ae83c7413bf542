"""Ready models are measured as the study that trained them measured them, and only once."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import raymcu
from raymcu.cli import app

if TYPE_CHECKING:
    from raymcu.session import Cluster

pytestmark = pytest.mark.ray

AS_THERE = ["measurement.max_new_tokens=40", "measurement.max_examples=10"]


def evaluate(out: Path, *arguments: str) -> str:
    asked = ["evaluate", *arguments, "--benchmark", "authors", "--forget", "forget10"]
    sets = [f"--set={text}" for text in ["benchmark.num_authors=10", *AS_THERE]]
    done = CliRunner().invoke(app, [*asked, "--out", str(out), "--quiet", *sets])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """By label of the single models, the metrics that have a value."""
    rows = raymcu.open_study(folder).scores().to_pylist()
    texts = set(raymcu.open_study(folder).table("points").column_names)
    return {
        row["label"]: {k: v for k, v in row.items() if k not in texts and v is not None}
        for row in rows
        if row["curve_id"] is None
    }


def test_scores_are_those_of_the_study_that_trained_the_models_and_nothing_is_done_twice(
    cluster: "Cluster", finished: Path, tmp_path: Path
) -> None:
    del cluster  # the session is found and reused
    trained = {
        row["label"]: row["checkpoint"]
        for row in raymcu.open_study(finished).trainings().to_pylist()
    }
    retrained, out = trained["retrained/forget10"], tmp_path / "run"
    first = [f"npo={trained['npo/seed0']}"]
    told = evaluate(out, *first, "--retrained", retrained)
    assert "forget quality log10" in told
    assert "which need the original model" in told
    parts = {path: path.stat().st_mtime_ns for path in out.glob("tables/measurements/*")}
    assert len(parts) == 2
    told = evaluate(out, *first, f"gd={trained['grad_diff/seed0']}", "--retrained", retrained)
    assert "gd" in told
    assert len(list(out.glob("tables/measurements/*"))) == 3
    assert parts == {path: path.stat().st_mtime_ns for path in parts}

    here, there = scores(out), scores(finished)
    for label, known in (
        ("npo", "npo/seed0"),
        ("gd", "grad_diff/seed0"),
        ("retrained/forget10", "retrained/forget10"),
    ):
        common = here[label].keys() & there[known].keys()
        assert common == there[known].keys()
        for metric in common:
            assert here[label][metric] == pytest.approx(there[known][metric], abs=1e-5), metric
        assert len(here[label]) > len(there[known])  # it is asked more than that study was
    assert "gd" in (out / "report/index.html").read_text()
    assert raymcu.open_study(out).status.failures == ()


def test_without_a_retrained_model_nothing_is_compared_and_that_is_said(
    cluster: "Cluster", finished: Path, tmp_path: Path
) -> None:
    del cluster
    trainings = raymcu.open_study(finished).trainings().to_pylist()
    npo = next(row["checkpoint"] for row in trainings if row["label"] == "npo/seed0")
    told = evaluate(tmp_path / "run", npo)
    assert "forget_quality_log10" in told
    assert "name it by --retrained" in told
    (found,) = scores(tmp_path / "run").values()
    assert "forget_quality_log10" not in found
    assert "forget_loss" in found
