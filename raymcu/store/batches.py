"""A batch: one file with many parts of a table, like any other file of that table.

A list in its footer tells which rows are whose, and what the metadata of each part said. Small
parts share a row group, which is read at once; a large one has its own.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import StoreError
from raymcu.store import tables
from raymcu.store.folders import Folder

PREFIX = "batch-"
"""Of the names of these files; no part's name begins so."""
GROUP_ROWS = 512
"""Rows that parts may have to share a row group."""
DAMAGE = (pa.ArrowException, UnicodeDecodeError, OSError)
"""What pyarrow raises where a file is damaged."""

_LIST = b"raymcu:parts"

Notes = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Span:
    """Where the rows of a part are."""

    group: int
    start: int
    """First row, counted in the row group."""
    first: int
    """First row, counted in the file."""
    num_rows: int
    notes: Notes
    """Metadata of the part."""

    @property
    def stop(self) -> int:
        """The row behind them, counted in the file."""
        return self.first + self.num_rows


@dataclass(frozen=True)
class Batch:
    """What the footer of a batch tells. Its name has a hash of its content, so it never changes."""

    name: str
    """Path in the run folder."""
    footer: Any
    spans: Mapping[str, Span]
    """By part, in the order of their rows."""


@dataclass(frozen=True)
class Shelf:
    """A table at one moment."""

    loose: frozenset[str]
    """Parts that have a file of their own."""
    removed: frozenset[str]
    """Parts that count as gone unless they are loose."""
    batches: tuple[Batch, ...]
    """Oldest first."""
    held: Mapping[str, Batch]
    """By part: the newest batch with it."""

    @property
    def parts(self) -> list[str]:
        """All parts, sorted."""
        return sorted(self.loose | (self.held.keys() - self.removed))

    def live(self, batch: Batch) -> list[str]:
        """List the parts that are read from a batch, in its order."""
        gone = self.loose | self.removed
        return [part for part in batch.spans if self.held[part] is batch and part not in gone]


class BatchReader:
    """Reads the batches of a run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._group: dict[str, tuple[str, int, pa.Table]] = {}
        """By table: the row group that was read last, as neighbours are read one by one."""
        self._fetched: tuple[str, bytes] = ("", b"")
        """The batch that was read last of a folder behind a URL."""

    def open(self, name: str) -> Batch:
        """Return what the footer of a batch tells.

        Raises:
            FileNotFoundError: If it has been deleted.
            StoreError: If it is cut short or damaged there.
        """
        try:
            footer = pq.ParquetFile(self._source(name)).metadata
            told = json.loads((footer.metadata or {})[_LIST])
            notes = [{_bytes(k): _bytes(v) for k, v in one.items()} for one in told["notes"]]
            spans, group, start, first = {}, 0, 0, 0
            for part, num_rows, number in told["parts"]:
                if num_rows and start == footer.row_group(group).num_rows:
                    group, start = group + 1, 0
                spans[part] = Span(group, start, first, num_rows, notes[number])
                start, first = start + num_rows, first + num_rows
        except FileNotFoundError:
            raise
        except (*DAMAGE, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._damage(name, error) from error
        if first != footer.num_rows:
            raise self._damage(name, f"it lists {first} rows and has {footer.num_rows}")
        return Batch(name, footer, spans)

    def _damage(self, name: str, reason: object) -> StoreError:
        return StoreError(
            f"{self.folder.path_url(name)}: is damaged ({reason}). Delete it and run the same "
            "command again: what it held is done again, and no more."
        )

    def _source(self, name: str) -> pa.NativeFile:
        if self.folder.is_local:
            return pa.OSFile(self.folder.path(name))
        if self._fetched[0] != name:
            self._fetched = name, self.folder.read_bytes(name)
        return pa.BufferReader(self._fetched[1])

    def rows(self, table: str, batch: Batch, part: str) -> pa.Table:
        """Return the rows of one part, with its metadata.

        Raises:
            FileNotFoundError: If the batch has been deleted.
            StoreError: If those rows are damaged, or others of their row group.
        """
        span = batch.spans[part]
        if not span.num_rows:
            return tables.check(table, tables.empty(table).replace_schema_metadata(span.notes), "")
        name, group, rows = self._group.get(table, ("", 0, None))
        if (name, group) != (batch.name, span.group):
            rows = self._read(table, batch, span.group)
            self._group[table] = (batch.name, span.group, rows)
        found = rows.slice(span.start, span.num_rows).replace_schema_metadata(span.notes)
        return encoded(found)

    def all_rows(self, table: str, batch: Batch) -> pa.Table:
        """Return the rows of all parts; raises as `rows`."""
        try:
            return self._read(table, batch, None)
        except StoreError:
            for part in batch.spans:  # one of which says more
                self.rows(table, batch, part)
            raise

    def _read(self, table: str, batch: Batch, group: int | None) -> pa.Table:
        url = self.folder.path_url(batch.name)
        try:
            file = pq.ParquetFile(
                self._source(batch.name), metadata=batch.footer, page_checksum_verification=True
            )
            if group is None:
                found = file.read(use_threads=False)
            else:
                found = file.read_row_group(group, use_threads=False)
            found.validate(full=True)
        except FileNotFoundError:
            raise
        except DAMAGE as error:
            lost = [part for part, span in batch.spans.items() if group in (None, span.group)]
            files = " ".join(f"{url.rpartition('/')[0]}/{part}.removed" for part in lost)
            raise StoreError(
                f"{url}: is damaged ({error}) where {len(lost)} of its {len(batch.spans)} parts "
                f"are. Make empty files {files} and run the same command again: only these parts "
                "are done again."
            ) from error
        return tables.check(table, found, url)


def batch_name(table: str, rank: int, digest: str) -> str:
    """Return the path of a batch in the run folder; a newer one has a higher rank."""
    return f"tables/{table}/{PREFIX}{rank:06}-{digest}.parquet"


def rank_of(name: str) -> int:
    """Return the rank of a batch by its name, or its path."""
    return int(name.rpartition("/")[2].split("-")[1])


def written(table: str, parts: Iterable[tuple[str, pa.Table]]) -> tuple[str, bytes]:
    """Return the file with these parts of a table, and a hash for its name."""
    sink, told = pa.BufferOutputStream(), []
    notes: dict[str, int] = {}
    schema = tables.SCHEMAS[table]
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        waiting: list[pa.Table] = []
        for part, rows in parts:
            own = {_text(k): _text(v) for k, v in (rows.schema.metadata or {}).items()}
            number = notes.setdefault(json.dumps(own, sort_keys=True), len(notes))
            told.append((part, rows.num_rows, number))
            if sum(map(len, waiting)) + rows.num_rows > GROUP_ROWS:
                _write_group(writer, schema, waiting)
                waiting = []
            waiting.append(rows)
        _write_group(writer, schema, waiting)
        listed = {"notes": [json.loads(own) for own in notes], "parts": told}
        writer.add_key_value_metadata({_LIST: json.dumps(listed, separators=(",", ":"))})
    content = sink.getvalue().to_pybytes()
    return sha256(content).hexdigest()[:16], content


def _write_group(writer: Any, schema: pa.Schema, waiting: list[pa.Table]) -> None:
    rows = pa.concat_tables([schema.empty_table(), *waiting])
    if rows.num_rows:
        writer.write_table(encoded(rows), row_group_size=rows.num_rows)


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode(errors="surrogateescape")


def encoded(table: pa.Table) -> pa.Table:
    """Return a table whose words are in dictionaries by where they first are, like a written one.

    So that equal rows make equal tables, whatever files they were in.
    """
    for place, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            words = column.cast(pa.string()).dictionary_encode()
            table = table.set_column(place, table.schema.field(place), words)
    return table
