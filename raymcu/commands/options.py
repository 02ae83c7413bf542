"""What commands share: options, the console, modules that are imported when they are needed."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from raymcu.errors import ConfigError

console = Console(width=None if sys.stdout.isatty() else 100)

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
Extensions = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Module of yours, or its file: my_method.py."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Extend = Annotated[bool, typer.Option(help="Add to a folder that holds another search space.")]
RayDashboard = Annotated[
    bool, typer.Option(help="Serve Ray's own dashboard on loopback (local cluster only).")
]


def on_disk(path: Path) -> Path:
    """Return a path of this machine's disk.

    Raises:
        ConfigError: If it was a URL, of which typer has made a folder named ``s3:``.
    """
    if url := re.match(r"([a-z][a-z0-9]+):/(.*)", str(path)):
        raise ConfigError(
            f"{url[1]}://{url[2]}: is a URL; this has to be a path on this machine's disk. Give "
            "one, and copy from there or to there with a tool of that store (`aws s3 cp`)."
        )
    return path


def late(module: str) -> Any:
    """Import a module of raymcu now, so that `raymcu --help` starts without torch or Ray."""
    return importlib.import_module(f"raymcu.{module}")


def opened(run: str) -> Any:
    """Open the folder of an existing run."""
    return late("store.run_folder").RunFolder.open(run)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))
