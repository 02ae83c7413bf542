"""Live progress: a display in a terminal, plain lines in a log, a heartbeat in the run folder."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymcu.progress import Running, Watch
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


@dataclass
class _Stage:
    """A stage that is under way; told what of it ended and what is running."""

    progress: "Progress"
    name: str
    done: int
    total: int
    began: float | None = None
    """When anything of it was first told, or it began by itself."""
    told: float | None = None
    """When it was told of last."""
    running: Sequence[Running] = ()
    pace_from: tuple[float, float] = (0.0, 0.0)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.pace_from = (time.time(), float(self.done))

    def __call__(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        """Take note of what ended and what is running."""
        if self.advanced == self.pace_from[1]:  # workers are up: the pace counts from here
            self.pace_from = (time.time(), self.advanced)
        if ended or running:
            self.told = time.time()
            self.began = self.began or self.told
        self.done += len(ended)
        self.running = running
        if ended and self.done >= self.total:
            self.end()
        self.progress.show()

    @property
    def advanced(self) -> float:
        """Items done, with the parts of those that are running."""
        return self.done + sum(item.fraction for item in self.running)

    @property
    def share(self) -> float:
        """What of it is done, in [0, 1]."""
        return min(1.0, self.advanced / max(1, self.total))

    @property
    def seconds_left(self) -> float | None:
        """Time left at its pace; None while too little was done to tell."""
        since, before = self.pace_from
        gained = self.advanced - before
        if gained <= 0 or gained < 0.02 * self.total or time.time() - since < 2:
            return None
        return max(0.0, (time.time() - since) / gained * (self.total - self.advanced))

    def end(self) -> None:
        """Note how long it took, once."""
        if not self.is_over:
            self.is_over = True
            self.progress.ended(self)


class Progress:
    """Shows the stages that are under way: what runs, how many of how many, time left.

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
        self.open: list[_Stage] = [_Stage(self, "plan", 0, 0)]
        self.started = time.time()
        self.times: dict[str, float] = {}
        """Seconds, by stage."""
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
            self.open = [_Stage(self, "done", 0, 0)]
        self._heartbeat(is_forced=True)

    @contextmanager
    def stage(self, name: str, done: int, total: int) -> Iterator[Watch]:
        """Show a stage that begins with ``done`` of ``total`` items already there."""
        with self.stages({name: (done, total)}) as found:
            self.open[0].began = time.time()
            yield found[name]
            self.open[0].told = time.time()

    @contextmanager
    def stages(self, counts: Mapping[str, tuple[int, int]]) -> Iterator[Mapping[str, Watch]]:
        """Show stages that are under way at once.

        Args:
            counts: By stage, how many items are there, and how many there will be.

        Returns:
            Whom to tell of each.
        """
        self.open = [_Stage(self, name, *count) for name, count in counts.items()]
        self._heartbeat(is_forced=self.run.is_local or any(s.total > s.done for s in self.open))
        yield {stage.name: stage for stage in self.open}
        for stage in self.open:
            stage.end()

    def __call__(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        """Take note of what ended and what is running of the last stage that began."""
        self.open[-1](ended, running)

    def expect(self, more: Mapping[str, int]) -> None:
        """Count items in that were not known when stages began, by stage."""
        for stage in self.open:
            if added := more.get(stage.name, 0):
                stage.total += added
                if stage.is_over:  # it begins once more
                    stage.is_over, stage.began = False, None

    def say(self, text: str) -> None:
        """Print a sentence that nobody must miss, and show it as what is under way."""
        self._now.running = (Running(text),)
        self._heartbeat(is_forced=True)
        self._print(text, style="yellow")

    def show(self) -> None:
        """Tell where work stands, unless that was told a moment ago."""
        self._heartbeat()
        self._log(_LINE_S)

    def ended(self, stage: _Stage) -> None:
        """Note that a stage has ended, and tell how long it took if it did anything."""
        took = (stage.told or 0.0) - (stage.began or 0.0)
        self.times[stage.name] = self.times.get(stage.name, 0.0) + took
        if not self.is_quiet and stage.began is not None and stage.pace_from[1] < stage.total:
            self._print(f"{stage.name:<8} {stage.done}/{stage.total} in {duration(took)}")

    @property
    def _now(self) -> _Stage:
        """The first stage of which anything runs; else the first of which anything is left."""
        left = [stage for stage in self.open if stage.done < stage.total]
        return next((stage for stage in left if stage.running), (*left, self.open[-1])[0])

    @property
    def _running(self) -> list[Running]:
        return [item for stage in self.open for item in stage.running]

    def _log(self, every_s: float) -> None:
        """Print a line where there is no display, unless one was printed a moment ago."""
        now = time.time()
        if self._live is not None or self.is_quiet or now - self._line <= every_s:
            return
        stage, running = self._now, self._running
        if stage.is_over:
            return
        self._line = now
        known = [_told(item) for item in running[:_NAMED]]
        more = len(running) - len(known)
        what = ", ".join([*known, *([f"and {more} more"] if more > 0 else [])])
        others = ", ".join(
            f"{other.name} {other.done}/{other.total}"
            for other in self.open
            if other is not stage and other.done < other.total
        )
        self._print(
            f"{stage.name:<8} {stage.done}/{stage.total} {stage.share:4.0%}, {_left_text(stage)}"
            f"{'; ' if others else ''}{others}: {what or 'waiting for processes to start'}"
        )

    def _print(self, text: str, style: str | None = None) -> None:
        """Print a line; in a log it begins with the time."""
        when = "" if self.console.is_terminal else time.strftime("%H:%M:%S ")
        self.console.print(when + text, style=style, highlight=False, soft_wrap=True, markup=False)

    def _render(self) -> Group:
        head = Table.grid(padding=(0, 1))
        shown = [stage for stage in self.open if stage.done < stage.total] or [self._now]
        for stage in shown:
            total = max(1, stage.total)
            head.add_row(
                Text(f"{stage.name:<8}", style="bold"),
                ProgressBar(total=total, completed=min(total, stage.advanced), width=36),
                Text(f"{stage.done}/{stage.total}"),
                Text(_left_text(stage) if stage is self._now else "", style="dim"),
            )
        lines = []
        for item in self._running[:6]:
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
        stage, running = self._now, self._running
        self.run.write_json(
            "progress.json",
            {
                "stage": stage.name,
                "done": stage.done,
                "total": stage.total,
                "beside": [s.name for s in self.open if s is not stage and s.running],
                "running": [item.label for item in running],
                "details": [[item.fraction, item.loss] for item in running],
                "seconds_left": stage.seconds_left,
                "started": self.started,
                "updated": now,
            },
        )


def _left_text(stage: _Stage) -> str:
    left = stage.seconds_left
    return "time left unknown" if left is None else f"about {duration(left)} left"


def _told(item: Running) -> str:
    """Write how far something is, in a few words."""
    share = f" {item.fraction:.0%}" if item.fraction else ""
    loss = "" if item.loss is None else f" loss {item.loss:.3g}"
    return f"{item.label}{share}{loss}"
