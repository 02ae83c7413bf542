"""A folder on a disk or behind any fsspec URL, in which a file appears whole or not at all."""

import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from raymcu.errors import ConfigError, StoreError


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
