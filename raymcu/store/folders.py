"""Every path of a run folder and of a checkpoint store, atomic writes, manifests, and resume.

Paths may be local or any fsspec URL. A checkpoint is done when its manifest exists and the sizes
in it match; the manifest is the last file to appear. Tables are folders of Parquet parts whose
names come from their content's ids, so writing a part twice changes nothing.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables

MANIFEST = "manifest.json"


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Write JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def content_id(value: Any) -> str:
    """Hash a JSON value: the first 16 hex digits of SHA-256 over its canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


class Folder:
    """A folder on a local disk or behind any fsspec URL, written atomically.

    Raises:
        ConfigError: If no file system is installed for the URL.
    """

    def __init__(self, url: str) -> None:
        try:  # other processes write here too, so a kept listing would be a wrong one
            self.fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{url}: cannot be opened ({str(error).rstrip('.')}). "
                "Give a local folder, or install the fsspec package of that kind of URL."
            ) from error
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.root = str(Path(path).resolve()) if self.is_local else path.rstrip("/")
        self.url = self.root if self.is_local else self.fs.unstrip_protocol(self.root)

    def path(self, name: str) -> str:
        """Return the path of a file in this folder, as its file system spells it."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Say whether there is a file or folder of that name."""
        return bool(self.fs.exists(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """List what is in a sub-folder, sorted; nothing if there is no such folder."""
        try:
            found = self.fs.ls(self.path(folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(Path(path).name for path in found)

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content."""
        return bytes(self.fs.cat_file(self.path(name)))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file under a temporary name, then move it into place."""
        temporary = f"{self.path(name)}.tmp-{uuid.uuid4().hex[:8]}"
        self.fs.makedirs(str(Path(self.path(name)).parent), exist_ok=True)
        try:
            self.fs.pipe_file(temporary, content)
            self._move(temporary, self.path(name))
        except BaseException:
            with suppress(OSError):  # a full disk must not stay full of half a file
                self.fs.rm(temporary)
            raise

    def remove(self, name: str) -> None:
        """Delete a file or folder if it is there."""
        if self.fs.exists(self.path(name)):
            self.fs.rm(self.path(name), recursive=True)

    def read_json(self, name: str) -> Any:
        """Return a JSON file's value.

        Raises:
            StoreError: If it is missing or does not parse.
        """
        try:
            return json.loads(self.read_bytes(name))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.path(name)}: is missing. Run the command that writes it again."
            ) from error
        except ValueError as error:
            raise StoreError(f"{self.path(name)}: is not JSON ({error}). Delete it.") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as indented JSON."""
        self.write_bytes(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def ensure_writable(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: If it cannot be written to.
        """
        probe = f".writable-{uuid.uuid4().hex[:8]}"
        try:
            self.write_bytes(probe, b"")
            self.fs.rm(self.path(probe))
        except OSError as error:
            raise ConfigError(
                f"{self.url}: cannot be written to ({error.strerror or error}). "
                "Give another folder with --out."
            ) from error

    def _move(self, source: str, target: str) -> None:
        if self.is_local:
            os.replace(source, target)  # noqa: PTH105 - works on folders and is atomic
        else:
            self.fs.mv(source, target, recursive=True)


class CheckpointStore:
    """Checkpoints by recipe id: ``<id>/`` when done, ``.partial/<id>/`` while they train."""

    def __init__(self, url: str) -> None:
        self.folder = Folder(url)

    def is_done(self, checkpoint: str) -> bool:
        """Say whether the checkpoint is complete.

        Raises:
            StoreError: If its manifest stands but a file is missing or has another size.
        """
        if not self.folder.exists(f"{checkpoint}/{MANIFEST}"):
            return False
        for name, entry in self.manifest(checkpoint)["files"].items():
            path = self.folder.path(f"{checkpoint}/{name}")
            size = self.folder.fs.size(path) if self.folder.fs.exists(path) else None
            if size != entry["size"]:
                raise StoreError(
                    f"{path}: has {size} bytes, its manifest says {entry['size']}. "
                    f"Delete {self.folder.path(checkpoint)} and run again to train it anew."
                )
        return True

    def manifest(self, checkpoint: str) -> dict[str, Any]:
        """Return the manifest: ``files`` with size and sha256, and what the writer added."""
        manifest = self.folder.read_json(f"{checkpoint}/{MANIFEST}")
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or not all(
            isinstance(entry, dict) and {"size", "sha256"} <= set(entry) for entry in files.values()
        ):
            raise StoreError(
                f"{self.folder.path(checkpoint)}/{MANIFEST}: is not a manifest. "
                f"Delete {self.folder.path(checkpoint)} and run again to train it anew."
            )
        return dict(manifest)

    def verify(self, checkpoint: str) -> list[str]:
        """Re-hash every file; return a sentence for each that differs from its manifest."""
        faults = []
        for name, entry in self.manifest(checkpoint)["files"].items():
            path = f"{checkpoint}/{name}"
            if not self.folder.exists(path):
                faults.append(f"{self.folder.path(path)}: is missing.")
            elif (found := self._digest(path)) != entry["sha256"]:
                faults.append(
                    f"{self.folder.path(path)}: its sha256 is {found[:16]}…, "
                    f"its manifest says {entry['sha256'][:16]}…."
                )
        return faults

    def done(self) -> list[str]:
        """List the ids of complete checkpoints; folders with a dot are at work or left over."""
        names = [name for name in self.folder.names("") if not name.startswith(".")]
        return [name for name in names if self.folder.exists(f"{name}/{MANIFEST}")]

    def local_dir(self, checkpoint: str) -> Path:
        """Return a local folder with the checkpoint's files, copied once if the store is remote."""
        if self.folder.is_local:
            return Path(self.folder.path(checkpoint))
        content = content_id([self.folder.url, checkpoint, self.manifest(checkpoint)])
        cache = Path(tempfile.gettempdir()) / f"raymcu-cache-{os.getuid()}"
        if not (cache / content).exists():
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            arriving = cache / f".{content}-{uuid.uuid4().hex[:8]}"
            self.folder.fs.get(self.folder.path(checkpoint), str(arriving), recursive=True)
            try:
                arriving.replace(cache / content)
            except OSError:  # another process was first, and may be reading its copy
                if not (cache / content).exists():
                    raise
                shutil.rmtree(arriving)
        return cache / content

    @contextmanager
    def writing(self, checkpoint: str, **notes: Any) -> Iterator[Path]:
        """Give a local folder to fill; when the block ends well it becomes the checkpoint.

        Args:
            checkpoint: Its id, a sub-folder of the store.
            notes: JSON values to keep in the manifest.
        """
        parent = Path(self.folder.path(checkpoint)).parent if self.folder.is_local else None
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            yield filling
            files = {
                str(path.relative_to(filling)): {
                    "size": path.stat().st_size,
                    "sha256": _sha256(path),
                }
                for path in sorted(filling.rglob("*"))
                if path.is_file()
            }
            manifest = {"files": files, **notes}
            (filling / MANIFEST).write_text(json.dumps(manifest, indent=1))
            self._publish(filling, checkpoint)
        finally:
            shutil.rmtree(filling, ignore_errors=True)

    def _publish(self, filling: Path, checkpoint: str) -> None:
        if self.folder.is_local:
            filling.chmod(0o755)  # mkdtemp made it private to this user
            _replace_dir(filling, Path(self.folder.path(checkpoint)))
            return
        target = self.folder.path(checkpoint)
        self.folder.remove(f"{checkpoint}/{MANIFEST}")  # first, so that it is never half a lie
        self.folder.remove(checkpoint)
        for path in sorted(filling.rglob("*"), key=lambda path: path.name == MANIFEST):
            if path.is_file():  # the manifest last
                self.folder.fs.put_file(str(path), f"{target}/{path.relative_to(filling)}")

    def _digest(self, name: str) -> str:
        with self.folder.fs.open(self.folder.path(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_dir(source: Path, target: Path) -> None:
    """Move a folder into place; what stood there is moved away first, then deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".old-{target.name}-{uuid.uuid4().hex[:8]}")
    if target.exists():
        target.replace(old)
    source.replace(target)
    shutil.rmtree(old, ignore_errors=True)


class RunFolder(Folder):
    """One study: what was asked, what must exist, the tables, and where the checkpoints are."""

    def __init__(self, url: str, store: str | None = None) -> None:
        super().__init__(url)
        self.checkpoints = CheckpointStore(store or self.path_url("checkpoints"))

    def path_url(self, name: str) -> str:
        """Return the URL of a file in this folder, for other libraries."""
        return f"{self.url}/{name}"

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
            raise StoreError(f"{self.path('plan.json')}: is not a plan. Delete it and run again.")
        return plan

    def has_part(self, table: str, part: str) -> bool:
        """Say whether that part of a table was written."""
        return self.exists(f"tables/{table}/{part}.parquet")

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
        self.write_bytes(f"tables/{table}/{part}.parquet", sink.getvalue().to_pybytes())

    def remove_part(self, table: str, part: str) -> None:
        """Delete one part of a table if it is there."""
        self.remove(f"tables/{table}/{part}.parquet")

    def read_part(self, table: str, part: str) -> pa.Table:
        """Return one part of a table.

        Raises:
            StoreError: If the file is cut short, damaged, or another table.
        """
        name = f"tables/{table}/{part}.parquet"
        try:
            content = pa.BufferReader(self.read_bytes(name))
            found = pq.read_table(content, page_checksum_verification=True)
            found.validate(full=True)
            return tables.check(table, found, self.path(name))
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise StoreError(
                f"{self.path(name)}: is damaged ({error}). Delete it and run the same command "
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
    def lock(self) -> Iterator[None]:
        """Keep a second driver out of a local folder while the block runs.

        The lock is the operating system's, so a killed driver leaves none behind.

        Raises:
            ConfigError: If another driver is at work there.
        """
        if not self.is_local:
            yield
            return
        with Path(self.path(".lock")).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{self.url}: another raymcu is running there. Wait for it, watch it with "
                    "`raymcu status`, or give another folder with --out."
                ) from error
            except OSError as error:
                raise ConfigError(
                    f"{self.url}: cannot be locked ({error.strerror}). "
                    "Give a folder on a file system with locks, with --out."
                ) from error
            yield


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
