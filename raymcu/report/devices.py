"""The tables that ``raymcu plan`` prints of devices: what trainings take, and what would help."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from raymcu.planning.durations import time_span

_LITTLE = 0.01
"""Of a device's memory: parts smaller than that are not told."""
_SMALL = 1.0
"""GiB: where the largest training takes less and all fit, nothing is told."""


def memory_tables(memory: Mapping[str, Any], where: str) -> Iterator[Table]:
    """Yield what a device holds of each kind of training and, of large ones, what would help.

    Args:
        memory: As `raymcu.planning.fitting.memory_of` has it.
        where: What the times are for.
    """
    device, room = memory["device_gib"], memory["room_gib"]
    if all(row["fits"] and row["gib"] < _SMALL for row in memory["roles"]):
        return
    known = "" if device is None else f" of {device:g}, with room for {room:.1f}"
    table = _table(f"trainings: GiB that a device holds at most{known}; time of all on {where}")
    for name in ("training", "number", "time", "workers", "GiB"):
        table.add_column(name, justify="left" if name == "training" else "right", no_wrap=True)
    table.add_column("of which", overflow="fold")
    for row in memory["roles"]:
        parts = {kind: size for kind, size in row["parts"].items() if size >= _LITTLE * row["gib"]}
        told = ", ".join(f"{kind} {_gib(size)}" for kind, size in parts.items())
        gib = Text(_gib(row["gib"]), style="" if row["fits"] else "bold red")
        time = "–" if row["hours"] is None else time_span(3600 * row["hours"])
        number = "–" if row["trainings"] is None else str(row["trainings"])
        table.add_row(_name(row), number, time, str(row["workers"]), gib, told)
    yield table
    crowded = [row for row in memory["roles"] if row["helps"]]
    if crowded:
        yield _changes(crowded, memory["changes"], room)


def _changes(rows: list[Mapping[str, Any]], keys: Sequence[str], room: float) -> Table:
    """Return what the device of a single worker holds with each change to a training's table."""
    table = _table(
        "GiB of a single worker's device with a change to a table, and whether that fits"
    )
    table.add_column("change", justify="left", min_width=36)
    for row in rows:
        heading = f"{row['role']}\n{row['kind']}".replace(", ", ",\n")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("none", *(_cell(row["alone"], row["alone"] <= room) for row in rows))
    found = [{one["key"]: one for one in row["helps"]} for row in rows]
    more = {key for helps in found for key in helps} - {*keys}  # workers
    for key in (*keys, *sorted(more, key=lambda text: int(text.split()[-1]))):
        cells = [helps.get(key) for helps in found]
        if any(cells):
            table.add_row(key, *(_cell(one["gib"], one["fits"]) if one else "" for one in cells))
    return table


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['role']}: {row['kind']}"


def _gib(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}" if size >= 1 else f"{size:.2f}"


def _cell(gib: float, fits: bool) -> Text:
    return Text(f"{_gib(gib)} {'fits' if fits else '  no'}", style="green" if fits else "red")


def _table(title: str) -> Table:
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    table.title_style = "italic"
    return table
