"""Commands on whole studies: side by side, in one file and out of it."""

from pathlib import Path
from typing import Annotated

import typer

from raymcu.commands.options import Run, console, late, on_disk, opened

app = typer.Typer()


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders: two or more paths or URLs.", show_default=False),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "comparison",
) -> None:
    """Lay studies side by side: what was asked, what matches, which findings hold in all."""
    page = late("report.comparison").write_comparison([opened(run) for run in runs], out)
    console.print(page, soft_wrap=True, highlight=False)


@app.command()
def pack(
    run: Run,
    to: Annotated[
        Path,
        typer.Option("--to", help="File to write, a zip.", show_default=False, callback=on_disk),
    ],
    checkpoints: Annotated[bool, typer.Option(help="Pack the models, too.")] = True,
) -> None:
    """Write a study into one file, with the hash of everything in it."""
    told = late("store.packing").pack(opened(run), to, with_checkpoints=checkpoints)
    console.print(
        f"{told['files']} files, {told['bytes'] / 2**20:.1f} MiB in {to}",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def unpack(
    file: Annotated[
        Path,
        typer.Argument(help="What `raymcu pack` wrote.", show_default=False, callback=on_disk),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Run folder to make, local.", show_default=False, callback=on_disk
        ),
    ],
) -> None:
    """Make a run folder of a packed study, if every byte is as it was packed."""
    number = late("store.packing").unpack(file, out.absolute())
    console.print(f"{number} files, verified, in {out}", soft_wrap=True, highlight=False)


@app.command()
def claims(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders: one or more paths or URLs.", show_default=False),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "claims",
) -> None:
    """Put the claims of papers to studies: what holds, what does not, what cannot be told."""
    telling = late("report.claimed")
    page, found = telling.write_claims([opened(run) for run in runs], out)
    console.print(telling.claims_table(found.to_pylist()), highlight=False)
    console.print(page, soft_wrap=True, highlight=False)
