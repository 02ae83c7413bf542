"""A folder on a disk or behind any fsspec URL, in which a file appears whole or not at all."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from raymcu.errors import ConfigError, StoreError
from raymcu.store import node_cache
from raymcu.store.ids import content_id
from raymcu.store.listing import Listing
from raymcu.store.objects import Entry, objects_of, refusal


class Folder:
    """A folder on a local disk or behind any fsspec URL, written atomically.

    Raises:
        ConfigError: If no file system is installed for the URL.
    """

    def __init__(self, url: str) -> None:
        try:  # other processes write here too, so a kept listing would be a wrong one
            self.fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            package = {"s3": "raymcu[s3]", "s3a": "raymcu[s3]", "gs": "gcsfs", "az": "adlfs"}
            needed = package.get(url.partition("://")[0], "the fsspec package of that kind of URL")
            raise ConfigError(
                f"{url}: cannot be opened ({str(error).rstrip('.')}). Give a local folder, or "
                f"install {needed}."
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{url}: cannot be opened ({str(error).rstrip('.')}). "
                "Give a local folder, or install the fsspec package of that kind of URL."
            ) from error
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.root = str(Path(path).resolve()) if self.is_local else path.rstrip("/")
        self.url = self.root if self.is_local else self.fs.unstrip_protocol(self.root)
        self.objects = objects_of(self.fs)
        self.lister: Folder = self
        """Whose listing tells what is here: this folder's own, or that of one around it."""
        self._is_at_rest = False
        self._listing: Listing | None = None

    def path(self, name: str) -> str:
        """Return the path of a file in this folder, as its file system spells it."""
        return f"{self.root}/{name}" if name else self.root

    def path_url(self, name: str) -> str:
        """Return the URL of a file in this folder, for people and other libraries."""
        return f"{self.url}/{name}"

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Tell what is here from one listing while the block runs: nobody else writes here.

        Of a local folder, which is asked each time, this does nothing.
        """
        with self._resting(is_at_rest=True):
            yield

    @contextmanager
    def at_work(self, todo: Sized | None = None) -> Iterator[None]:
        """Let others write here while the block runs, which may be in one of `at_rest`.

        Args:
            todo: What they do; where that is nothing, nobody writes.
        """
        is_idle = todo is not None and not len(todo)
        with self._resting(is_at_rest=is_idle and self._is_at_rest):
            yield

    @contextmanager
    def _resting(self, *, is_at_rest: bool) -> Iterator[None]:
        before = self._is_at_rest
        self._is_at_rest = is_at_rest = is_at_rest and not self.is_local
        self._listing = self._listing if before and is_at_rest else None
        try:
            yield
        finally:
            self._listing = self._listing if before and is_at_rest else None
            self._is_at_rest = before

    @property
    def known(self) -> Listing | None:
        """What is here, while nobody else writes; None if that has to be asked."""
        lister = self.lister
        if lister._listing is None and lister._is_at_rest:
            lister._listing = Listing(lister.objects.listed(lister.root))
        return lister._listing

    def exists(self, name: str) -> bool:
        """Say whether there is a file or folder of that name."""
        known = self.known
        return self.objects.exists(self.path(name)) if known is None else known.has(self.path(name))

    def has_file(self, name: str) -> bool:
        """Say whether there is a file of that name."""
        known, path = self.known, self.path(name)
        return self.objects.is_file(path) if known is None else path in known.files

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """List what is in a sub-folder, sorted; nothing if there is no such folder.

        Args:
            folder: The sub-folder.
            prefix: What the names begin with that are listed.
        """
        known, path = self.known, self.path(folder)
        found = self.objects.names(path, prefix) if known is None else known.names(path)
        return sorted(name for name in found if name.startswith(prefix))

    def files(self, folder: str = "") -> dict[str, Entry]:
        """Return what is below a sub-folder, however deep, by its name there."""
        known, path = self.known, self.path(folder)
        found = self.objects.listed(path) if known is None else known.below(path)
        return {file[len(path) + 1 :]: entry for file, entry in found}

    def read_bytes(self, name: str, entry: Entry | None = None) -> bytes:
        """Return a file's content.

        Args:
            name: The file's.
            entry: As a listing has it, which tells whether a copy here is the same.
        """
        known, path = self.known, self.path(name)
        if known is not None and (entry := known.files.get(path)) is None:
            raise FileNotFoundError(self.path_url(name))
        if entry is None:
            return self.objects.read(path)
        content = node_cache.kept(self._key(path, entry), entry.size) if entry.stamp else None
        if content is None:
            content = self.objects.read(path)
            self._keep(path, entry, content)
        return content

    def _key(self, path: str, entry: Entry) -> str:
        return content_id([self.fs.unstrip_protocol(path), entry.stamp, entry.size])

    def _keep(self, path: str, entry: Entry, content: bytes) -> None:
        """Have what was read or written nearer the next time."""
        if entry.stamp and len(content) == entry.size:
            node_cache.keep(self._key(path, entry), content)

    def write_bytes(self, name: str, content: bytes, *, is_read_again: bool = False) -> None:
        """Write a file, whole or not at all; one that is known to be there is left as it is.

        Args:
            name: The file's.
            content: Of the file.
            is_read_again: Whether this machine is to keep a copy of what goes elsewhere.
        """
        known, path = self.known, self.path(name)
        if known is not None:
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()  # as S3 stamps files
            if known.files.get(path) == Entry(len(content), digest):
                return
        entry = Entry(len(content), self._write(path, content))
        if known is not None:
            known.add(path, entry)
        if is_read_again:
            self._keep(path, entry, content)

    def _write(self, path: str, content: bytes) -> str:
        """Write a file, under a temporary name at first where half of it could be seen."""
        if self.objects.writes_whole:
            return self.objects.write(path, content)
        temporary = f"{path}.tmp-{uuid.uuid4().hex[:8]}"
        self.fs.makedirs(str(Path(path).parent), exist_ok=True)
        try:
            self.fs.pipe_file(temporary, content)
            if self.is_local:
                os.replace(temporary, path)  # noqa: PTH105 - works on folders and is atomic
            else:
                self.fs.mv(temporary, path, recursive=True)
        except BaseException:
            with suppress(OSError):  # a full disk must not stay full of half a file
                self.fs.rm(temporary)
            raise
        return ""

    def remove(self, name: str) -> None:
        """Delete a file or folder if it is there."""
        known, path = self.known, self.path(name)
        if known is None or known.has(path):
            self.objects.remove(path)
        if known is not None:
            known.remove(path)

    def remove_file(self, name: str) -> None:
        """Delete a file if it is there."""
        self.remove_files([name])

    def remove_files(self, names: Sequence[str]) -> None:
        """Delete files if they are there, one after the other or by few requests."""
        known, paths = self.known, [self.path(name) for name in names]
        self.objects.remove_files([p for p in paths if known is None or p in known.files])
        if known is not None:
            for path in paths:
                known.remove(path)

    def read_json(self, name: str, entry: Entry | None = None) -> Any:
        """Return a JSON file's value; see `read_bytes`.

        Raises:
            StoreError: If it is missing or does not parse.
        """
        try:
            return json.loads(self.read_bytes(name, entry))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.path_url(name)}: is missing. Run the command that writes it again."
            ) from error
        except ValueError as error:
            raise StoreError(f"{self.path_url(name)}: is not JSON ({error}). Delete it.") from error

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
        except Exception as error:
            raise refusal(self.url, error, "written to") from error
