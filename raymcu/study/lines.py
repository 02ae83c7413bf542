"""On which line of a TOML file a key stands: tomllib tells it of no key."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any


def lines_of(text: str) -> dict[str, int]:
    """Return the line, from 1, where each key of a valid TOML text is first written.

    Keys are spelled as ``--set`` takes them, e.g. ``methods.0.beta``; what is inside a value of
    several lines is on the value's first one. The shortest run of whole lines that is TOML is one
    statement, so tomllib itself reads the keys.
    """
    found: dict[str, int] = {}
    lengths: Counter[str] = Counter()
    table, statement = "", ""
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            told = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if statement.lstrip().startswith("["):
            keys = list(_header(told, lengths))
            table = keys[-1]
        else:
            keys = list(_inside(told, table))
        for key in keys:
            found.setdefault(key, start)
        start, statement = number + 1, ""
    return found


def _header(told: Any, lengths: Counter[str]) -> Iterator[str]:
    """Yield the keys of a table's header, its own last; count the elements of lists of tables."""
    place = ""
    while told:
        ((part, told),) = told.items()
        place = _joined(place, part)
        yield place
        if isinstance(told, list):
            lengths[place] += 1
            told = {}
        if place in lengths:
            place = f"{place}.{lengths[place] - 1}"
            yield place


def _inside(value: Any, place: str) -> Iterator[str]:
    """Yield the keys below a place."""
    if isinstance(value, list):
        value = {str(index): inner for index, inner in enumerate(value)}
    for part, inner in value.items() if isinstance(value, dict) else ():
        key = _joined(place, part)
        yield key
        yield from _inside(inner, key)


def _joined(place: str, part: str) -> str:
    return f"{place}.{part}" if place else part
