"""The command line: parses, calls, prints. Each command imports what it needs when it is called."""

import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.markup import escape

from raymcu.commands import clusters, folder, studies
from raymcu.commands.options import (
    Extend,
    Extensions,
    Json,
    Out,
    Quiet,
    RayDashboard,
    Set,
    Space,
    console,
    late,
    print_json,
)
from raymcu.errors import RaymcuError, as_note
from raymcu.store import versions

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Mode connectivity, evaluation and extrapolation in machine unlearning, as one sweep.",
)
_STOPPED = 130
"""Exit code of who was interrupted, which typer makes of a `KeyboardInterrupt`."""
_STOPPED_TEXT = "stopped.{} The same command goes on from here."
_KINDS = (
    *("methods", "masks", "curricula", "metrics"),
    *("curves", "walks", "attacks", "benchmarks", "settings", "claims"),
)
"""What `raymcu list` shows."""


def _print_versions(asked: bool) -> None:
    if asked:
        for name, version in versions.installed().items():
            print(name, version)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_versions, help="Show versions."),
    ] = False,
) -> None:
    del version  # its callback has printed and ended the program


@app.command()
def demo(out: Out = "runs/demo", quiet: Quiet = False) -> None:
    """Run the whole flow on an embedded benchmark and a model trained on the spot."""
    _run(late("study.presets").shipped()["demo"], out, [], quiet=quiet)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the search spaces that come with raymcu."""
    shipped = late("study.presets")
    told = {name: shipped.first_sentence(path) for name, path in shipped.shipped().items()}
    if as_json:
        print_json(told)
        return
    for name, sentence in told.items():
        console.print(f"[bold]{name}[/]  {escape(sentence)}", highlight=False)
    console.print("A copy of one to change: raymcu init NAME", highlight=False)


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="One of `raymcu presets`.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File to write; if left out, NAME.toml.", show_default=False),
    ] = None,
) -> None:
    """Copy a search space that comes with raymcu, to change it."""
    console.print(str(late("study.presets").copy(name, to)), soft_wrap=True, highlight=False)


@app.command()
def schema(extensions: Extensions = None) -> None:
    """Print the JSON schema of search spaces, for editors: keys, names, options, what they mean."""
    print_json(late("planning.schema").space_schema(extensions or []))


@app.command()
def plan(
    space: Space,
    sets: Set = None,
    device: Annotated[
        str | None,
        typer.Option(help="GPU to estimate time and memory for, e.g. H100; else what is here."),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="How many of them.")] = None,
    as_json: Json = False,
) -> None:
    """Print what would be trained, measured, saved by reuse, and what it would cost."""
    planning, durations = late("planning.surroundings"), late("planning.durations")
    wanted = planning.load_space(space, sets or [])
    on = durations.device(device, devices, wanted.execution.device_gib)
    around = planning.look_around(wanted)
    if device is not None:
        around = durations.with_gpus(around, on, devices)
    made, layers = planning.make_plan(wanted, around), around.num_layers
    fitting, hours = (
        late("planning.fitting"),
        durations.training_hours(made, around.sets, layers, on),
    )
    of_trials = late("planning.search_fitting").trainings_of_trials(wanted, around)
    summary = {
        **made.summary,
        **late("planning.trials").search_summary(wanted),
        "duration": durations.duration(made, wanted, around.sets, layers, on),
        "forget_sets": around.meanings,
        "memory": fitting.memory_of(wanted, around, made, hours, of_trials),
    }
    if as_json:
        told = summary["duration"] and summary["duration"].to_dict()
        print_json({"name": made.name, "plan_id": made.id, **summary, "duration": told})
        return
    report = late("report.console")
    console.print(report.plan_table(made.name, summary))
    where = on.name if on.count == 1 else f"{on.count} {on.name}s"
    for one in late("report.devices").memory_tables(summary["memory"], where):
        console.print(one)


@app.command()
def run(
    space: Space,
    out: Out,
    sets: Set = None,
    extend: Extend = False,
    quiet: Quiet = False,
    ray_dashboard: RayDashboard = False,
) -> None:
    """Do a study: train, connect, measure, score, analyze, report. Resumes where it ended."""
    _run(space, out, sets or [], extend=extend, quiet=quiet, ray_dashboard=ray_dashboard)


@app.command()
def evaluate(  # noqa: PLR0917 - each of its options by name
    models: Annotated[
        list[str], typer.Argument(metavar="[LABEL=]MODEL...", help="Folders or hub ids.")
    ],
    benchmark: Annotated[str, typer.Option(help="One of `raymcu list benchmarks`.")],
    forget: Annotated[str, typer.Option(help="Forget set, e.g. forget10.")],
    original: Annotated[str | None, typer.Option(help="Model that has learned all of it.")] = None,
    retrained: Annotated[
        str | None, typer.Option(help="Model that never saw the forget set; some metrics need it.")
    ] = None,
    out: Out = "runs/evaluation",
    extensions: Extensions = None,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Measure ready models by all metrics; nothing is trained. What is measured is not again."""
    asking = late("planning.evaluation")
    table = asking.evaluation(models, benchmark, forget, original, retrained, extensions or [])
    ledger = _do(table, out, sets or [], quiet=quiet, extend=True)
    told = asking.lacking(table, ledger.run.read_table("scores"))
    _end(ledger, *late("report.console").metrics_tables(ledger.run), *told)


@app.command()
def search(
    space: Space,
    out: Out,
    sets: Set = None,
    extend: Extend = False,
    quiet: Quiet = False,
    ray_dashboard: RayDashboard = False,
) -> None:
    """Search hyperparameters with Optuna, as the file's table search says. Resumes likewise."""
    with _stoppable(out):
        ledger = late("pipeline").search_study(
            late("planning.surroundings").load_space(space, sets or []),
            out,
            console,
            extend=extend,
            is_quiet=quiet,
            ray_dashboard=ray_dashboard,
            command=shlex.join(["raymcu", *sys.argv[1:]]),
        )
    database = ledger.run.path_url("optuna.db")
    trials = f"optuna-dashboard sqlite:///{database}" if ledger.run.is_local else database
    _end(ledger, late("report.search_words").trials_table(ledger.run), f"trials: {trials}")


app.registered_commands += clusters.app.registered_commands
app.registered_commands += folder.app.registered_commands
app.registered_commands += studies.app.registered_commands


@app.command("list")
def list_components(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(_KINDS)}.",
            autocompletion=lambda: list(_KINDS),
            show_default=False,
        ),
    ],
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Show components: names, sources, options with defaults and ranges, what they need."""
    rows = late("report.catalog").catalog(kind, extensions or [])
    if as_json:
        print_json(rows)
    else:
        late("report.catalog").print_catalog(rows, console)


def _run(space: Path, out: str, sets: list[str], **switches: bool) -> None:
    ledger = _do(space, out, sets, **switches)
    with ledger.run.at_rest():
        _end(ledger, *late("report.console").result_tables(ledger.run))


def _do(space: Path | dict[str, Any], out: str, sets: list[str], **switches: bool) -> Any:
    """Run a study; return its ledger."""
    with _stoppable(out):
        return late("pipeline").run_study(
            late("planning.surroundings").load_space(space, sets),
            out,
            console,
            is_quiet=switches["quiet"],
            extend=switches.get("extend", False),
            ray_dashboard=switches.get("ray_dashboard", False),
            command=shlex.join(["raymcu", *sys.argv[1:]]),
        )


@contextmanager
def _stoppable(out: str) -> Iterator[None]:
    """Say what an interrupt has left in a run folder, if it came while we worked there."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopping, notes = late("training.stopping"), getattr(stopped, "__notes__", [])
        saved = stopping.Stop(late("store.run_folder").RunFolder(out)).saved() if notes else 0
        if saved:
            one, more = (
                "1 training has saved how far it is.",
                "trainings have saved how far they are.",
            )
            notes = [one if saved == 1 else f"{saved} {more}", *notes]
        raise stopping.StoppedError(_STOPPED_TEXT.format(" ".join(["", *notes]))) from None


def _end(ledger: Any, *told: Any) -> None:
    """Print results, what failed and where the report is; exit with 1 if anything failed."""
    for part in told:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))
    failures = ledger.failures()
    if failures.num_rows:
        console.print(late("report.status").failures_table(failures.to_pylist()))
    console.print(
        f"report: {ledger.run.path_url('report/index.html')}", soft_wrap=True, highlight=False
    )
    if failures.num_rows:
        raise typer.Exit(1)


def _spread(arguments: list[str]) -> list[str]:
    """Put a ``--set`` before each KEY=VALUE that follows another one."""
    spread: list[str] = []
    for argument in arguments:
        is_pair = spread[-2:-1] == ["--set"] and re.match(r"[^\s=/-][^\s=/]*=", argument)
        spread += ["--set", argument] if is_pair else [argument]
    return spread


def main() -> None:
    """Run the command line; a raymcu error ends it with its sentence and exit code.

    One Ctrl-C, or SIGTERM, ends it in an orderly way, with exit code 130; a second one at once.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    warnings.formatwarning = as_note
    try:
        app(_spread(sys.argv[1:]))
    except RaymcuError as error:
        for line in getattr(error, "faults", [str(error)]):
            print(f"raymcu: {line}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if end.code == _STOPPED:
            print(f"raymcu: {_STOPPED_TEXT.format('')}", file=sys.stderr)
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    """Interrupt whatever runs; whoever is asked again has no more patience."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda number, frame: os._exit(_STOPPED))
    raise KeyboardInterrupt
