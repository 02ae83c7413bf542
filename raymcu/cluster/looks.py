"""What one machine of a cluster looks like from itself, and what is said of all of them."""

import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raymcu.planning.durations import gpus_here
from raymcu.store.folders import Folder

_NAMED = 3
"""Nodes that a sentence names."""


@dataclass(frozen=True)
class Checked:
    """One line of `raymcu check`."""

    subject: str
    is_good: bool | None
    """None where it cannot be told."""
    text: str


@dataclass(frozen=True)
class Note:
    """A file that whoever sees the folder can read."""

    url: str
    """Of the folder."""
    name: str
    text: str


@dataclass(frozen=True)
class Node:
    """A machine, and what was found on it."""

    address: str
    cpus: int
    gpus: int
    found: Mapping[str, Any] | None = None
    """What `look` returned; None if it did not."""
    fault: str = ""
    """Why it did not."""


@contextmanager
def note(url: str) -> Iterator[Note]:
    """Leave a note in a folder, for as long as the block runs.

    Raises:
        ConfigError: If the folder cannot be written to.
    """
    folder = Folder(url)
    is_new = not folder.exists("")
    left = Note(folder.url, f".seen-{secrets.token_hex(8)}", secrets.token_hex(16))
    folder.ensure_writable()
    folder.write_bytes(left.name, left.text.encode())
    try:
        yield left
    finally:
        folder.remove(left.name)
        if is_new and folder.is_local:
            with suppress(OSError):  # others have begun there
                Path(folder.root).rmdir()


def look(notes: Sequence[Note], store: str) -> dict[str, Any]:
    """Look around on this machine.

    Args:
        notes: What should be seen from here.
        store: URL of the checkpoint store.

    Returns:
        ``unseen`` (URLs whose note is not seen, each with a reason), ``versions``, ``free_gib`` of
        the store (None of a URL), ``memory_gib`` of the machine, ``device_gib`` of its smallest
        GPU (None without).
    """
    unseen = {}
    for left in notes:
        try:
            if Folder(left.url).read_bytes(left.name).decode() != left.text:
                unseen[left.url] = "another file is there"
        except Exception as error:  # noqa: BLE001 - whatever a file system raises is told
            unseen[left.url] = f"{type(error).__name__}: {error}".split("\n")[0]
    return {
        "unseen": unseen,
        "versions": versions(),
        "free_gib": free_gib(store),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "device_gib": gpus.gib if (gpus := gpus_here()) else None,
    }


def versions() -> dict[str, str]:
    """Return the versions that processes of one study must share."""
    major, minor, _ = platform.python_version_tuple()
    return {"Python": f"{major}.{minor}", **{name: version(name) for name in ("ray", "raymcu")}}


def free_gib(store: str) -> float | None:
    """Return the free disk of a local folder, in GiB, before it is made, too; None of a URL."""
    folder = Folder(store)
    if not folder.is_local:
        return None
    place = Path(folder.root)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 2**30


def judge(
    nodes: Sequence[Node], cpus_per_worker: int, held_gib: float | None, disk_gib: float | None
) -> Iterator[Checked]:
    """Yield a line for each thing that nodes must have.

    Args:
        nodes: All of them.
        cpus_per_worker: Of the study.
        held_gib: What one process of the largest training holds, activations aside; None if
            unknown.
        disk_gib: What is still to be written; None if unknown.
    """
    looked = [node for node in nodes if node.found is not None]
    silent = {node.address: node.fault for node in nodes if node.found is None}
    unseen = {
        node.address: "; ".join(f"{url} ({why})" for url, why in node.found["unseen"].items())
        for node in looked
        if node.found and node.found["unseen"]
    }
    yield _line("nodes", nodes, silent, "raymcu runs on", "raymcu does not run on")
    if not looked:
        return
    yield _line("folders", looked, unseen, "run folder and store are seen from", "not seen from")
    ours = versions()
    others = {
        node.address: ", ".join(f"{k} {v}" for k, v in node.found["versions"].items())
        for node in looked
        if node.found and node.found["versions"] != ours
    }
    told = ", ".join(f"{name} {number}" for name, number in ours.items())
    yield _line("versions", looked, others, f"{told} on", f"other than {told} on")
    memory = {node.address: _memory(node, cpus_per_worker) for node in looked}
    yield _room("memory", "a worker, beside activations", memory, held_gib)
    free = {node.address: node.found["free_gib"] for node in looked if node.found}
    yield _room("disk", "to be written", free, disk_gib)


def _memory(node: Node, cpus_per_worker: int) -> float | None:
    """Return the memory of one process on a node, in GiB; None where none would compute."""
    found = node.found or {}
    if node.gpus:
        return found.get("device_gib")
    workers = node.cpus // cpus_per_worker
    return found["memory_gib"] / workers if found and workers else None


def _line(
    subject: str, nodes: Sequence[object], faults: Mapping[str, str], good: str, bad: str
) -> Checked:
    """Say of how many nodes something holds, or of which it does not, and why."""
    number = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
    if not faults:
        return Checked(subject, True, f"{good} {number}")
    named = "; ".join(f"{place}: {why}" for place, why in [*faults.items()][:_NAMED])
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    return Checked(subject, False, f"{bad} {len(faults)} of {number}: {named}{more}")


def _room(
    subject: str, what: str, has: Mapping[str, float | None], needed: float | None
) -> Checked:
    """Say whether every node has as much of something, in GiB, as is needed."""
    room = {place: gib for place, gib in has.items() if gib is not None}
    if needed is None or not room:
        told = "the model's size is not known here" if needed is None else "nothing to compare with"
        return Checked(subject, None, told)
    small = {place: size(gib) for place, gib in room.items() if gib < needed}
    good = f"{size(needed)} {what}; {size(min(room.values()))} or more on"
    return _line(subject, [*room], small, good, f"{size(needed)} {what}; less on")


def size(gib: float) -> str:
    """Write a size for people."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.1f} MiB"
