"""Ctrl-C in a terminal, at any stage: nothing is called a failure, and nothing stays behind."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from raymcu.store.run_folder import RunFolder

from .conftest import command, environment
from .test_killed import named

pytestmark = [pytest.mark.ray, pytest.mark.long]


class Terminal:
    """A command in a terminal of its own, whose keys reach all its processes."""

    def __init__(self, *arguments: object) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child
            words = command(*arguments)
            os.execve(words[0], words, environment())
        os.set_blocking(self.fd, False)
        self.text = ""

    def read(self) -> str:
        """Read what was printed so far."""
        with contextlib.suppress(OSError):  # nothing new, or the other end is closed
            while part := os.read(self.fd, 65536):
                self.text += part.decode(errors="replace")
        return self.text

    def wait_for(self, what) -> None:
        deadline = time.monotonic() + 300
        while not what():
            self.read()
            assert self.ended() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def workers(self) -> list[psutil.Process]:
        """Return the Ray workers that are there by now."""
        found = psutil.Process(self.pid).children(recursive=True)
        return [process for process in found if named(process).startswith("ray::")]

    def ended(self) -> int | None:
        """Return the exit code; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        deadline = time.monotonic() + 120
        while (code := self.ended()) is None:
            self.read()
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)
        self.read()
        os.close(self.fd)
        return code


def stage(out: Path) -> tuple[str, bool]:
    """Return the stage a run is at, and whether it has something to do, of trainings at work."""
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((out / "progress.json").read_text())
        is_busy = bool(told["running"]) if told["stage"] == "train" else True
        return told["stage"], told["done"] < told["total"] and is_busy
    return "", False


@pytest.mark.parametrize(
    ("name", "number"),
    [("train", signal.SIGINT), ("connect", signal.SIGTERM), ("measure", signal.SIGINT)],
)
def test_one_interrupt_ends_a_run_in_an_orderly_way(
    name: str, number: int, space_path: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    store = [] if name == "train" else ["--set", f'store="{_copy(finished, tmp_path, name)}"']
    rare = ["--set", "execution.save_every_s=1e9"]
    slow = ["--set", "curves.bend.training.epochs=2000"] if name == "connect" else []
    terminal = Terminal("run", space_path, "--out", out, *store, *rare, *slow)
    terminal.wait_for(lambda: stage(out) == (name, True) and terminal.workers())
    family = psutil.Process(terminal.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.write(terminal.fd, b"\x03")
    else:
        os.kill(terminal.pid, number)
    code = terminal.end()
    assert code == 130, terminal.text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text)  # Ray's end may reset colours
    last = plain.rstrip().rsplit("raymcu: stopped.", 1)[-1]
    assert last.endswith(f" {out} is free for another driver. The same command goes on from here.")
    assert "Traceback" not in terminal.text
    assert "report:" not in terminal.text
    assert RunFolder(str(out)).parts("failures") == []
    if name == "train":  # saved for the sake of the interrupt alone
        assert list(out.glob("checkpoints/.partial/*/progress.json")), terminal.text
        assert re.match(r" \d trainings? ha(s|ve) saved how far ", last), last
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    with RunFolder(str(out)).lock():
        pass


SEARCH = """
[search]
objectives = ["retain_loss"]
concurrent = 1
trials = 2

[search.space]
method = { choice = ["npo"] }
"unlearning.training.learning_rate" = { float = [1e-5, 1e-4] }
"""


def test_one_interrupt_lets_a_searchs_training_save(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "search.toml", tmp_path / "run"
    path.write_text(space_path.read_text() + SEARCH)
    sets = [f'store="{_copy(finished, tmp_path, "connect")}"', "unlearning.settings=[]"]
    sets += ["execution.save_every_s=1e9", "unlearning.training.epochs=2000"]
    sets += ["measurement={generate=[], probes=['forget', 'retain']}"]
    terminal = Terminal("search", path, "--out", out, "--set", *sets)

    def is_training() -> bool:
        with contextlib.suppress(OSError, ValueError):
            told = json.loads((out / "progress.json").read_text())
            return any("training npo" in label for label in told["running"])
        return False

    terminal.wait_for(is_training)
    os.write(terminal.fd, b"\x03")
    code = terminal.end()
    assert code == 130, terminal.text
    assert "raymcu: stopped. 1 training has saved how far it is. " in terminal.text
    assert "Traceback" not in terminal.text
    run = RunFolder.open(str(out))
    assert run.parts("failures") == []
    (trial,) = run.read_table("trials").to_pylist()
    assert trial["state"] == "running", "the next start takes it up, and proposes no other before"
    (recipe,) = trial["trained"]
    assert run.checkpoints.folder.exists(f".partial/{recipe}/progress.json"), terminal.text


def _copy(finished: Path, tmp_path: Path, name: str) -> Path:
    """Return a store of what comes before a stage."""
    store = tmp_path / "store"
    store.mkdir()
    for recipe in RunFolder(str(finished)).read_table("recipes").to_pylist():
        if name == "measure" or recipe["role"] != "bend":
            there = finished / "checkpoints" / recipe["recipe_id"]
            (store / recipe["recipe_id"]).symlink_to(there)
    return store


def test_a_dashboard_ends_by_an_interrupt(finished: Path) -> None:
    terminal = Terminal("dashboard", finished, "--port", "0")
    terminal.wait_for(lambda: "Ctrl-C ends it" in terminal.read())
    os.write(terminal.fd, b"\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """Whoever does not end at the first one, as it sleeps through what follows."""
    code = (
        "import time, typer\n"
        "from raymcu import cli\n"
        "@cli.app.command()\n"
        "def slow():\n"
        "    try:\n"
        "        print('begun', flush=True); time.sleep(100)\n"
        "    finally:\n"
        "        print('once', flush=True); time.sleep(100)\n"
        "cli.main()"
    )
    process = subprocess.Popen(
        [command()[0], "-c", code, "slow"], env=environment(), stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for word in ("begun", "once"):
            assert process.stdout.readline().strip() == word
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130
