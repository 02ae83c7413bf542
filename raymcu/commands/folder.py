"""Commands on the folder of a run: what is in it, scored, judged, drawn, exported, served."""

from pathlib import Path
from typing import Annotated

import typer

from raymcu.commands.options import Json, Quiet, Run, console, late, on_disk, opened, print_json

app = typer.Typer()

_POINT = (
    "Id or label of a point, or its beginning: npo/seed0, original; of a curve or walk, "
    "'linear(npo/seed0, npo/seed1)@0.5' or 'mixing(npo/seed0)@0.5'; forget10:npo/seed0 if several "
    "forget sets have it."
)


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """Show what is done, running, failed and left, with times."""
    telling = late("report.status")
    found = telling.read_status(opened(run))
    if as_json:
        print_json(found.to_dict())
    else:
        console.print(telling.render_status(found))


@app.command()
def score(run: Run, quiet: Quiet = False) -> None:
    """Compute every metric anew from the stored measurements."""
    folder, again = opened(run), late("report.again")
    number = again.rescore(folder, console, is_quiet=quiet)
    again.reanalyze(folder)
    console.print(f"{number} points scored into {folder.path_url('tables/scores')}", soft_wrap=True)


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
    folder, judging = opened(run), late("analysis.judge")
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
        f"one, in {folder.path_url('tables/judgements')}. Scores of them: raymcu score {run}",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def analyze(run: Run, as_json: Json = False) -> None:
    """Judge every curve anew from the scores."""
    folder = opened(run)
    late("report.again").reanalyze(folder)
    findings = folder.read_table("findings")
    if as_json:
        print_json(findings.to_pylist())
    else:
        console.print(late("report.console").findings_table(findings))


@app.command()
def report(
    run: Run,
    pdf: Annotated[
        bool,
        typer.Option(
            "--pdf", help="Also write the figures along curves as files: SVG, PNG and PDF."
        ),
    ] = False,
) -> None:
    """Draw the figures and the HTML page anew."""
    folder = opened(run)
    late("report.again").know_own(folder)
    drawn = late("report.page").write_report(folder, pdf=pdf)
    console.print(drawn, soft_wrap=True, highlight=False)


@app.command()
def export(
    run: Run,
    point: Annotated[str, typer.Argument(help=_POINT, show_default=False)],
    to: Annotated[
        Path,
        typer.Option("--to", help="Folder to write.", show_default=False, callback=on_disk),
    ],
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="Upload it to the Hugging Face hub, too, as a new model."
        ),
    ] = None,
    public: Annotated[bool, typer.Option(help="Let everybody see it there.")] = False,
) -> None:
    """Write a point's weights as an ordinary Hugging Face folder, with a model card."""
    made = late("measurement.export").export(opened(run), point, to, push=push, is_public=public)
    console.print(str(made), soft_wrap=True, highlight=False)
    if push:
        console.print(f"{push} is on the hub", soft_wrap=True, highlight=False)


@app.command()
def verify(run: Run, as_json: Json = False) -> None:
    """Re-hash every file against its manifest; exit code 3 if one differs."""
    sound, faults = late("report.again").verify(opened(run))
    if as_json:
        print_json({"sound": sound, "faults": faults})
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
    server = late("report.dashboard").serve(run, host, port, allow_remote=allow_remote)
    console.print(f"{server.url}  (Ctrl-C ends it)", highlight=False)
    with server:
        server.serve_forever()
