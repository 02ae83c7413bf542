"""The heartbeat of a driver: what status and dashboard tell from it."""

import time

from rich.console import Console

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
