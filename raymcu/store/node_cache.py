"""What this machine has had from places behind URLs, up to a size: the last used is kept."""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

LIMIT = "RAYMCU_CACHE_GIB"
"""Environment variable: how large it may be; there is no limit without it."""
_HELD = 8
"""Folders that a process keeps others from forgetting: those it asked for last."""
_LEFT_OVER_S = 86400.0
"""Age of what a process that died was writing."""
_held: OrderedDict[Path, int] = OrderedDict()
"""By folder: what it is opened as."""


def place() -> Path:
    """Return the folder, which is this user's alone."""
    folder = Path(tempfile.gettempdir()) / f"raymcu-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def limit(gib: float | None) -> None:
    """Bound its size, for this process and all that it starts from now on; None leaves it."""
    if gib is not None:
        os.environ[LIMIT] = str(gib)


def kept(key: str, size: int) -> bytes | None:
    """Return a small file of so many bytes; None if it is not there."""
    path = place() / f"{key}.part"
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return content if len(content) == size else None


def keep(key: str, content: bytes) -> None:
    """Keep a small file, if there is room."""
    path = place() / f"{key}.part"
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    with suppress(OSError):
        temporary.write_bytes(content)
        temporary.replace(path)


def hold(folder: Path) -> bool:
    """Keep a folder while this process uses it; say whether it is there.

    Files of it that are open or mapped stay readable in any case.
    """
    if folder not in _held:
        try:
            opened = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return False
        fcntl.flock(opened, fcntl.LOCK_SH)
        _held[folder] = opened
        if len(_held) > _HELD:
            os.close(_held.popitem(last=False)[1])
    _held.move_to_end(folder)
    try:
        os.utime(folder)
    except FileNotFoundError:  # it was forgotten before it was held
        os.close(_held.pop(folder))
        return False
    return True


def make_room(needed: int) -> None:
    """Forget what nobody holds, the least recently used first, until so many bytes fit."""
    found = []
    for path in place().iterdir():
        with suppress(FileNotFoundError):  # another process forgets, too
            used = path.stat().st_mtime
            if not path.name.startswith("."):
                found.append((used, path, _size(path)))
            elif time.time() - used > _LEFT_OVER_S:
                _delete(path)
    if not (most := os.environ.get(LIMIT)):
        return
    total = needed + sum(size for *_, size in found)
    for _, path, size in sorted(found):
        if total <= float(most) * 2**30:
            return
        if _forget(path):
            total -= size


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())
    return path.stat().st_size


def _forget(path: Path) -> bool:
    """Delete a file, or a folder that no process holds, at once; say whether it is gone."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        going = path.with_name(f".going-{uuid.uuid4().hex[:8]}")
        path.replace(going)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    finally:
        os.close(opened)
    _delete(going)
    return True


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
