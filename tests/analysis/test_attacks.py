"""All that is made of attacks, from a plan: what is written, what goes again, by which attacks."""

from pathlib import Path

import pytest

from raymcu.analysis.attacks import TABLES, analyze_attacks, chosen_attacks, from_zero
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.after import How

SPACE = """
name = "attacked"
[benchmark]
name = "authors"
num_authors = 10
forget_sizes = ["forget10"]
[model.scratch]
hidden_size = 32
num_layers = 2
num_heads = 2
[unlearning]
settings = ["Rand"]
seeds = [0, 1]
[curves]
families = ["linear"]
num_points = 3
ensemble = 1
[[methods]]
name = "npo"
[[attacks]]
name = "blur"
on = ["unlearners", "curves", "ensembles"]
[audit]
quantize = "blur@0.5"
"""
BEFORE = {"original": 0.9, "retrained": 0.1}


@pytest.fixture
def run(tmp_path, blur):
    """Return a folder, its space, points and scores: blur brings back its share; inside half."""
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    space = load_space(path)
    plan = make_plan(space, look_around(space))
    scores = {}
    for key, point in plan.points.items():
        scores[key] = BEFORE.get(point.role, 0.1)
        if point.attack is not None:
            before = plan.points[point.attack.of]
            share = {"original": 0, "unlearner": 1}.get(before.role, 0.5) * point.attack.strength
            scores[key] = scores[before.id] + share * (0.9 - scores[before.id])
    rows = [
        {"point_id": key, "metric": "forget_es", "value": value} for key, value in scores.items()
    ]
    points = tables.from_rows("points", plan.point_rows())
    folder = RunFolder(str(tmp_path))
    folder.write_json("plan.json", plan.to_json())
    return folder, space, points, tables.from_rows("scores", rows)


def test_every_table_of_attacks_is_written_and_goes_with_them(run):
    folder, space, points, scores = run
    analyze_attacks(folder, space, points, scores)
    assert all(folder.parts(name) == ["all"] for name in TABLES)
    back = folder.read_table("recoveries").to_pylist()
    shares = {(row["label"], row["strength"]): row["recovered"] for row in back}
    assert shares["npo/seed0", 0.5] == pytest.approx(0.5)
    assert shares["npo/seed1", 0.1] == pytest.approx(0.1)
    (curve,) = {row["curve_id"] for row in folder.read_table("attack_findings").to_pylist()}
    found = folder.read_table("attack_findings").to_pylist()
    half = next(row for row in found if row["strength"] == 0.5)
    assert half["curve_id"] == curve
    assert (half["best_t"], half["gain"]) == (0.5, pytest.approx(0.25))
    assert half["ensemble_gain"] == pytest.approx(0.25)  # it is the middle of the curve
    audits = folder.read_table("metric_audits").to_pylist()
    assert {"faithfulness", "pearson", "ou_q"} <= {row["name"] for row in audits}
    analyze_attacks(folder, space.model_copy(update={"audit": None}), points, scores)
    assert folder.parts("metric_audits") == []
    alone = points.filter([row["attacked"] is None for row in points.to_pylist()])
    without = space.model_copy(update={"attacks": (), "audit": None})
    analyze_attacks(folder, without, alone, scores)
    assert not any(folder.parts(name) for name in TABLES)


def test_strength_zero_is_the_point_and_the_audit_names_its_attacks(run):
    _, space, _, _ = run
    assert from_zero(space) == {"blur"}
    chosen = chosen_attacks(space)
    assert (chosen.quantize, chosen.relearn) == (How("blur", 0.5), None)


def test_an_audit_takes_a_relearning_that_is_measured_at_its_end_alone():
    preset = Path(__file__).parents[2] / "search_spaces" / "robustness_tofu.toml"
    chosen = chosen_attacks(load_space(preset))
    assert (chosen.quantize, chosen.relearn) == (How("NF4", 4.0), How("OU relearning"))
