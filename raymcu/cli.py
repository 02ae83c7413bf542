"""The command line: parses, calls, prints. Each command imports what it needs when it is called."""

import importlib
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from raymcu.errors import RaymcuError
from raymcu.store import versions

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Mode connectivity, evaluation and extrapolation in machine unlearning, as one sweep.",
)
console = Console(width=None if sys.stdout.isatty() else 100)

_STOPPED = 130
"""Exit code of who was interrupted, which typer makes of a `KeyboardInterrupt`."""
_MOST_CURVES = 60
"""With more, `raymcu run` ends with a summary by setting."""

_KINDS = (
    *("methods", "masks", "curricula", "metrics"),
    *("curves", "walks", "benchmarks", "settings"),
)
"""What `raymcu list` shows."""

_POINT = (
    "Id or label of a point, or its beginning: npo/seed0, original; of a curve or walk, "
    "'linear(npo/seed0, npo/seed1)@0.5' or 'mixing(npo/seed0)@0.5'; forget10:npo/seed0 if several "
    "forget sets have it."
)

Space = Annotated[Path, typer.Argument(help="Search-space file (TOML).", show_default=False)]
Run = Annotated[str, typer.Argument(help="Run folder: a path or URL.", show_default=False)]
Out = Annotated[str, typer.Option("--out", help="Run folder: a path or any fsspec URL.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, e.g. curves.num_points=5 methods.npo.beta=0.2.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Extend = Annotated[bool, typer.Option(help="Add to a folder that holds another search space.")]
RayDashboard = Annotated[
    bool, typer.Option(help="Serve Ray's own dashboard on loopback (local cluster only).")
]


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
    _run(_from("study.presets").shipped()["demo"], out, [], quiet=quiet)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the search spaces that come with raymcu."""
    shipped = _from("study.presets")
    told = {name: shipped.first_sentence(path) for name, path in shipped.shipped().items()}
    if as_json:
        _print_json(told)
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
    console.print(str(_from("study.presets").copy(name, to)), soft_wrap=True, highlight=False)


@app.command()
def plan(
    space: Space,
    sets: Set = None,
    device: Annotated[
        str | None,
        typer.Option(help="GPU to estimate the time for, e.g. H100; if left out, what is here."),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="How many of them.")] = None,
    as_json: Json = False,
) -> None:
    """Print what would be trained, measured, saved by reuse, and what it would cost."""
    planning, durations = _from("planning.surroundings"), _from("planning.durations")
    on = durations.device(device, devices)
    wanted = planning.load_space(space, sets or [])
    around = planning.look_around(wanted)
    made = planning.make_plan(wanted, around)
    summary = {
        **made.summary,
        **_from("planning.trials").search_summary(wanted),
        "duration": durations.duration(made, wanted, around.sets, len(around.layers), on),
    }
    if as_json:
        told = summary["duration"] and summary["duration"].to_dict()
        _print_json({"name": made.name, "plan_id": made.id, **summary, "duration": told})
        return
    console.print(_from("report.console").plan_table(made.name, summary))


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
def search(
    space: Space,
    out: Out,
    sets: Set = None,
    quiet: Quiet = False,
    ray_dashboard: RayDashboard = False,
) -> None:
    """Search hyperparameters with Optuna, as the file's table search says. Resumes likewise."""
    ledger = _from("pipeline").search_study(
        _from("planning.surroundings").load_space(space, sets or []),
        out,
        console,
        is_quiet=quiet,
        ray_dashboard=ray_dashboard,
        command=shlex.join(["raymcu", *sys.argv[1:]]),
    )
    console.print(_from("report.search_words").trials_table(ledger.run))
    console.print(
        f"trials: optuna-dashboard sqlite:///{ledger.run.path('optuna.db')}", soft_wrap=True
    )
    _end(ledger)


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """Show what is done, running, failed and left, with times."""
    telling = _from("report.status")
    found = telling.read_status(_open(run))
    if as_json:
        _print_json(found.to_dict())
    else:
        console.print(telling.render_status(found))


@app.command()
def score(run: Run, quiet: Quiet = False) -> None:
    """Compute every metric anew from the stored measurements."""
    folder, again = _open(run), _from("report.again")
    number = again.rescore(folder, console, is_quiet=quiet)
    again.reanalyze(folder)
    console.print(f"{number} points scored into {folder.path('tables/scores')}", soft_wrap=True)


@app.command()
def judge(
    run: Run,
    url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, e.g. https://HOST/v1.")],
    model: Annotated[str, typer.Option(help="Name of the judging model there.")],
    probes: Annotated[str, typer.Option(help="Probes to grade, by commas.")] = "forget,retain",
    max_examples: Annotated[int | None, typer.Option(help="First examples of each.")] = None,
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the key, if one is needed.")
    ] = "OPENAI_API_KEY",
) -> None:
    """Have a language model grade the greedy answers of a finished run. Resumes where it ended."""
    folder, judging = _open(run), _from("analysis.judge")
    asked = judging.Judge.at(url, model, key_env)
    names = [name.strip() for name in probes.split(",")]
    told = judging.judge_run(
        folder,
        asked,
        names,
        max_examples,
        lambda ended, running: console.print(f"judged {', '.join(ended)}", highlight=False),
    )
    console.print(
        f"{told.num_grades} grades of {told.num_points} points, {told.num_failed} replies without "
        f"one, in {folder.path('tables/judgements')}. Scores of them: raymcu score {run}",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def analyze(run: Run, as_json: Json = False) -> None:
    """Judge every curve anew from the scores."""
    folder = _open(run)
    _from("report.again").reanalyze(folder)
    findings = folder.read_table("findings")
    if as_json:
        _print_json(findings.to_pylist())
    else:
        console.print(_from("report.console").findings_table(findings))


@app.command()
def report(run: Run) -> None:
    """Draw the figures and the HTML page anew."""
    console.print(
        _from("report.page").write_report(_open(run)),
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def export(
    run: Run,
    point: Annotated[str, typer.Argument(help=_POINT, show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.", show_default=False)],
) -> None:
    """Write a point's weights as an ordinary Hugging Face folder."""
    folder = _from("measurement.export").export(_open(run), point, to)
    console.print(str(folder), soft_wrap=True, highlight=False)


@app.command()
def verify(run: Run, as_json: Json = False) -> None:
    """Re-hash every file against its manifest; exit code 3 if one differs."""
    sound, faults = _from("report.again").verify(_open(run))
    if as_json:
        _print_json({"sound": sound, "faults": faults})
    else:
        for fault in faults:
            console.print(fault, style="red", soft_wrap=True, highlight=False)
        console.print(f"{len(sound)} sound, {len(faults)} damaged")
    if faults:
        raise typer.Exit(3)


@app.command()
def dashboard(
    run: Run,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8266,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[bool, typer.Option(help="Allow a host that is not loopback.")] = False,
) -> None:
    """Serve a live page of the run: the grid filling up, curves, failures, time left."""
    server = _from("report.dashboard").serve(run, host, port, allow_remote=allow_remote)
    console.print(f"{server.url}  (Ctrl-C ends it)", highlight=False)
    with server:
        server.serve_forever()


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
) -> None:
    """Show components: names, sources, options with defaults and ranges, what they need."""
    rows = _from("report.catalog").catalog(kind)
    if as_json:
        _print_json(rows)
    else:
        _from("report.catalog").print_catalog(rows, console)


def _run(space: Path, out: str, sets: list[str], *, quiet: bool, **switches: bool) -> None:
    command = shlex.join(["raymcu", *sys.argv[1:]])
    wanted = _from("planning.surroundings").load_space(space, sets)
    ledger = _from("pipeline").run_study(
        wanted,
        out,
        console,
        is_quiet=quiet,
        extend=switches.get("extend", False),
        ray_dashboard=switches.get("ray_dashboard", False),
        command=command,
    )
    tables = _from("report.console")
    console.print(tables.endpoints_table(_from("report.data").load_study(ledger.run).endpoints))
    findings = ledger.run.read_table("findings")
    if 0 < findings.num_rows <= _MOST_CURVES:
        console.print(tables.findings_table(findings))
    elif findings.num_rows:
        console.print(tables.settings_table(findings))
        console.print(f"each of the {findings.num_rows} curves: raymcu analyze {out}")
    for name, lay_out in (
        ("calibrations", tables.calibrations_table),
        ("layer_choices", tables.layers_table),
    ):
        table = ledger.run.read_table(name)
        if table.num_rows:
            console.print(lay_out(table))
    _end(ledger)


def _end(ledger: Any) -> None:
    """Say what failed and where the report is; exit with 1 if anything failed."""
    failures = ledger.failures()
    if failures.num_rows:
        console.print(_from("report.status").failures_table(failures.to_pylist()))
    console.print(
        f"report: {ledger.run.path('report/index.html')}", soft_wrap=True, highlight=False
    )
    if failures.num_rows:
        raise typer.Exit(1)


def _from(module: str) -> Any:
    """Import a module of raymcu now, so that `raymcu --help` starts without torch or Ray."""
    return importlib.import_module(f"raymcu.{module}")


def _open(run: str) -> Any:
    """Open the folder of an existing run."""
    return _from("store.run_folder").RunFolder.open(run)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


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
    try:
        app(_spread(sys.argv[1:]))
    except RaymcuError as error:
        for line in getattr(error, "faults", [str(error)]):
            print(f"raymcu: {line}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if end.code == _STOPPED:
            print("raymcu: stopped. The same command goes on from here.", file=sys.stderr)
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    """Interrupt whatever runs; whoever is asked again has no more patience."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda number, frame: os._exit(_STOPPED))
    raise KeyboardInterrupt
