"""What a search space is read from: a file, a text or a dictionary; and overrides of its keys."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymcu.errors import ConfigError
from raymcu.study.lines import lines_of


@dataclass(frozen=True)
class Source:
    """A search space as it was written."""

    name: str
    """What messages call it; empty for a dictionary."""
    raw: dict[str, Any]
    """Its content as TOML gives it."""
    text: str = ""
    """It, if lines can be told."""
    folder: Path = Path()
    """Where modules are that lie beside it."""

    @classmethod
    def of(cls, source: str | Path | Mapping[str, Any]) -> "Source":
        """Read a dictionary, a text (which has several lines), or the file of that path.

        Raises:
            ConfigError: If there is no such file, or what it holds is not TOML.
        """
        here = Path.cwd()
        if isinstance(source, Mapping):
            return cls("", json.loads(json.dumps(source, default=str)), folder=here)
        if isinstance(source, str) and "\n" in source:
            name, text, folder = "the text", source, here
        else:
            path = Path(source)
            name, text, folder = str(source), _text_of(path), path.resolve().parent
        try:
            return cls(name, tomllib.loads(text), text, folder)
        except tomllib.TOMLDecodeError as error:
            raise _no_toml(name, error) from error

    def placed(self, faults: Sequence[str], raw: Mapping[str, Any]) -> list[str]:
        """Return each fault once, behind its place: the name, and the line of its key or table.

        Args:
            faults: Each begins with its key.
            raw: The content with overrides: what they have changed stands on no line.
        """
        lines = lines_of(self.text)
        return [self._place(fault, raw, lines) + fault for fault in dict.fromkeys(faults)]

    def _place(self, fault: str, raw: Mapping[str, Any], lines: Mapping[str, int]) -> str:
        if not self.name:
            return ""
        key = fault.partition(": ")[0]
        while key and key not in lines:
            key = key.rpartition(".")[0]
        is_there = key and repr(_at(raw, key)) == repr(_at(self.raw, key))
        return f"{self.name} (line {lines[key]}): " if is_there else f"{self.name}: "


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file. `raymcu init NAME` copies one of `raymcu presets`."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Give a file.") from error
    except UnicodeDecodeError as error:
        raise _no_toml(str(path), error) from error


def _no_toml(name: str, error: ValueError) -> ConfigError:
    return ConfigError(f"{name}: is not TOML: {error}. Correct that place.")


def as_table(value: Any) -> dict[str, Any]:
    """Return a table; an empty one in place of anything else, which has a fault of its own."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list; an empty one in place of anything else, which has a fault of its own."""
    return value if isinstance(value, list) else []


def _at(raw: Any, key: str) -> Any:
    """Return the value of a key; None if there is none."""
    for part in key.split("."):
        table = {str(i): v for i, v in enumerate(raw)} if isinstance(raw, list) else as_table(raw)
        raw = table.get(part)
    return raw


def override_fault(raw: dict[str, Any], override: str) -> str | None:
    """Write one ``key.path=value`` into the raw file; return the fault if it has one."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        return f"--set {override}: write it as key.path=value, e.g. curves.num_points=5."
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    here: Any = raw
    for depth, part in enumerate(keys):
        where = ".".join(keys[:depth])
        if not isinstance(here, dict | list):
            return f"--set {override}: '{where}' is a value, not a table. Set it as a whole."
        index: Any = part if isinstance(here, dict) else _place(here, part)
        if isinstance(here, list) and isinstance(index, str):
            return f"--set {override}: '{where}' {index}"
        if depth == len(keys) - 1:
            here[index] = value
        else:
            here = here.setdefault(index, {}) if isinstance(here, dict) else here[index]
    return None


def _place(here: list[Any], part: str) -> int | str:
    """Return which element of a list is meant, by index, label or name; or what is wrong."""
    if part.isdecimal() and int(part) < len(here):
        return int(part)
    names = [as_table(entry).get("name", entry) for entry in here]
    labels = [as_table(entry).get("label", name) for entry, name in zip(here, names, strict=True)]
    known = [label for label in labels if isinstance(label, str)]
    for titles in (labels, names):
        if part in titles:
            several = f"has {titles.count(part)} '{part}'. Give an index from 0."
            return titles.index(part) if titles.count(part) == 1 else several
    advice = f", or one of {', '.join(dict.fromkeys(known))}" if known else ""
    return f"is a list of {len(here)}. Give an index from 0{advice}."
