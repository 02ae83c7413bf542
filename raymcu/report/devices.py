"""The tables that ``raymcu plan`` prints of devices: what each role takes, and what would help."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_SHORT = {"weights": "weights", "gradients": "grad.", "states": "states", "beside": "beside",
          "activations": "activ.", "logits": "logits", "gathered": "gath."}  # fmt: skip


def memory_tables(memory: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what a device holds in each role and, where that is much, what would make it less.

    Args:
        memory: As `raymcu.planning.fitting.memory_of` has it.
    """
    device, room = memory["device_gib"], memory["room_gib"]
    title = "the largest training of each role: GiB that each of its devices holds at most"
    known = "" if device is None else f", of {device:g} GiB with room for {room:.1f}"
    table = _table(title + known)
    for name in ("role", "trainings", "hours", "workers", "GiB", *_SHORT.values()):
        table.add_column(name, justify="left" if name == "role" else "right", no_wrap=True)
    for row in memory["roles"]:
        is_told = {kind: f"{row['parts'][kind]:.3g}" for kind in _SHORT if row["parts"][kind] > 0}
        gib = Text(f"{row['gib']:.3g}", style="" if row["fits"] else "bold red")
        hours = "–" if row["hours"] is None else f"{row['hours']:.2g}"
        shown = (str(row["trainings"]), hours, str(row["workers"]), gib)
        table.add_row(row["role"], *shown, *(is_told.get(kind, "") for kind in _SHORT))
    yield table
    crowded = [row for row in memory["roles"] if row["helps"]]
    if not crowded:
        return
    table = _table("what a device holds with one worker, and what a change to that table brings")
    for name in ("role", "table", "change", "GiB", "fits"):
        table.add_column(name, justify="right" if name == "GiB" else "left", overflow="fold")
    for row in crowded:
        table.add_row(
            row["role"], row["table"], "workers = 1", f"{row['alone']:.3g}", _fits(row, room)
        )
        for one in row["helps"]:
            table.add_row("", "", one["key"], f"{one['gib']:.3g}", "yes" if one["fits"] else "no")
        table.add_section()
    yield table


def _fits(row: Mapping[str, Any], room: float | None) -> str:
    return "yes" if room is None or row["alone"] <= room else "no"


def _table(title: str) -> Table:
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    table.title_style = "italic"
    return table
