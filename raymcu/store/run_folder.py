"""A run folder: what was asked, what must exist, its tables, and one driver at a time."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.folders import Folder
from raymcu.store.ids import content_id
from raymcu.store.lease import held
from raymcu.store.parts import Tables

_BEFORE_WORK = {
    *(".lock", "search_space.toml", "plan.json", "run.json", "progress.json", "tables", "points"),
}
"""What is in a folder, and in its tables, before the first model is trained."""


class RunFolder(Tables):
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

    def tidy(self) -> None:
        """Gather and settle the tables, unless a driver is at work here, which does so itself."""
        with suppress(ConfigError), self.lock(), self.at_rest():
            self.gather()
            self.settle()

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
