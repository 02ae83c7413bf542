"""Published rows from a folder (JSON lines or lists, Parquet) or the hub; nothing is unpickled."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import ConfigError

Files = tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...]
"""Name, then path, time of change (ns) and size (bytes) of each of its files."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_SUFFIXES = (".json", ".jsonl", ".parquet", ".csv", ".zip", ".gz", ".tar")


def local_folder(benchmark: str, path: str, default: str | None) -> Path | None:
    """Return the folder that ``path`` names, or None where it is a hub id.

    Args:
        benchmark: Name for the messages.
        path: Folder or hub id, as the search space has it.
        default: The hub id that is taken without a path; None if ``path`` must be a folder.

    Raises:
        ConfigError: If it is neither.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    place = f"benchmark {benchmark}, path = '{path}'"
    or_hub_id = f", or a hub id such as {default}" if default else ""
    if folder.exists():
        raise ConfigError(
            f"{place}: is a file. Give the folder that holds one file per config{or_hub_id}."
        )
    if default is None:
        raise ConfigError(
            f"{place}: there is no such folder (looked in {Path.cwd()}). Correct the path, or "
            "leave it out to load from the hub."
        )
    if not _HUB_ID.fullmatch(path) or path.endswith(_FILE_SUFFIXES):
        raise ConfigError(
            f"{place}: there is no such folder (looked in {Path.cwd()}) and it is not a hub id of "
            f"the form owner/name. Correct the path, or leave it out to load {default} from the "
            "hub."
        )
    return None


def files_of(folder: Path, name: str) -> list[Path]:
    """Return the files of a config or split: of several forms the first of jsonl, parquet, json."""
    for suffix in ("jsonl", "parquet"):
        file = folder / f"{name}.{suffix}"
        if file.is_file():
            return [file]
    whole = folder / name
    shards = sorted(whole.glob("*.parquet")) or sorted(whole.parent.glob(f"{whole.name}-*.parquet"))
    lines = folder / f"{name}.json"
    return shards or ([lines] if lines.is_file() else [])


def missing(folder: Path, name: str, remedy: str) -> str:
    """Say that a config or split has no file, and which it could have."""
    return (
        f"{folder / name}.jsonl: is missing. Allowed are {name}.jsonl, {name}.parquet, "
        f"{name}/*.parquet, {name}-*.parquet or {name}.json. {remedy}"
    )


def stamped(found: Mapping[str, Iterable[Path]]) -> Files:
    """Return what tells whether a file changed since it was read."""
    return tuple(
        (name, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))
        for name, files in found.items()
    )


def file_rows(path: Path, remedy: str) -> list[Any]:
    """Return the rows of one file.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            rows: list[Any] = pq.read_table(path).to_pylist()
            return rows
        return _json_rows(path, path.read_text(encoding="utf-8"), remedy)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). {remedy}") from error


def _json_rows(path: Path, text: str, remedy: str) -> list[Any]:
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
            raise ConfigError(f"{path}: line {line} is not JSON ({error.msg}). {remedy}") from error
    return rows[0] if is_list else rows


def hub_rows(path: str, config: str | None, split: str, revision: str) -> list[Any]:
    """Return the rows of one split; the hub library keeps its own copy on disk.

    Raises:
        ConfigError: If it cannot be loaded.
    """
    # Imported here: it takes a second, which planning and local folders need not spend.
    import datasets

    try:
        rows: list[Any] = datasets.load_dataset(
            path, config, split=split, revision=revision
        ).to_list()
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(
            f"{hub_place(path, config, split, revision)}: cannot be loaded from the Hugging Face "
            f"hub ({type(error).__name__}: {reason}). Check the id, the revision and the network, "
            "or download the data set and set path to the folder."
        ) from error
    return rows


def hub_place(path: str, config: str | None, split: str, revision: str) -> str:
    """Say where on the hub a split is."""
    of_config = f", config '{config}'" if config else ""
    of_split = "" if split == "train" else f", split '{split}'"
    return f"{path}{of_config}{of_split}, revision '{revision}'"


def row_faults(
    rows: Sequence[Any], check: Callable[[Any], Iterator[str]], columns: Iterable[str], remedy: str
) -> Iterator[str]:
    """Name each kind of fault once, with how many rows have it and the first of them.

    Args:
        rows: What was read.
        check: Says what is wrong with one row.
        columns: What rows must have.
        remedy: What to do.
    """
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        for fault in check(row):
            first.setdefault(fault, number)
            count[fault] = count.get(fault, 0) + 1
    for fault, number in first.items():
        more = f" and {count[fault] - 1} more" if count[fault] > 1 else ""
        yield (
            f"row {number}{more}: {fault}. Allowed are rows with the columns "
            f"{', '.join(columns)}. {remedy}"
        )
