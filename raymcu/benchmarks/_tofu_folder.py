"""TOFU from a local folder of JSON lines, JSON lists or Parquet; nothing is unpickled."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.benchmarks._base import Example, Facts, fingerprint, set_facts
from raymcu.benchmarks._tofu_rows import CONFIGS, OWN_CONTENT, REMEDY, examples, mismatches
from raymcu.errors import ConfigError

Sets = Mapping[str, Sequence[Example]]
Files = tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...]
"""Config, then path, time of change (ns) and size (bytes) of each of its files."""


def folder_sets(folder: Path) -> Sets:
    """Return the rows of every config, read again only if a file changed.

    Raises:
        ConfigError: With every fault of every file.
    """
    return _sets(_files(folder))


def folder_facts(folder: Path) -> Facts:
    """Return a hash of the rows (the same for every file format) and the sizes of all configs.

    Raises:
        ConfigError: With every fault of every file.
    """
    return _facts(_files(folder))


def _files(folder: Path) -> Files:
    found = {config: _files_of(folder, config) for config in CONFIGS}
    missing = [config for config, files in found.items() if not files]
    if len(missing) == len(CONFIGS):
        raise ConfigError(
            f"{folder}: holds no file of TOFU. Expected one file per config, e.g. "
            f"{folder / 'full.jsonl'}. {REMEDY}"
        )
    readable = tuple(
        (config, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))
        for config, files in found.items()
        if files
    )
    if missing:
        faults = [
            f"{folder / config}.jsonl: is missing. Allowed are {config}.jsonl, {config}.parquet, "
            f"{config}/*.parquet or {config}.json. {REMEDY}"
            for config in missing
        ]
        raise ConfigError(faults + _read(readable)[1])
    return readable


def _files_of(folder: Path, config: str) -> list[Path]:
    """Return the files of a config: of several forms the first of jsonl, parquet, json."""
    for suffix in ("jsonl", "parquet"):
        file = folder / f"{config}.{suffix}"
        if file.is_file():
            return [file]
    shards = sorted((folder / config).glob("*.parquet"))
    lines = folder / f"{config}.json"
    return shards or ([lines] if lines.is_file() else [])


@lru_cache(maxsize=2)
def _sets(files: Files) -> Sets:
    sets, faults = _read(files)
    if faults:
        raise ConfigError(faults)
    return sets


@lru_cache(maxsize=2)
def _facts(files: Files) -> Facts:
    sets = _sets(files)
    content = fingerprint({config: sets[config] for config in OWN_CONTENT})
    return Facts(content, {config: set_facts(rows) for config, rows in sets.items()})


def _read(files: Files) -> tuple[Sets, list[str]]:
    sets: dict[str, list[Example]] = {}
    where: dict[str, str] = {}
    faults: list[str] = []
    for config, parts in files:
        paths = [Path(path) for path, _, _ in parts]
        where[config] = str(paths[0] if len(paths) == 1 else paths[0].parent)
        try:
            rows = [row for path in paths for row in _rows(path)]
        except ConfigError as error:
            faults += error.faults
            continue
        sets[config], of_rows = examples(rows, config, where[config])
        faults += of_rows
    return sets, faults + list(mismatches(sets, where))


def _rows(path: Path) -> list[Any]:
    try:
        if path.suffix == ".parquet":
            rows: list[Any] = pq.read_table(path).to_pylist()
            return rows
        return _json_rows(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). {REMEDY}") from error


def _json_rows(path: Path, text: str) -> list[Any]:
    """Read one list, or one object a line."""
    is_list = text.lstrip().startswith("[")
    pieces = [text] if is_list else text.split("\n")
    rows: list[Any] = []
    for number, piece in enumerate(pieces, start=1):
        if not piece.strip():
            continue
        try:
            rows.append(json.loads(piece))
        except json.JSONDecodeError as error:
            line = error.lineno if is_list else number
            raise ConfigError(f"{path}: line {line} is not JSON ({error.msg}). {REMEDY}") from error
    return rows[0] if is_list else rows
