"""A table as plain values, and as CSV and LaTeX: what the page shows, a file holds."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_ON_PAGE = 1000
"""Rows of a table that the page shows; files have all."""


@dataclass(frozen=True)
class Column:
    """A head and how to show what stands below it."""

    head: str
    is_number: bool = False
    note: str = ""
    """What the head means, in a sentence."""
    code: str = ""
    """Name in files, if not the head: a metric's."""
    in_files_only: bool = False

    @property
    def name(self) -> str:
        """Name in files."""
        return self.code or self.head


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    value: Any = None
    """What it is sorted by and what files hold; None if that is the text."""
    kind: str = ""
    """How it looks: ``yes``, ``no``, ``above``, ``code`` or ``wrap``."""
    small: str = ""
    """What stands below in small."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What files hold besides, in columns of their own."""


@dataclass(frozen=True)
class Row:
    """Entries in the order of the columns."""

    cells: tuple[Cell, ...]
    kind: str = ""
    """``reference`` or ``starts``: stands out, begins a group."""
    in_csv_only: bool = False


@dataclass(frozen=True)
class Table:
    """What one table of the page shows, under the name of its files."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """Places of the columns that are on the page."""
        return tuple(n for n, column in enumerate(self.columns) if not column.in_files_only)

    @property
    def on_page(self) -> tuple[Row, ...]:
        """Rows that are on the page."""
        return tuple(row for row in self.rows if not row.in_csv_only)[:MOST_ON_PAGE]

    def csv(self) -> bytes:
        """Return the table with a line of heads, in full precision, as UTF-8."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        extra = [_keys(self.rows, place) for place in range(len(self.columns))]
        heads: list[str] = []
        for column, keys in zip(self.columns, extra, strict=True):
            heads += [column.name, *(f"{column.name} {key}" for key in keys)]
        writer.writerow(heads)
        for row in self.rows:
            line: list[Any] = []
            for cell, keys in zip(row.cells, extra, strict=True):
                line += [_plain(cell), *(cell.more.get(key, "") for key in keys)]
            writer.writerow(line)
        return text.getvalue().encode()

    def latex(self) -> bytes:
        """Return the table as a tabular of package booktabs, as the page shows it."""
        shown = self.shown
        align = "".join("r" if self.columns[place].is_number else "l" for place in shown)
        lines = [f"\\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [" & ".join(_tex(self.columns[place].head) for place in shown) + r" \\"]
        lines += [r"\midrule"]
        for number, row in enumerate(self.on_page):
            if number and "starts" in row.kind:
                lines.append(r"\midrule")
            lines.append(" & ".join(_tex_cell(row.cells[place]) for place in shown) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]).encode()


def _keys(rows: Sequence[Row], place: int) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row.cells[place].more))


def _plain(cell: Cell) -> Any:
    return cell.text if cell.value is None else cell.value


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "↔": r"$\leftrightarrow$", "→": r"$\to$",
    "✓": r"\checkmark", "✗": r"$\times$", "–": "--", "±": r"$\pm$", "…": r"\dots{}",
}  # fmt: skip


def _tex(text: str) -> str:
    """Escape what LaTeX takes for a command."""
    return "".join(_TEX.get(sign, sign) for sign in re.sub(r"\s+", " ", text))


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    return f"{text} {{\\scriptsize {_tex(cell.small)}}}" if cell.small else text
