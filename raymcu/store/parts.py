"""Tables in parts: each written as a file of its own, and gathered into batches when they are many.

Who has a part writes it, named after what it is of; so writing it twice changes nothing. The driver
gathers: a batch is written whole, then the parts' own files are deleted. A part may therefore be in
its file and in batches at once, after a crash, or since it was written again: its own file holds,
then the newest batch. One that is removed while a batch has it leaves an empty file that says so,
until the table is settled: that batch is then written without it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import StoreError
from raymcu.store import tables
from raymcu.store.batches import (
    DAMAGE,
    PREFIX,
    Batch,
    BatchReader,
    Notes,
    Shelf,
    batch_name,
    encoded,
    rank_of,
    written,
)
from raymcu.store.folders import Folder
from raymcu.store.ids import content_id
from raymcu.store.objects import Entry

T = TypeVar("T")

MANY = 256
"""Parts with files of their own that are worth a batch."""
MOST = 1024
"""Parts of a batch."""
MOST_BYTES = 2**25
"""Of the files that make a batch, together."""
LARGE = 2**20
"""Bytes of a file that is left as it is."""
READ_WHOLE = (
    *("scores", "samples", "intervals", "ensembles", "recoveries", "trials", "trial_values"),
)
"""Tables that are gathered in a bucket, too.

The driver has fetched their parts anyway; of others a reader of one would fetch the whole batch.
"""
GATHERED = (
    *READ_WHOLE,
    *("measurements", "samples", "representations", "judgements", "readings", "sharpness"),
    "tuned",
)
"""Tables with a part for each point, curve or trial."""
_SUFFIX, _REMOVED = ".parquet", ".removed"
_TRIES = 3
"""Looks, where another process gathers or settles meanwhile."""


class Tables(Folder):
    """A folder with tables in parts."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._reader = BatchReader(self)
        self._known: dict[str, tuple[tuple[Batch, ...], Mapping[str, Batch]]] = {}
        """By table: its batches at the last look, and the newest with each part."""

    def has_part(self, table: str, part: str) -> bool:
        """Say whether that part of a table was written."""
        return self.has_file(_loose(table, part)) or self._find(table, part) is not None

    def parts(self, table: str) -> list[str]:
        """List the parts of a table.

        Raises:
            StoreError: If a batch is damaged.
        """
        return self._shelf(table).parts

    def write_part(self, table: str, part: str, rows: pa.Table) -> None:
        """Write one part of a table, replacing it if it was there."""
        sink = pa.BufferOutputStream()
        rows = tables.check(table, rows, "rows to write")
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
        self.write_bytes(_loose(table, part), sink.getvalue().to_pybytes(), is_read_again=True)

    def remove_part(self, table: str, part: str) -> None:
        """Remove one part of a table if it is there."""
        self.remove_file(_loose(table, part))
        if self._find(table, part) is not None:  # looked for after that: see `gather`
            self.write_bytes(_removed(table, part), b"")

    def read_part(self, table: str, part: str) -> pa.Table:
        """Return one part of a table.

        Raises:
            StoreError: If there is none, or its file is cut short, damaged, or another table.
        """
        return self._either(
            table,
            part,
            lambda file: self._rows_of(table, part, file),
            lambda batch: self._reader.rows(table, batch, part),
        )

    def read_notes(self, table: str, part: str) -> Notes:
        """Return the metadata of one part of a table, without its rows; raises as `read_part`."""
        return self._either(
            table,
            part,
            lambda file: file.schema_arrow.metadata or {},
            lambda batch: batch.spans[part].notes,
        )

    def all_notes(self, table: str) -> dict[str, Notes]:
        """Return the metadata of every part of a table, without rows; raises as `read_part`."""
        shelf = self._shelf(table)
        return {
            part: self.read_notes(table, part)
            if part in shelf.loose
            else shelf.held[part].spans[part].notes
            for part in shelf.parts
        }

    def _either(
        self,
        table: str,
        part: str,
        of_file: Callable[[pq.ParquetFile], T],
        of_batch: Callable[[Batch], T],
    ) -> T:
        """Read a part where it is; another process may gather or settle meanwhile."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                return of_file(self._file(table, part))
            if (batch := self._find(table, part)) is None:
                break
            with suppress(FileNotFoundError):
                return of_batch(batch)
        raise StoreError(
            f"{self.path_url(_loose(table, part))}: is missing. Run the same command again: only "
            "what is missing is done."
        )

    def _file(self, table: str, part: str, entry: Entry | None = None) -> pq.ParquetFile:
        content = pa.BufferReader(self.read_bytes(_loose(table, part), entry))
        with self._told(table, part):
            return pq.ParquetFile(content, page_checksum_verification=True)

    def _rows_of(self, table: str, part: str, file: pq.ParquetFile) -> pa.Table:
        with self._told(table, part):
            rows = file.read(use_threads=False)  # parts are small
            rows.validate(full=True)
        return tables.check(table, rows, self.path_url(_loose(table, part)))

    @contextmanager
    def _told(self, table: str, part: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise StoreError(
                f"{self.path_url(_loose(table, part))}: is damaged ({error}). Delete it and run "
                "the same command again: only what is missing is done."
            ) from error

    def read_table(self, table: str) -> pa.Table:
        """Return all parts of a table, in the order of their names; raises as `read_part`."""
        shelf = self._shelf(table)
        whole = {
            batch.name: self._reader.all_rows(table, batch)
            for batch in shelf.batches
            if len(shelf.live(batch)) == len(batch.spans)  # else what is removed may be damaged
        }
        rows: list[pa.Table] = []
        last: tuple[str, int, int] = "", 0, 0
        for part in shelf.parts:
            batch = None if part in shelf.loose else shelf.held[part]
            if batch is None or batch.name not in whole:
                rows.append(self.read_part(table, part))
                last = "", 0, 0
                continue
            start, stop = batch.spans[part].first, batch.spans[part].stop
            if last[0] == batch.name and last[2] == start:  # neighbours are one piece
                start = last[1]
                rows.pop()
            rows.append(whole[batch.name].slice(start, stop - start))
            last = batch.name, start, stop
        return encoded(pa.concat_tables(rows)) if rows else tables.empty(table)

    def read_pieces(self, table: str) -> Iterator[tuple[str, Callable[[], pa.Table]]]:
        """Yield the table file by file: what is another text if it changes, and what reads it.

        Whoever looks again and again so reads each file once. What is read raises as `read_part`.
        """
        shelf, there = self._shelf(table), self.files(f"tables/{table}")
        for part in sorted(shelf.loose):
            stamp = there.get(f"{part}{_SUFFIX}")
            yield f"{part} {stamp}", partial(self.read_part, table, part)
        for batch in shelf.batches:
            if live := shelf.live(batch):
                yield f"{batch.name} {content_id(live)}", partial(self._live, table, batch, live)

    def _live(self, table: str, batch: Batch, live: Sequence[str]) -> pa.Table:
        if len(live) == len(batch.spans):
            return encoded(self._reader.all_rows(table, batch))
        return pa.concat_tables([self._reader.rows(table, batch, part) for part in live])

    def table_files(self, table: str) -> list[str]:
        """List the files that tell what is in a table, as paths in the folder."""
        names = self.names(f"tables/{table}")
        return [f"tables/{table}/{name}" for name in names if name.endswith((_SUFFIX, _REMOVED))]

    def check_table(self, table: str) -> tuple[list[str], list[str]]:
        """Read every part of a table; return the sound ones, and what is wrong with the others."""
        faults: list[str] = []
        sound = []
        for part in self._shelf(table, faults).parts:
            try:
                self.read_part(table, part)
                sound.append(part)
            except StoreError as error:
                faults.append(str(error))
        return sound, list(dict.fromkeys(faults))

    def gather(self) -> None:
        """Put parts with files of their own into batches, in tables that have many.

        Others may write parts meanwhile. What is in a batch is not written again, so the cost is
        linear.

        Raises:
            StoreError: If a batch is damaged.
        """
        for table in GATHERED if self.is_local else READ_WHOLE:
            shelf = self._shelf(table)
            left: Sequence[str] = sorted(shelf.loose)
            while len(left) >= MANY:
                left = self._gather(table, left, shelf.removed)

    def _gather(self, table: str, left: Sequence[str], removed: Collection[str]) -> Sequence[str]:
        """Write one batch; return the parts that are left for others."""
        stamps: dict[str, Entry] = {}
        looked, size, of = 0, 0, self._entries(table)

        def taken() -> Iterator[tuple[str, pa.Table]]:
            nonlocal looked, size
            while looked < len(left) and len(stamps) < MOST:
                part = left[looked]
                entry = of(part)
                if entry is not None and entry.size <= LARGE:
                    if size + entry.size > MOST_BYTES:
                        return
                    with suppress(FileNotFoundError, StoreError):  # who needs it will say so
                        file = self._file(table, part, None if self.is_local else entry)
                        rows = self._rows_of(table, part, file)
                        size, stamps[part] = size + entry.size, entry
                        yield part, rows
                looked += 1

        digest, content = written(table, taken())
        if stamps:
            ranks = map(rank_of, self.names(f"tables/{table}", PREFIX))
            rank = 1 + max(ranks, default=0)
            self.write_bytes(batch_name(table, rank, digest), content, is_read_again=True)
            own, gone, of = [], [], self._entries(table)
            for part, stamp in stamps.items():
                if (entry := of(part)) is None:  # removed meanwhile
                    self.write_bytes(_removed(table, part), b"")
                elif entry == stamp:
                    own.append(_loose(table, part))
                    gone += [_removed(table, part)] * (part in removed)
            self.remove_files(gone)  # first, as the batch holds only with them or without both
            self.remove_files(own)
        return left[looked:]

    def _entries(self, table: str) -> Callable[[str], Entry | None]:
        """Return what tells whether a loose part is another one by now; a bucket is listed once."""
        if self.is_local:
            return lambda part: _stat(self.path(_loose(table, part)))
        there = self.files(f"tables/{table}")
        return lambda part: there.get(f"{part}{_SUFFIX}")

    def settle(self) -> None:
        """Write batches anew without what was removed or written again since.

        After that each row is in one file. Nobody else may write here meanwhile.

        Raises:
            StoreError: If a batch is damaged.
        """
        for table in GATHERED:
            shelf = self._shelf(table)
            for batch in shelf.batches:
                live = shelf.live(batch)
                if len(live) == len(batch.spans):
                    continue
                if live:
                    rows = ((part, self._reader.rows(table, batch, part)) for part in live)
                    digest, content = written(table, rows)
                    name = batch_name(table, rank_of(batch.name), digest)
                    self.write_bytes(name, content, is_read_again=True)
                self.remove_files([batch.name])
            self.remove_files([_removed(table, part) for part in sorted(shelf.removed)])

    def _find(self, table: str, part: str) -> Batch | None:
        """Return the batch that a part is read from which is not loose; None if there is none."""
        if table not in GATHERED:
            return None
        batch = self._known.get(table, ((), {}))[1].get(part)
        if batch is None or not self.has_file(batch.name):
            names = self.names(f"tables/{table}", PREFIX)
            batch = self._batches(table, [f"tables/{table}/{name}" for name in names])[1].get(part)
        is_gone = batch is not None and self.has_file(_removed(table, part))
        return None if is_gone else batch

    def _shelf(self, table: str, faults: list[str] | None = None) -> Shelf:
        """Look at a table.

        Args:
            table: Its name.
            faults: Where to say which batches do not open, to go on without them.

        Raises:
            StoreError: If a batch is damaged, and ``faults`` is not given.
        """
        folder = f"tables/{table}"
        for left in reversed(range(_TRIES)):
            loose, removed, batches = set(), set(), []
            names = self.names(folder)
            if names and self.is_local:  # a part that moves meanwhile is in either listing
                names = [name for name in names if not name.startswith(PREFIX)]
                names += self.names(folder, PREFIX)
            for name in names:
                if name.endswith(_REMOVED):
                    removed.add(name.removesuffix(_REMOVED))
                elif name.endswith(_SUFFIX) and name.startswith(PREFIX):
                    batches.append(f"{folder}/{name}")
                elif name.endswith(_SUFFIX):
                    loose.add(name.removesuffix(_SUFFIX))
            try:
                found, held = self._batches(table, batches, faults)
            except FileNotFoundError:  # deleted since the listing
                if not left:
                    raise
            else:
                return Shelf(frozenset(loose), frozenset(removed), found, held)
        raise AssertionError

    def _batches(
        self, table: str, names: Sequence[str], faults: list[str] | None = None
    ) -> tuple[tuple[Batch, ...], Mapping[str, Batch]]:
        """Return the batches of these names, and by part the newest that has it."""
        known = self._known.get(table, ((), {}))
        if [batch.name for batch in known[0]] != names:
            there = {batch.name: batch for batch in known[0]}
            batches = []
            for name in names:
                try:
                    batches.append(there.get(name) or self._reader.open(name))
                except StoreError as error:
                    if faults is None:
                        raise
                    faults.append(str(error))
            held = {part: batch for batch in batches for part in batch.spans}
            self._known[table] = known = tuple(batches), held
        return known


def _loose(table: str, part: str) -> str:
    return f"tables/{table}/{part}{_SUFFIX}"


def _removed(table: str, part: str) -> str:
    return f"tables/{table}/{part}{_REMOVED}"


def _stat(path: str) -> Entry | None:
    try:
        told = Path(path).stat()
    except FileNotFoundError:
        return None
    return Entry(told.st_size, f"{told.st_mtime_ns} {told.st_ino}")
