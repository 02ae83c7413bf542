"""Status is what the folder holds; the driver's word counts only while it is fresh."""

import json
import subprocess
import sys
import time

import pytest
from rich.console import Console

from raymcu.report.status import driver_sentence, duration, read_status, render_status
from raymcu.store import tables


def stages(status):
    return {stage.name: stage for stage in status.stages}


def beat(run, age_s=0.0, **changes):
    now = time.time() - age_s
    heartbeat = {
        "stage": "measure",
        "done": 68,
        "total": 136,
        "running": ["npo seed0 t=0.5"],
        "seconds_left": 312.0,
        "started": now - 100,
        "updated": now,
    }
    run.write_json("progress.json", heartbeat | changes)


def text_of(status, width=100):
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(render_status(status))
    return capture.get()


def test_counts_of_a_finished_run(finished_run):
    found = stages(read_status(finished_run))
    assert (found["train"].done, found["train"].total) == (15, 15)
    assert (found["connect"].done, found["connect"].total) == (12, 12)
    assert (found["measure"].done, found["score"].done) == (136, 136)
    assert (found["analyze"].done, found["analyze"].total) == (24, 24)
    assert found["train"].took_s == 61.2
    assert all(stage.left == 0 for name, stage in found.items() if name != "report")


def test_counts_of_an_interrupted_run(half_run):
    status = read_status(half_run)
    found = stages(status)
    assert (found["train"].done, found["connect"].done) == (15, 0)
    assert (found["connect"].failed, found["connect"].left) == (1, 11)
    assert (found["measure"].skipped, found["measure"].failed) == (1, 0)
    assert found["measure"].left == 136 - 68 - 1
    assert [row["reason"] for row in status.failures] == ["diverged", "skipped"]
    cells = {(cell.setting, cell.forget_size): cell for cell in status.cells}
    assert cells["Rand", "forget01"].points_done == cells["Rand", "forget01"].points == 42
    assert cells["Rand", "forget01"].curves_done == 6
    assert cells["Met", "forget05"].points_done == 0


def test_a_failure_whose_item_was_done_later_is_no_longer_counted(half_run):
    failed = next(row["item_id"] for row in read_status(half_run).failures)
    with half_run.checkpoints.writing(failed):
        pass
    assert stages(read_status(half_run))["connect"].failed == 0


def test_checkpoints_of_other_studies_in_a_shared_store_do_not_count(half_run):
    with half_run.checkpoints.writing("0123456789abcdef"):
        pass
    assert stages(read_status(half_run))["train"].done == 15


def test_counts_of_a_search(pruned_run):
    status = read_status(pruned_run)
    assert [stage.name for stage in status.stages] == [
        "train", "connect", "measure", "score", "search", "analyze", "report",
    ]  # fmt: skip
    search = stages(status)["search"]
    assert (search.done, search.total, search.failed, search.left) == (39, 40, 0, 1)
    assert [(t.study, t.complete, t.running, t.pruned, t.budget) for t in status.trials] == [
        ("forget_size=forget01", 16, 0, 4, 20),
        ("forget_size=forget05", 16, 1, 3, 20),
    ]
    assert "forget_size=forget05" in text_of(status)
    assert [row["stage"] for row in status.failures] == ["connect", "measure"]
    assert "`raymcu search`" in driver_sentence(status)


def test_failed_trials_are_among_the_failures(search_run):
    rows = [
        {"item_id": f"forget_size=forget01/{number}", "stage": "search", "label": "trial",
         "reason": "diverged", "message": "m"}
        for number in (4, 5)
    ]  # fmt: skip
    search_run.write_part("failures", "search", tables.from_rows("failures", rows))
    told = [row["item_id"] for row in read_status(search_run).failures if row["stage"] == "search"]
    assert told == ["forget_size=forget01/4"]  # 5 is complete


def test_studies_that_have_not_begun_are_left(search_run):
    for part in search_run.parts("trials"):
        if search_run.read_part("trials", part)["study"][0].as_py() == "forget_size=forget05":
            search_run.remove_part("trials", part)
    search = stages(read_status(search_run))["search"]
    assert (search.done, search.failed, search.left, search.total) == (16, 4, 20, 40)


def test_a_search_may_end_by_time_before_its_trials(ended_search):
    run, plan = ended_search, ended_search.plan
    plan["search_space"]["search"]["trials"] = 100
    run.write_json("plan.json", plan)
    status = read_status(run)
    assert stages(status)["search"].left > 0
    assert driver_sentence(status).startswith("the run ended; 7 failed")
    plan["search_space"]["search"]["trials"] = None
    run.write_json("plan.json", plan)
    search = stages(read_status(run))["search"]
    assert (search.total, search.left) == (40, 1)


def test_walks_have_cells_by_method(half_run):
    plan = half_run.plan
    done, missing = half_run.parts("scores")[0], plan["points"][-1]["id"]
    plan["walks"] = [
        {"id": f"w{n}", "family": "mixing", "forget_size": "forget01", "first": "original",
         "second": f"npo/seed{n}", "second_id": "x"}
        for n in (0, 1)
    ]  # fmt: skip
    plan["walk_points"] = [
        {"curve_id": "w0", "t": 0.5, "point_id": done, "label": "alpha=0.5"},
        {"curve_id": "w0", "t": 1.0, "point_id": missing, "label": "alpha=1"},
        {"curve_id": "w1", "t": 0.5, "point_id": missing, "label": "alpha=0.5"},
    ]
    half_run.write_json("plan.json", plan)
    status = read_status(half_run)
    (cell,) = status.walks
    assert (cell.family, cell.method, cell.forget_size) == ("mixing", "npo", "forget01")
    assert (cell.points_done, cell.points) == (1, 3)
    assert "mixing · npo" in text_of(status)


def test_a_fresh_heartbeat_is_believed(half_run):
    beat(half_run)
    status = read_status(half_run)
    assert status.driver.running == ("npo seed0 t=0.5",)
    assert status.driver.seconds_left == 312.0
    assert "about 5 min 12 s left" in driver_sentence(status)
    assert "npo seed0 t=0.5" in text_of(status)


@pytest.mark.parametrize("changes", [{"age_s": 31.0}, {"stage": "done"}])
def test_no_driver_is_at_work_without_a_fresh_heartbeat(half_run, changes):
    beat(half_run, **changes)
    status = read_status(half_run)
    assert status.driver is None
    assert "no driver is at work" in driver_sentence(status)


def test_status_survives_json(half_run):
    beat(half_run)
    found = json.loads(json.dumps(read_status(half_run).to_dict()))
    assert found["is_running"] is True
    assert found["stages"][1] == {
        "name": "connect",
        "done": 0,
        "total": 12,
        "failed": 1,
        "skipped": 0,
        "took_s": None,
        "left": 11,
    }


def test_rendered_status_fits_and_takes_labels_literally(half_run):
    row = {"item_id": half_run.plan["recipes"][-1]["id"], "stage": "connect", "reason": "error",
           "label": "[bold]odd[/]", "message": "m"}  # fmt: skip
    half_run.write_part("failures", "more", tables.from_rows("failures", [row]))
    text = text_of(read_status(half_run))
    assert "[bold]odd[/]" in text
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.3, "0.3 s"), (45, "45 s"), (59.7, "1 min"), (200, "3 min 20 s"),
     (3600, "1 h"), (7500, "2 h 5 min"), (97200, "1 d 3 h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_status_and_dashboard_start_without_matplotlib_torch_and_ray():
    code = (
        "import sys, raymcu.report.status, raymcu.report.dashboard, raymcu.report.console;"
        "print([m for m in ('matplotlib', 'torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
