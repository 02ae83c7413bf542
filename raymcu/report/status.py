"""What of a run is done, running, failed and left; read from its folder alone.

Done is what the folder holds, not what a driver said. Only what runs now and the time left come
from the driver's heartbeat, and only while that is fresh.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymcu.report.data import Curve, Walk, read_curves, read_walks
from raymcu.report.search import Tally, Trial, budgets, read_trials, tallies
from raymcu.store.run_folder import RunFolder

HEARTBEAT_S = 30.0
"""A progress.json older than this is of a driver that is gone."""


@dataclass(frozen=True)
class Stage:
    """One stage of the flow: ``left`` is what is neither done nor failed nor skipped."""

    name: str
    done: int
    total: int
    failed: int
    skipped: int
    took_s: float | None
    """Wall time of the stage as the driver noted it, in seconds."""

    @property
    def left(self) -> int:
        """Items still to be done."""
        return max(0, self.total - self.done - self.failed - self.skipped)


@dataclass(frozen=True)
class Cell:
    """The curves of one setting and forget size."""

    setting: str
    forget_size: str
    curves: int
    curves_done: int
    points: int
    points_done: int


@dataclass(frozen=True)
class WalkCell:
    """The walks of one family through the models of one method and forget size."""

    family: str
    method: str
    forget_size: str
    points: int
    points_done: int


@dataclass(frozen=True)
class Driver:
    """What the driver said in its last heartbeat."""

    stage: str
    done: int
    total: int
    running: tuple[str, ...]
    seconds_left: float | None
    """Estimate of the stage's end; None if unknown."""
    beside: tuple[str, ...]
    """Other stages that are under way."""
    elapsed_s: float
    """Since the driver started."""
    details: tuple[tuple[float, float | None], ...] = ()
    """Share done, and loss of the last step, of each that is running."""


@dataclass(frozen=True)
class Status:
    """A run at one moment."""

    name: str
    url: str
    stages: tuple[Stage, ...]
    cells: tuple[Cell, ...]
    walks: tuple[WalkCell, ...]
    trials: tuple[Tally, ...]
    """Trials of each study; none if the run is no search."""
    failures: tuple[Mapping[str, Any], ...]
    """Rows of the failures table whose item is still not done."""
    driver: Driver | None
    """None if no driver is at work."""
    started: str | None
    finished: str | None
    device: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        stages = [asdict(stage) | {"left": stage.left} for stage in self.stages]
        return asdict(self) | {"stages": stages, "is_running": self.driver is not None}


def read_status(
    run: RunFolder,
    plan: Mapping[str, Any] | None = None,
    trials: Sequence[Trial] | None = None,
) -> Status:
    """Work out the status of a run.

    Args:
        run: Its folder.
        plan: Its plan, if it has been read.
        trials: Those of its search, if they have been read.

    Raises:
        StoreError: If the plan or the failures table is damaged.
    """
    plan = run.plan if plan is None else plan
    notes = run.read_json("run.json") if run.exists("run.json") else {}
    measured, scored = set(run.parts("measurements")), set(run.parts("scores"))
    done, times = measured | scored, notes.get("times_s") or {}
    stages = _stages(run, plan, measured, scored, times)
    counts: tuple[Tally, ...] = ()
    if asked := budgets(plan):
        trials = read_trials(run) if trials is None else trials
        counts = tallies(trials, asked)
        stages.insert(-2, (_search_stage(counts, times.get("search")), _failed_trials(run, trials)))
    return Status(
        name=plan["name"],
        url=run.url,
        stages=tuple(stage for stage, _ in stages),
        cells=read_cells(read_curves(plan), done),
        walks=read_walk_cells(read_walks(plan), done),
        trials=counts,
        failures=tuple(row for _, failures in stages for row in failures),
        driver=_driver(run),
        started=notes.get("started"),
        finished=notes.get("finished"),
        device=notes.get("device"),
    )


def read_cells(curves: Iterable[Curve], done: Collection[str]) -> tuple[Cell, ...]:
    """Count finished points and curves of each (setting, forget size)."""
    cells: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        cells.setdefault((curve.setting, curve.forget_size), []).append(curve)
    return tuple(_cell(*key, group, done) for key, group in cells.items())


def _cell(setting: str, size: str, curves: Sequence[Curve], done: Collection[str]) -> Cell:
    counts = [
        (len(curve.points), sum(point in done for _, point in curve.points)) for curve in curves
    ]
    return Cell(
        setting=setting,
        forget_size=size,
        curves=len(curves),
        curves_done=sum(total > 0 and total == here for total, here in counts),
        points=sum(total for total, _ in counts),
        points_done=sum(here for _, here in counts),
    )


def read_walk_cells(walks: Iterable[Walk], done: Collection[str]) -> tuple[WalkCell, ...]:
    """Count finished points of each (walk family, method, forget size)."""
    cells: dict[tuple[str, str, str], list[str]] = {}
    for walk in walks:
        key = (walk.family, walk.second.split("/")[0], walk.forget_size)
        cells.setdefault(key, []).extend(point for _, point in walk.points)
    return tuple(
        WalkCell(*key, len(points), sum(point in done for point in points))
        for key, points in cells.items()
    )


def _search_stage(counts: Iterable[Tally], took_s: float | None) -> Stage:
    """Sum a search up; a study without a bound on trials has as many as there are."""
    done = total = failed = 0
    for count in counts:
        done += count.complete + count.pruned
        failed += count.failed
        total += max(count.budget or 0, count.ended + count.running)
    return Stage("search", done, total, failed, 0, took_s)


_Failures = tuple[Mapping[str, Any], ...]


def _failed_trials(run: RunFolder, trials: Iterable[Trial]) -> _Failures:
    failed = {trial.trial_id for trial in trials if trial.state == "failed"}
    rows = run.read_table("failures").to_pylist()
    return tuple(row for row in rows if row["stage"] == "search" and row["item_id"] in failed)


def _stages(
    run: RunFolder,
    plan: Mapping[str, Any],
    measured: set[str],
    scored: set[str],
    times: Mapping[str, float],
) -> list[tuple[Stage, _Failures]]:
    points = {point["id"] for point in plan["points"]}
    curves = {curve["id"] for curve in plan["curves"]}
    bends = {recipe["id"] for recipe in plan["recipes"] if recipe["role"] == "bend"}
    trained = {recipe["id"] for recipe in plan["recipes"]} - bends
    stored = set(run.checkpoints.done())
    found = set(run.read_table("findings")["curve_id"].to_pylist())
    reported = {"report"} if run.exists("report/index.html") else set()
    work = {
        "train": (trained, stored),
        "connect": (bends, stored),
        "measure": (points, measured | scored),
        "score": (points, scored),
        "analyze": (curves, found),
        "report": ({"report"}, reported),
    }
    rows = run.read_table("failures").to_pylist()
    return [
        _stage(name, items, done & items, rows, times.get(name))
        for name, (items, done) in work.items()
    ]


def _stage(
    name: str,
    items: set[str],
    done: set[str],
    rows: Iterable[Mapping[str, Any]],
    took_s: float | None,
) -> tuple[Stage, _Failures]:
    open_items = items - done
    failures = tuple(row for row in rows if row["stage"] == name and row["item_id"] in open_items)
    skipped = {row["item_id"] for row in failures if row["reason"] == "skipped"}
    failed = {row["item_id"] for row in failures} - skipped
    return Stage(name, len(done), len(items), len(failed), len(skipped), took_s), failures


def _driver(run: RunFolder) -> Driver | None:
    if not run.exists("progress.json"):
        return None
    beat = run.read_json("progress.json")
    if time.time() - beat["updated"] > HEARTBEAT_S or beat["stage"] == "done":
        return None
    return Driver(
        stage=beat["stage"],
        done=beat["done"],
        total=beat["total"],
        running=tuple(beat["running"]),
        seconds_left=beat.get("seconds_left"),
        beside=tuple(beat.get("beside", ())),
        elapsed_s=beat["updated"] - beat["started"],
        details=tuple((share, loss) for share, loss in beat.get("details", ())),
    )


def duration(seconds: float) -> str:
    """Write a time span for people: ``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if 0 < seconds < 1:
        return f"{seconds:.1f} s"
    total = round(seconds)
    for big, big_name, small, small_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if total >= big:
            rest = total % big // small
            return f"{total // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    return f"{total} s"


def driver_sentence(status: Status) -> str:
    """Say what the driver does, or that there is none."""
    driver = status.driver
    if driver is None:
        return _idle_sentence(status)
    text = f"stage {driver.stage}: {driver.done} of {driver.total}"
    text += "".join(f", {name} beside it" for name in driver.beside)
    text += f", at work for {duration(driver.elapsed_s)}"
    left = driver.seconds_left
    return text + (f", about {duration(left)} left" if left is not None else "")


_AFTERWARDS = {"analyze", "report"}
"""Stages that have commands of their own."""


def _idle_sentence(status: Status) -> str:
    left = {stage.name for stage in status.stages if stage.left}
    has_ended = status.finished is not None  # a search may, by time or trainings, before its trials
    is_search = any(stage.name == "search" for stage in status.stages)
    again = f"the same `raymcu {'search' if is_search else 'run'}` command"
    if left - _AFTERWARDS - ({"search"} if has_ended else set()):
        return f"no driver is at work; {again} goes on where it stopped"
    failed = sum(stage.failed for stage in status.stages)
    skipped = sum(stage.skipped for stage in status.stages)
    if failed or skipped:
        return f"the run ended; {failed} failed and {skipped} skipped: {again} tries them again"
    if left & _AFTERWARDS:
        return "no driver is at work; `raymcu analyze` and `raymcu report` make what is left"
    return "the run is complete"


def render_status(status: Status) -> RenderableType:
    """Lay the status out for a terminal."""
    head = Text.assemble((status.name, "bold"), "  ", (status.url, "dim"))
    parts: list[RenderableType] = [head, Text(driver_sentence(status)), Text("")]
    parts.append(_stages_of(status))
    if status.driver and status.driver.running:
        parts.append(Text("running: " + ", ".join(status.driver.running)))
    if status.cells or status.walks:
        parts += [Text(""), _cells_of(status)]
    if status.trials:
        parts += [Text(""), _trials_of(status)]
    if status.failures:
        parts += [Text(""), failures_table(status.failures)]
    return Group(*parts)


def _stages_of(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("", width=24)
    for name in ("done", "of", "failed", "skipped", "left", "time"):
        table.add_column(name, justify="right")
    for stage in status.stages:
        table.add_row(
            stage.name,
            ProgressBar(total=max(1, stage.total), completed=stage.done, width=24),
            str(stage.done),
            str(stage.total),
            Text(str(stage.failed), style="bold red" if stage.failed else "dim"),
            Text(str(stage.skipped), style="yellow" if stage.skipped else "dim"),
            str(stage.left),
            "" if stage.took_s is None else duration(stage.took_s),
        )
    return table


def _cells_of(status: Status) -> Table:
    rows: dict[str, dict[str, Cell | WalkCell]] = {}
    for cell in status.cells:
        rows.setdefault(cell.setting, {})[cell.forget_size] = cell
    for walk in status.walks:
        rows.setdefault(f"{walk.family} · {walk.method}", {})[walk.forget_size] = walk
    sizes = list(dict.fromkeys(size for row in rows.values() for size in row))
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("points measured")
    for size in sizes:
        table.add_column(Text(size), justify="right")
    for name, row in rows.items():
        cells = [_cell_text(row[size]) if size in row else Text("") for size in sizes]
        table.add_row(Text(name), *cells)
    return table


def _cell_text(cell: Cell | WalkCell) -> Text:
    is_done = cell.points_done == cell.points
    mark = " ✓" if is_done else "  "
    style = "green" if is_done else ("" if cell.points_done else "dim")
    return Text(f"{cell.points_done}/{cell.points}{mark}", style=style)


def _trials_of(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trials of study", overflow="fold")
    for name in ("complete", "pruned", "failed", "running", "of"):
        table.add_column(name, justify="right")
    for count in status.trials:
        table.add_row(
            Text(count.study),
            str(count.complete),
            Text(str(count.pruned), style="" if count.pruned else "dim"),
            Text(str(count.failed), style="bold red" if count.failed else "dim"),
            Text(str(count.running), style="" if status.driver else "dim"),
            "–" if count.budget is None else str(count.budget),
        )
    return table


def failures_table(failures: Iterable[Mapping[str, Any]]) -> Table:
    """Lay failures out for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold red")
    for name in ("failed at", "what", "reason", "message"):
        table.add_column(name, overflow="fold")
    for row in failures:
        cells = (row["stage"], row["label"], row["reason"], row["message"])
        table.add_row(*(Text(cell or "") for cell in cells))
    return table
