"""Live progress: a display in a terminal, plain lines in a log, a heartbeat in the run folder."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymcu.progress import Running
from raymcu.report.status import duration
from raymcu.store.run_folder import RunFolder

_HEARTBEAT_S = 2.0
"""Heartbeats come that often at most, into a local folder; elsewhere every `_ALIVE_S`."""
_ALIVE_S = 10.0
"""Heartbeats come that often at least, also while nothing is told: processes start for minutes."""
_LINE_S = 15.0
"""A line in a log comes that often at most, while things are told."""
_SILENT_S = 60.0
"""And that often at least, while nothing is."""
_NAMED = 4
"""What is running that a line names."""


class Progress:
    """Shows one stage after the other: what runs, how many of how many, time left.

    Args:
        run: Gets ``progress.json``, which `raymcu status` and the dashboard read.
        console: Where to show it; a live display in a terminal, else a line now and then. None
            makes one.
        is_quiet: Show nothing; the heartbeat goes on.
    """

    def __init__(
        self, run: RunFolder, console: Console | None = None, *, is_quiet: bool = False
    ) -> None:
        self.run = run
        self.console = console or Console()
        self.is_quiet = is_quiet
        self.stage_name = "plan"
        self.done = 0
        self.total = 0
        self.running: Sequence[Running] = ()
        self.started = time.time()
        self.stage_started = time.time()
        self.times: dict[str, float] = {}
        self._pace_from = (0.0, 0.0)
        self._beat = 0.0
        self._line = 0.0
        self._writing = Lock()
        self._has_ended = Event()
        self._alive = Thread(target=self._stay_alive, daemon=True)
        self._live: RichLive | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.is_quiet:
            self._live = RichLive(
                get_renderable=self._render, console=self.console, refresh_per_second=4
            )
            self._live.start()
        self._alive.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        self._alive.join()
        if self._live is not None:
            self._live.stop()
        if kind is None:
            self.stage_name, self.running = "done", ()
        self._heartbeat(is_forced=True)

    @contextmanager
    def stage(self, name: str, done: int, total: int) -> Iterator[Self]:
        """Show a stage that begins with ``done`` of ``total`` items already there."""
        self.stage_name, self.done, self.total, self.running = name, done, total, ()
        self.stage_started = time.time()
        self._pace_from = (self.stage_started, float(done))
        self._heartbeat(is_forced=self.run.is_local or total > done)
        yield self
        took = time.time() - self.stage_started
        self.times[name] = self.times.get(name, 0.0) + took
        if not self.is_quiet and total > done:
            self._print(f"{name:<8} {self.done}/{total} in {duration(took)}")

    def __call__(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        """Take note of what ended and what is running."""
        if self.advanced == self._pace_from[1]:  # workers are up: the pace counts from here
            self._pace_from = (time.time(), self.advanced)
        self.done += len(ended)
        self.running = running
        self._heartbeat()
        self._log(_LINE_S)

    def say(self, text: str) -> None:
        """Print a sentence that nobody must miss, and show it as what is under way."""
        self.running = (Running(text),)
        self._heartbeat(is_forced=True)
        self._print(text, style="yellow")

    @property
    def advanced(self) -> float:
        """Items done, with the parts of those that are running."""
        return self.done + sum(item.fraction for item in self.running)

    @property
    def seconds_left(self) -> float | None:
        """Time left of the stage at its pace; None while too little was done to tell."""
        since, before = self._pace_from
        gained = self.advanced - before
        if gained <= 0 or gained < 0.02 * self.total or time.time() - since < 2:
            return None
        return max(0.0, (time.time() - since) / gained * (self.total - self.advanced))

    def _log(self, every_s: float) -> None:
        """Print a line where there is no display, unless one was printed a moment ago."""
        now = time.time()
        if self._live is not None or self.is_quiet or now - self._line <= every_s:
            return
        self._line = now
        share = min(1.0, self.advanced / max(1, self.total))
        known = [_told(item) for item in self.running[:_NAMED]]
        more = len(self.running) - len(known)
        what = ", ".join([*known, *([f"and {more} more"] if more > 0 else [])])
        self._print(
            f"{self.stage_name:<8} {self.done}/{self.total} {share:4.0%}, {self._left_text()}: "
            f"{what or 'waiting for processes to start'}"
        )

    def _print(self, text: str, style: str | None = None) -> None:
        """Print a line; in a log it begins with the time."""
        when = "" if self.console.is_terminal else time.strftime("%H:%M:%S ")
        self.console.print(when + text, style=style, highlight=False, soft_wrap=True, markup=False)

    def _left_text(self) -> str:
        left = self.seconds_left
        return "time left unknown" if left is None else f"about {duration(left)} left"

    def _render(self) -> Group:
        head = Table.grid(padding=(0, 1))
        total = max(1, self.total)
        head.add_row(
            Text(f"{self.stage_name:<8}", style="bold"),
            ProgressBar(total=total, completed=min(total, self.advanced), width=36),
            Text(f"{self.done}/{self.total}"),
            Text(self._left_text(), style="dim"),
        )
        lines = []
        for item in self.running[:6]:
            loss = "" if item.loss is None else f"  loss {item.loss:.3g}"
            share = f"{item.fraction:4.0%}" if item.fraction else "    "
            lines.append(Text(f"  {share} {item.label}{loss}", style="dim", overflow="ellipsis"))
        return Group(head, *lines)

    def _stay_alive(self) -> None:
        while not self._has_ended.wait(_ALIVE_S):
            if time.time() - self._beat > _ALIVE_S:
                self._heartbeat(is_forced=True)
            self._log(_SILENT_S)

    def _heartbeat(self, *, is_forced: bool = False) -> None:
        every_s = _HEARTBEAT_S if self.run.is_local else _ALIVE_S
        if is_forced or time.time() - self._beat >= every_s:
            with self._writing:
                self._write(time.time())

    def _write(self, now: float) -> None:
        self._beat = now
        self.run.write_json(
            "progress.json",
            {
                "stage": self.stage_name,
                "done": self.done,
                "total": self.total,
                "running": [item.label for item in self.running],
                "details": [[item.fraction, item.loss] for item in self.running],
                "seconds_left": self.seconds_left,
                "started": self.started,
                "updated": now,
            },
        )


def _told(item: Running) -> str:
    """Write how far something is, in a few words."""
    share = f" {item.fraction:.0%}" if item.fraction else ""
    loss = "" if item.loss is None else f" loss {item.loss:.3g}"
    return f"{item.label}{share}{loss}"
