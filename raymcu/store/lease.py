"""One driver at a time: a lock on a local folder, a lease on one behind a URL; and who holds it.

A lock is the operating system's, so a killed driver leaves none behind. A lease is a file that its
holder writes again and again, each time on condition that nobody else has; one that was not
written for a while may be taken over, on the same condition.
"""

import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raymcu.errors import ConfigError, RaymcuError, StoreError
from raymcu.store.folders import Folder
from raymcu.store.objects import Seen, refusal

NAME = ".lock"
LASTS_S = 120.0
"""Seconds after which a lease that nobody renewed may be taken over."""
RENEWALS = 4
"""Renewals in that time."""


@contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Keep a second driver out of a folder while the block runs.

    Raises:
        ConfigError: If another driver is at work there, or it cannot be written to.
        StoreError: If the lease was lost: after a long silence another driver has it.
    """
    with _locked(folder) if folder.is_local else _leased(folder):
        yield


@contextmanager
def _locked(folder: Folder) -> Iterator[None]:
    with Path(folder.path(NAME)).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _busy(folder.url, file.read()) from error
        except OSError as error:
            raise ConfigError(
                f"{folder.url}: cannot be locked ({error.strerror}). "
                "Give a folder on a file system with locks, with --out."
            ) from error
        file.truncate(0)
        file.write(_ourselves(""))
        file.flush()
        yield


@contextmanager
def _leased(folder: Folder) -> Iterator[None]:
    lease = _Lease(folder)
    lease.take()
    renewing = threading.Thread(target=lease.renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    except KeyboardInterrupt:
        if lease.loss is not None:
            raise lease.loss from None
        raise
    finally:
        lease.over.set()
        renewing.join()
        lease.leave()
    if lease.loss is not None:
        raise lease.loss


class _Lease:
    """A lease on a folder behind a URL."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.path = folder.path(NAME)
        self.token = uuid.uuid4().hex
        self.over = threading.Event()
        self.loss: RaymcuError | None = None
        self.ours = Seen(b"", "")

    def take(self) -> None:
        """Write the lease where there is none, or none that is held."""
        content = self._content()
        try:
            self.ours = Seen(content, self.folder.objects.write_new(self.path, content))
        except FileExistsError as error:
            self._take_over(error)
        except Exception as error:
            raise refusal(self.folder.url, error, "written to") from error

    def _take_over(self, error: Exception) -> None:
        content = self._content()
        try:
            there = self.folder.objects.seen(self.path)
            if left := _seconds_left(there):
                raise _busy(self.folder.url, there.content.decode(errors="replace"), left)
            stamp = self.folder.objects.write_over(self.path, content, there)
        except (FileExistsError, FileNotFoundError):  # another has taken it over, or just left
            raise _busy(self.folder.url, "") from error
        self.ours = Seen(content, stamp)

    def renew(self) -> None:
        """Write the lease again and again; where it is lost, interrupt the main thread."""
        renewed = time.monotonic()
        while not self.over.wait(LASTS_S / RENEWALS):
            content, began = self._content(), time.monotonic()
            try:
                stamp = self.folder.objects.write_over(self.path, content, self.ours)
            except FileExistsError:
                if self._is_there():  # the answer to an earlier try did not arrive
                    renewed = began
                    continue
                self._lose("another raymcu has taken it over")
            except Exception as error:  # noqa: BLE001 - a network may come back
                if time.monotonic() - renewed > LASTS_S:
                    self._lose(f"it could not be renewed ({error})")
            else:
                self.ours, renewed = Seen(content, stamp), began
            if self.loss is not None:
                return

    def _is_there(self) -> bool:
        """Say whether what is there was written by us; if so it is what we renew next."""
        with suppress(Exception):
            there = self.folder.objects.seen(self.path)
            if _read(there.content).get("token") == self.token:
                self.ours = there
                return True
        return False

    def _lose(self, why: str) -> None:
        self.loss = StoreError(
            f"{self.folder.url}: this raymcu no longer holds its lease on the folder: {why}. "
            "Nothing is lost; see what is at work there with `raymcu status`, then run the same "
            "command again."
        )
        os.kill(os.getpid(), signal.SIGINT)

    def leave(self) -> None:
        """Delete the lease, if it is ours."""
        if self.loss is None:
            with suppress(Exception):  # then it ends by itself
                self.folder.fs.rm_file(self.path)

    def _content(self) -> bytes:
        return _ourselves(self.token).encode()


def _ourselves(token: str) -> str:
    """Say who we are, and when this is."""
    told = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": _STARTED.isoformat(timespec="seconds"),
        "place": _place(),
        "token": token,
        "renewed": time.time(),
    }
    return json.dumps(told)


_STARTED = datetime.now(UTC)


def _place() -> str:
    """Name where process ids are unique: this machine since it started, or a container on it."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _seconds_left(there: Seen) -> float:
    """Return for how long a lease still keeps others out; 0 if it does not."""
    told = _read(there.content)
    if told.get("place") and told["place"] == _place() and not _lives(int(told["pid"])):
        return 0.0
    age = time.time() - float(told.get("renewed", 0.0)) if there.age_s is None else there.age_s
    return max(0.0, LASTS_S - age)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(content: bytes | str) -> Mapping[str, Any]:
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _busy(url: str, content: str, left: float | None = None) -> ConfigError:
    told = _read(content)
    who = f" (process {told['pid']} on {told['host']}, since {told['since']})" if told else ""
    ends = (
        ""
        if left is None
        else f" If it was killed, its lease ends by itself in {left:.0f} s: run the same command "
        "again then."
    )
    return ConfigError(
        f"{url}: another raymcu is running there{who}. Wait for it, watch it with "
        f"`raymcu status {url}`, or give another folder with --out.{ends}"
    )
