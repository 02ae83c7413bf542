"""What this machine has had from places behind URLs."""

import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path


def place() -> Path:
    """Return the folder, which is this user's alone."""
    folder = Path(tempfile.gettempdir()) / f"raymcu-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


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
