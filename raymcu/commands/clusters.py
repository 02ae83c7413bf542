"""Commands for clusters: checked before anything starts, and started elsewhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from raymcu.commands.options import Json, Out, Set, Space, console, late, print_json

app = typer.Typer()


_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]–[/]"}


@app.command()
def check(
    space: Space,
    out: Out,
    sets: Set = None,
    nodes: Annotated[
        bool, typer.Option(help="Whether to connect to Ray and ask every node.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Look before anything starts: inputs, hub, disk, and every node. Exit code 1 if one is red."""
    planning, checking = late("planning.surroundings"), late("cluster.checks")
    wanted = planning.load_space(space, sets or [])
    around = planning.look_around(wanted)
    plan = planning.make_plan(wanted, around)
    run = late("store.run_folder").RunFolder(out, wanted.store)
    found = []

    def tell(lines: Iterable[Any]) -> None:
        for line in lines:
            found.append(line)
            if not as_json:
                told = f"{_MARKS[line.is_good]} {line.subject}: {escape(line.text)}"
                console.print(told, highlight=False, soft_wrap=True)

    unfit = late("planning.search_fitting").unfit_search(wanted, around, plan)
    tell(checking.look_here(wanted, plan, run, unfit))
    if nodes:
        tell(late("cluster.nodes").every_node(wanted, plan, run))
    if as_json:
        print_json([{"subject": x.subject, "is_good": x.is_good, "text": x.text} for x in found])
    if any(line.is_good is False for line in found):
        raise typer.Exit(1)


@app.command()
def submit(  # noqa: PLR0917 - each of its options by name
    space: Space,
    to: Annotated[str, typer.Option("--to", help="slurm, kubernetes or ray.")],
    out: Out,
    sets: Set = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes at once; if left out, what the plan can use, to 8."),
    ] = None,
    per_node: Annotated[
        int | None, typer.Option(help="Of them on a node (if left out, 4) or in a pod (1).")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="GPU of each, e.g. H100; if left out, CPUs alone.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Most it may take; if left out, the most that is likely.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB of main memory a worker; if left out, by the plan.")
    ] = None,
    image: Annotated[str, typer.Option(help="Of pods.")] = "raymcu:0.1.0",
    queue: Annotated[
        str | None, typer.Option(help="Partition of Slurm, or queue of Kueue.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster's dashboard, e.g. http://127.0.0.1:8265."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="File to write; if left out, raymcu-NAME here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the file; write and start nothing.")] = False,
) -> None:
    """Start a study on a cluster: write the file that does, from the plan, and hand it over."""
    planning, asking = late("planning.surroundings"), late("cluster.needs")
    jobs = late("cluster.submission")
    way = jobs.way(to)
    wanted = planning.load_space(space, sets or [])
    gib = late("planning.durations").device(device).gib if device else None
    if gib is not None and wanted.execution.device_gib is None:  # which the job cannot see at once
        sets = [*(sets or []), f"execution.device_gib={gib:g}"]
        wanted = planning.load_space(space, sets)
    around = planning.look_around(wanted)
    per_node = 1 if per_node is None and to == "kubernetes" else per_node
    wish = asking.Wish(workers, per_node, device, hours, memory)
    plan = planning.make_plan(wanted, around)
    needs = asking.needs(plan, wanted, around.sets, around.num_layers, wish)
    job = jobs.Job(wanted, space, out, tuple(sets or ()), needs, image, queue, address)
    text = way.write(job)
    if dry_run:
        print(text, end="")
        return
    for line in needs.told:
        console.print(line, highlight=False, soft_wrap=True)
    written = file or Path(f"raymcu-{wanted.name}{way.suffix}")
    jobs.submit(to, text, written)
    console.print(f"submitted: {written}", highlight=False, soft_wrap=True)
