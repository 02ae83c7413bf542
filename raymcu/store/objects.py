"""What a run folder asks of the place it lies in; of an S3 bucket by one request each.

fsspec speaks to every kind of place, but asks a bucket more than once for most things, and cannot
write under a condition.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from raymcu.errors import ConfigError

_WRITTEN_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
"""Protocols by which a file that is written appears whole or not at all."""


@dataclass(frozen=True)
class Entry:
    """A file that is there."""

    size: int
    stamp: str
    """Another one for another content, e.g. an ETag; empty if the place has none."""


@dataclass(frozen=True)
class Seen:
    """A file as it was once."""

    content: bytes
    stamp: str
    age_s: float | None = None
    """Seconds since it was written, by the clock of its place; None if that tells none."""


class Objects:
    """Any place that fsspec opens."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs
        names = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.writes_whole = bool(names & _WRITTEN_WHOLE)

    def listed(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield the path of every file below a folder, however deep; nothing without the folder."""
        for name, told in self.fs.find(path, detail=True).items():
            yield str(name), _entry(told)

    def names(self, path: str, prefix: str = "") -> list[str]:
        """List what is in a folder, by name, or more than begins so; nothing without the folder."""
        try:
            found = self.fs.ls(path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in found]

    def is_file(self, path: str) -> bool:
        """Say whether there is such a file."""
        return bool(self.fs.isfile(path))

    def exists(self, path: str) -> bool:
        """Say whether there is such a file or folder."""
        return bool(self.fs.exists(path))

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return bytes(self.fs.cat_file(path))

    def seen(self, path: str) -> Seen:
        """Return a file as it is.

        Raises:
            FileNotFoundError: If there is none.
        """
        return Seen(self.read(path), "", None)

    def write(self, path: str, content: bytes) -> str:
        """Write a file; return its stamp."""
        self.fs.pipe_file(path, content)
        return ""

    def remove(self, path: str) -> None:
        """Delete a file or folder, if it is there."""
        if self.fs.exists(path):
            with suppress(FileNotFoundError):  # somebody else was first
                self.fs.rm(path, recursive=True)

    def remove_files(self, paths: Sequence[str]) -> None:
        """Delete files if they are there."""
        for path in paths:
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)

    def write_new(self, path: str, content: bytes) -> str:
        """Write a file that nobody has written; return its stamp.

        Raises:
            FileExistsError: If it is there.
        """
        self.fs.pipe_file(path, content, mode="create")
        return ""

    def write_over(self, path: str, content: bytes, before: Seen) -> str:
        """Write a file in place of what was seen of it before; return its stamp.

        Here one that another writes in between is lost, which it sees when it looks again.

        Raises:
            FileExistsError: If another content is there by now, or none.
        """
        try:
            now = self.seen(path).content
        except FileNotFoundError:
            now = None
        if now != before.content:
            raise FileExistsError(path)
        return self.write(path, content)


class Bucket(Objects):
    """A bucket of S3, or of what speaks its language, by s3fs.

    Raises:
        ConfigError: If there is no such bucket.
    """

    page = 1000
    """Files that one request lists or deletes."""

    def _pages(self, prefix: str, **options: Any) -> Iterator[Mapping[str, Any]]:
        bucket, _, key = prefix.partition("/")
        asked = {"Bucket": bucket, "Prefix": key, "MaxKeys": self.page, **options}
        while True:
            try:
                page = self.fs.call_s3("list_objects_v2", **asked)
            except FileNotFoundError as error:
                url = self.fs.unstrip_protocol(prefix).rstrip("/")
                raise refusal(url, error, "read") from error
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def listed(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield the path of every file below a folder, however deep."""
        bucket = path.partition("/")[0]
        for page in self._pages(_below(path)):
            for told in page.get("Contents", ()):
                if not told["Key"].endswith("/"):  # which some tools make for a folder
                    yield f"{bucket}/{told['Key']}", Entry(told["Size"], told["ETag"].strip('"'))

    def names(self, path: str, prefix: str = "") -> list[str]:
        """List what is in a folder and begins so, by name; nothing without the folder."""
        found = []
        for page in self._pages(_below(path) + prefix, Delimiter="/"):
            found += [told["Key"] for told in page.get("Contents", ())]
            found += [told["Prefix"].rstrip("/") for told in page.get("CommonPrefixes", ())]
        start = len(_below(path).partition("/")[2])
        return [key[start:] for key in found if key[start:]]

    def is_file(self, path: str) -> bool:
        """Say whether there is such a file."""
        bucket, key = path.split("/", 1)
        try:
            self.fs.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    def exists(self, path: str) -> bool:
        """Say whether there is such a file or folder."""
        if "/" in path and self.is_file(path):
            return True
        return bool(next(self._pages(_below(path), MaxKeys=1)).get("KeyCount"))

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return bytes(self.fs.cat_file(path, max_concurrency=1))  # more would ask its size first

    def seen(self, path: str) -> Seen:
        """Return a file as it is, its age by the bucket's clock."""
        bucket, key = path.split("/", 1)
        told = self.fs.call_s3("head_object", Bucket=bucket, Key=key)
        now = parsedate_to_datetime(told["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (now - told["LastModified"]).total_seconds()
        # One that was written since has another stamp, so that it cannot be written over.
        return Seen(self.read(path), told["ETag"].strip('"'), age)

    def write(self, path: str, content: bytes) -> str:
        """Write a file; return its stamp, if it was written by one request."""
        return _stamp(self.fs.pipe_file(path, content))

    def remove(self, path: str) -> None:
        """Delete a file or folder, if it is there."""
        bucket, _, key = path.partition("/")
        found = [
            told["Key"] for page in self._pages(path) for told in page.get("Contents", ())
            if told["Key"] == key or told["Key"].startswith(f"{key}/")
        ]  # fmt: skip
        self.delete(bucket, found)

    def remove_files(self, paths: Sequence[str]) -> None:
        """Delete files if they are there, a thousand by one request."""
        if len(paths) == 1:
            super().remove_files(paths)
        elif paths:
            bucket = paths[0].partition("/")[0]
            self.delete(bucket, [path.partition("/")[2] for path in paths])

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete files that are there."""
        for first in range(0, len(keys), self.page):
            some = [{"Key": key} for key in keys[first : first + self.page]]
            told = self.fs.call_s3(
                "delete_objects", Bucket=bucket, Delete={"Objects": some, "Quiet": True}
            )
            if faults := told.get("Errors"):
                raise OSError(f"{bucket}/{faults[0]['Key']}: {faults[0]['Message']}")

    def write_new(self, path: str, content: bytes) -> str:
        """Write a file that nobody has written, by ``If-None-Match``; return its stamp."""
        return self._written_if(path, content, IfNoneMatch="*")

    def write_over(self, path: str, content: bytes, before: Seen) -> str:
        """Write a file in place of what was seen before, by ``If-Match``; return its stamp."""
        return self._written_if(path, content, IfMatch=f'"{before.stamp}"')

    def _written_if(self, path: str, content: bytes, **condition: str) -> str:
        try:
            return _stamp(self.fs.pipe_file(path, content, **condition))
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise
            raise FileExistsError(path) from error  # what was there is gone
        except OSError as error:
            if error_code(error) in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                raise FileExistsError(path) from error
            raise


def objects_of(fs: Any) -> Objects:
    """Return what asks a place."""
    return Bucket(fs) if hasattr(fs, "call_s3") else Objects(fs)


def refusal(url: str, error: BaseException, doing: str) -> ConfigError:
    """Return what is said where a place does not let us in.

    Args:
        url: The folder.
        error: What its file system raised.
        doing: What cannot be done, e.g. ``written to``.
    """
    code, bucket = error_code(error), url.partition("://")[2].partition("/")[0]
    if code == "NoSuchBucket":
        return ConfigError(
            f"{url}: there is no bucket '{bucket}'. Make it (`aws s3 mb s3://{bucket}`), or give "
            "another place."
        )
    told = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
        told = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if code == "NotImplemented":
        told = "it does not know writes under a condition (If-None-Match), which keep two drivers "
        told += "apart; newer releases of most object stores do"
    return ConfigError(
        f"{url}: cannot be {doing} ({told.rstrip('.')}). Give another folder with --out."
    )


def error_code(error: BaseException) -> str:
    """Return S3's word for an error; empty if it has none."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str((response or {}).get("Error", {}).get("Code", ""))


def _entry(told: Mapping[str, Any]) -> Entry:
    stamps = (told.get(key) for key in ("ETag", "etag", "generation", "mtime", "created"))
    return Entry(int(told.get("size") or 0), str(next((s for s in stamps if s), "")))


def _stamp(told: Any) -> str:
    return str(told["ETag"]).strip('"') if told else ""


def _below(path: str) -> str:
    return path.rstrip("/") + "/"
