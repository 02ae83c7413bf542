"""A run folder of raymcu 0.1.0, from before its modules were sorted into rooms, is read as it is.

`run_of_0_1_0` is what commit 4999d18 left of a small study, without its checkpoints.
"""

import shutil
from pathlib import Path

import pytest

import raymcu
from raymcu.analysis.stages import unscored
from raymcu.report.again import reanalyze
from raymcu.report.page import write_report
from raymcu.store.run_folder import RunFolder

OLD = Path(__file__).parent / "run_of_0_1_0"


@pytest.fixture
def old(tmp_path):
    return RunFolder(str(shutil.copytree(OLD, tmp_path / "run")))


def test_the_same_search_space_is_the_same_plan_with_the_same_ids(old):
    plan = raymcu.plan_study(raymcu.load_space(old.path("search_space.toml")))
    there = old.plan
    assert plan.id == there["plan_id"]
    assert set(plan.recipes) == {recipe["id"] for recipe in there["recipes"]}
    assert set(plan.points) == {point["id"] for point in there["points"]}
    assert len(plan.recipes) == 5
    assert len(plan.points) == 6


def test_its_tables_are_read(old):
    study = raymcu.open_study(old.url)
    assert study.name == "small"
    for name in ("recipes", "points", "measurements", "scores", "findings", "metric_findings"):
        assert study.table(name).num_rows, name
    measured = study.table("measurements")["class_logprobs"]
    assert measured.null_count == len(measured), "a column that came later"
    assert study.status.to_dict()
    assert study.told.endpoints


def test_its_scores_are_made_whole_and_its_findings_stay(old):
    before = {part: old.read_part("scores", part) for part in old.parts("scores")}
    findings = old.read_table("findings").sort_by("curve_id").to_pylist()
    assert len(unscored(old)[0]) == len(before)
    reanalyze(old)
    assert unscored(old)[0] == []
    for part, table in before.items():
        now = {row["metric"]: row for row in old.read_part("scores", part).to_pylist()}
        for row in table.to_pylist():
            assert now[row["metric"]] == row
    assert old.read_table("findings").sort_by("curve_id").to_pylist() == [
        row | {"judged_by": "loss"} for row in findings
    ]
    assert "small" in Path(write_report(old)).read_text(encoding="utf-8")
