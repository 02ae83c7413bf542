"""The heartbeat of a driver: what status and dashboard tell from it."""

import io
import re
import time

import pytest
from rich.console import Console

from raymcu.progress import Running
from raymcu.report import live
from raymcu.store.run_folder import RunFolder


def test_a_driver_that_waits_for_slow_processes_is_still_heard(tmp_path, monkeypatch):
    """Nothing is told while Ray starts a process, which may take longer than a heartbeat lasts."""
    monkeypatch.setattr(live, "_ALIVE_S", 0.02)
    run = RunFolder(str(tmp_path / "run"))
    with live.Progress(run, Console(quiet=True)) as progress, progress.stage("train", 0, 3):
        first = run.read_json("progress.json")
        for _ in range(500):
            time.sleep(0.01)
            if run.read_json("progress.json")["updated"] > first["updated"]:
                break
        beat = run.read_json("progress.json")
        assert beat["updated"] > first["updated"]
        assert (beat["stage"], beat["done"], beat["total"]) == ("train", 0, 3)
    assert run.read_json("progress.json")["stage"] == "done"


@pytest.fixture
def log(tmp_path):
    """Progress in a log, and what is in it."""
    file = io.StringIO()
    run = RunFolder(str(tmp_path / "run"))
    with live.Progress(run, Console(file=file, width=60)) as progress:
        yield progress, lambda: file.getvalue().splitlines()


def test_a_line_of_a_log_has_the_time_percent_losses_and_what_runs(log, monkeypatch):
    progress, lines = log
    monkeypatch.setattr(live, "_LINE_S", 0.0)
    running = [Running(f"npo/seed{n}", 0.25, 1.2345) for n in range(6)]
    with progress.stage("train", 1, 10):
        progress([], [Running("waiting for room since 2 min: 4 processes [with] 1 GPU each")])
        progress(["grad_diff/seed0"], running)
    waiting, working, ended = lines()
    clock = r"^\d\d:\d\d:\d\d "
    assert re.match(clock + r"train    1/10  10%, time left unknown: waiting for room .*\[with\]",
                    waiting)  # fmt: skip
    told = ", ".join(f"npo/seed{n} 25% loss 1.23" for n in range(4))
    assert re.match(clock + r"train    2/10  35%, .*: " + told + ", and 2 more$", working)
    assert re.match(clock + r"train    2/10 in ", ended)


def test_a_log_is_not_silent_while_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_ALIVE_S", 0.01)
    monkeypatch.setattr(live, "_SILENT_S", 0.02)
    file = io.StringIO()
    run = RunFolder(str(tmp_path / "run"))
    with live.Progress(run, Console(file=file)) as progress, progress.stage("train", 0, 3):
        for _ in range(500):
            time.sleep(0.01)
            if file.getvalue().count("waiting for processes to start") > 1:
                break
    assert file.getvalue().count("train    0/3   0%, time left unknown: waiting for proc") > 1


def test_a_quiet_log_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_LINE_S", 0.0)
    file = io.StringIO()
    run = RunFolder(str(tmp_path / "run"))
    quiet = live.Progress(run, Console(file=file), is_quiet=True)
    with quiet as progress, progress.stage("train", 0, 3):
        progress([], [Running("npo/seed0")])
    assert not file.getvalue()


def test_stages_that_are_under_way_at_once_are_told_together(log, monkeypatch):
    progress, lines = log
    monkeypatch.setattr(live, "_LINE_S", 0.0)
    with progress.stages({"train": (1, 3), "connect": (0, 1), "measure": (0, 9)}) as watches:
        watches["train"]([], [Running("npo/seed0", 0.5, 1.0)])
        watches["measure"](["original"], [Running("retrained")])
        beat = progress.run.read_json("progress.json")
        progress._heartbeat(is_forced=True)
        beat = progress.run.read_json("progress.json")
        assert (beat["stage"], beat["done"], beat["beside"]) == ("train", 1, ["measure"])
        assert beat["running"] == ["npo/seed0", "retrained"]
        watches["train"](["npo/seed0", "npo/seed1"], [])
        watches["measure"]([], [Running("npo/seed0")])
        progress.expect({"measure": 2})
        watches["measure"](["p"] * 10, [])
    told = [re.sub(r"^[0-9:]+ ", "", line) for line in lines()]
    assert told[0] == ("train    1/3  50%, time left unknown; connect 0/1, measure 0/9: "
                       "npo/seed0 50% loss 1")  # fmt: skip
    assert any(re.match(r"train    3/3 in ", line) for line in told)
    assert any("measure  1/9" in line and "connect 0/1" in line for line in told), (
        "what runs is told first"
    )
    assert any(re.match(r"measure  11/11 in ", line) for line in told)
    assert not any(line.startswith("connect") and " in " in line for line in told)


def test_a_stage_that_begins_once_more_is_told_once_more(log):
    progress, lines = log
    with progress.stages({"measure": (0, 1)}) as watches:
        watches["measure"](["a"], [])
        once = progress.times["measure"]
        progress.expect({"measure": 1})
        watches["measure"](["b"], [])
        assert progress.times["measure"] >= once
    assert [line[9:24] for line in lines()] == ["measure  1/1 in", "measure  2/2 in"]
