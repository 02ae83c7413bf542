"""A run folder: what was asked, what must exist, tables in parts, and one driver at a time.

Tables are folders of Parquet parts whose names come from their content's ids, so writing a part
twice changes nothing.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.folders import Folder
from raymcu.store.ids import content_id
from raymcu.store.lease import held

_BEFORE_WORK = {
    *(".lock", "search_space.toml", "plan.json", "run.json", "progress.json", "tables", "points"),
}
"""What is in a folder, and in its tables, before the first model is trained."""


class RunFolder(Folder):
    """One study: what was asked, what must exist, the tables, and where the checkpoints are."""

    def __init__(self, url: str, store: str | None = None) -> None:
        super().__init__(url)
        self.checkpoints = CheckpointStore(store or self.path_url("checkpoints"))
        if self.checkpoints.folder.root.startswith(f"{self.root}/"):
            self.checkpoints.folder.lister = self

    @property
    def tune_path(self) -> str:
        """Where Ray keeps the state of an experiment, which nothing is read from again.

        Of a run behind a URL that is a folder of this machine: a bucket would be asked a dozen
        times for each training.
        """
        if self.is_local:
            return self.path("tune")
        name = f"raymcu-tune-{os.getuid()}"
        return str(Path(tempfile.gettempdir()) / name / content_id(self.url))

    @classmethod
    def open(cls, url: str) -> "RunFolder":
        """Open the folder of an existing run with the checkpoint store its plan names.

        Raises:
            ConfigError: If no run was ever started there.
        """
        folder = Folder(url)
        if not folder.exists("plan.json"):
            raise ConfigError(
                f"{folder.url}: no run is there (it has no plan.json). "
                "Start one with `raymcu run SPACE --out DIR`."
            )
        run = cls(url)
        return cls(url, run.plan.get("store"))

    @property
    def plan(self) -> dict[str, Any]:
        """The resolved plan as it was written."""
        plan = self.read_json("plan.json")
        if not isinstance(plan, dict):
            raise StoreError(
                f"{self.path_url('plan.json')}: is not a plan. Delete it and run again."
            )
        return plan

    def has_part(self, table: str, part: str) -> bool:
        """Say whether that part of a table was written."""
        return self.has_file(f"tables/{table}/{part}.parquet")

    def parts(self, table: str) -> list[str]:
        """List the parts of a table."""
        return [
            name.removesuffix(".parquet")
            for name in self.names(f"tables/{table}")
            if name.endswith(".parquet")
        ]

    def write_part(self, table: str, part: str, rows: pa.Table) -> None:
        """Write one part of a table, replacing it if it was there."""
        sink = pa.BufferOutputStream()
        rows = tables.check(table, rows, "rows to write")
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
        content = sink.getvalue().to_pybytes()
        self.write_bytes(f"tables/{table}/{part}.parquet", content, is_read_again=True)

    def remove_part(self, table: str, part: str) -> None:
        """Delete one part of a table if it is there."""
        self.remove_file(f"tables/{table}/{part}.parquet")

    def read_part(self, table: str, part: str) -> pa.Table:
        """Return one part of a table.

        Raises:
            StoreError: If the file is cut short, damaged, or another table.
        """
        with self._opened(table, part) as file:
            found = file.read(use_threads=False)  # parts are small
            found.validate(full=True)
            return tables.check(table, found, self.path_url(f"tables/{table}/{part}.parquet"))

    def read_notes(self, table: str, part: str) -> Mapping[bytes, bytes]:
        """Return the metadata of one part of a table, without its rows.

        Raises:
            StoreError: If the file is cut short or damaged where they are.
        """
        with self._opened(table, part) as file:
            return file.schema_arrow.metadata or {}

    @contextmanager
    def _opened(self, table: str, part: str) -> Iterator[pq.ParquetFile]:
        name = f"tables/{table}/{part}.parquet"
        try:
            content = pa.BufferReader(self.read_bytes(name))
            yield pq.ParquetFile(content, page_checksum_verification=True)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise StoreError(
                f"{self.path_url(name)}: is damaged ({error}). Delete it and run the same command "
                "again: only what is missing is done."
            ) from error

    def fault_of(self, table: str, part: str) -> str | None:
        """Say what is wrong with one part of a table; None if it reads."""
        try:
            self.read_part(table, part)
        except StoreError as error:
            return str(error)
        return None

    def read_table(self, table: str) -> pa.Table:
        """Return all parts of a table; an empty table if there are none.

        Raises:
            StoreError: If a part is damaged.
        """
        parts = [self.read_part(table, part) for part in self.parts(table)]
        return pa.concat_tables(parts).unify_dictionaries() if parts else tables.empty(table)

    def record_failure(self, row: Mapping[str, Any]) -> None:
        """Write one row of the failures table, a part of its own named after the item."""
        self.write_part("failures", row["item_id"], tables.from_rows("failures", [row]))

    @contextmanager
    def _resting(self, *, is_at_rest: bool) -> Iterator[None]:
        apart = self.checkpoints.folder._resting(is_at_rest=is_at_rest)
        with super()._resting(is_at_rest=is_at_rest), apart:
            yield

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Make the folder if there is none, and lock it while the block runs.

        Nobody else writes there meanwhile, but in blocks of `at_work`. A new folder goes again if
        the block is refused before any work was done. To an interrupt a note is added.

        Raises:
            ConfigError: If it cannot be written to, or another driver is at work there.
        """
        try:
            with self._claimed():
                yield
        except KeyboardInterrupt as stopped:
            stopped.add_note(f"{self.url} is free for another driver.")
            raise

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        is_new = self.is_local and not self.exists("")
        if self.is_local:  # elsewhere the lease is written
            self.ensure_writable()
        with self.lock(), self.at_rest():
            is_new = is_new or (not self.is_local and self.names("") == [".lock"])
            try:
                yield
            except ConfigError:
                if is_new and {*self.names(""), *self.names("tables")} <= _BEFORE_WORK:
                    self.remove("")
                raise

    def lock(self) -> AbstractContextManager[None]:
        """Keep a second driver out while the block runs, see `raymcu.store.lease.held`.

        Raises:
            ConfigError: If another driver is at work there.
        """
        return held(self)


def failure_row(
    item_id: str, stage: str, label: str, reason: str, message: str, traceback: str | None = None
) -> Mapping[str, Any]:
    """Return a row of the failures table."""
    return {
        "item_id": item_id,
        "stage": stage,
        "label": label,
        "reason": reason,
        "message": message,
        "traceback": traceback,
    }
