"""A study in one file: a zip of its run folder, with the hash of everything in it.

The file holds what was asked, tables, report and, if wanted, checkpoints, wherever those are kept.
What only a machine at work needs (locks, states to resume from, logs of Ray) is left out. Equal
studies make equal files.
"""

import hashlib
import json
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from raymcu.errors import ConfigError, StoreError
from raymcu.store.folders import Folder
from raymcu.store.run_folder import RunFolder

MANIFEST = "packed.json"
_PACKED = ("search_space.toml", "plan.json", "run.json", "optuna.db", "tables/", "report/")
_CHUNK = 2**22
_DATED = (1980, 1, 1, 0, 0, 0)


def pack(run: RunFolder, file: Path, *, with_checkpoints: bool) -> dict[str, int]:
    """Write a study into one file, whole or not at all.

    Args:
        run: A study that nobody works at.
        file: Where to; must not be there.
        with_checkpoints: Whether its models are packed, too, and not only what was found.

    Returns:
        ``files`` and ``bytes``, how many.

    Raises:
        ConfigError: If the file is there already, or a driver is at work in the run folder.
    """
    if file.exists():
        raise ConfigError(f"{file}: is there already. Delete it, or give another name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp-{uuid.uuid4().hex[:8]}")
    entries: dict[str, dict[str, Any]] = {}
    try:
        with run.lock(), zipfile.ZipFile(temporary, "w") as packed:
            plan = {**run.plan, "store": None}  # the models are beside it now
            content = (json.dumps(plan, indent=1, ensure_ascii=False) + "\n").encode()
            for name, folder, path in sorted(_files(run, with_checkpoints), key=lambda one: one[0]):
                with packed.open(_info(name), "w", force_zip64=True) as sink:
                    if name == "plan.json":
                        sink.write(content)
                        digest, size = hashlib.sha256(content).hexdigest(), len(content)
                    else:
                        with folder.fs.open(path, "rb") as source:
                            digest, size = _copied(source, sink)
                entries[name] = {"size": size, "sha256": digest}
            about = {"name": plan["name"], "plan_id": plan["plan_id"], "files": entries}
            with packed.open(_info(MANIFEST), "w") as sink:
                sink.write(json.dumps(about, indent=1).encode())
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)
    return {"files": len(entries), "bytes": file.stat().st_size}


def _files(run: RunFolder, with_checkpoints: bool) -> Iterator[tuple[str, Folder, str]]:
    """Yield what is packed: its name there, the folder that it is in, its path."""
    for path in run.fs.find(run.root):
        name = str(path)[len(run.root) :].lstrip("/")
        if name.startswith(_PACKED) and ".tmp-" not in name:
            yield name, run, path
    if with_checkpoints:
        store = run.checkpoints.folder
        done = set(run.checkpoints.done())
        for recipe in run.plan["recipes"]:
            if recipe["id"] in done:
                for path in store.fs.find(store.path(recipe["id"])):
                    yield "checkpoints" + str(path)[len(store.root) :], store, path


def _info(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _DATED)  # stored: Parquet, PNG and weights are compressed or dense


def _copied(source: IO[bytes], sink: IO[bytes]) -> tuple[str, int]:
    """Copy, and return the sha256 and the number of bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        sink.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def unpack(file: Path, folder: Path) -> int:
    """Make the run folder that a file was packed from; return the number of files.

    Nothing appears unless every byte is as it was packed.

    Raises:
        ConfigError: If the folder is there and holds something, or the file is no packed study.
        StoreError: If something in it is missing, damaged or not listed; lists every fault.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty. Give a new folder.")
    temporary = folder.with_name(f".{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        with zipfile.ZipFile(file) as packed:
            files = _manifest(packed, file)
            if faults := _unpacked(packed, files, temporary):
                raise StoreError(
                    f"{file}: is not as it was packed: {'; '.join(faults[:5])}"
                    f"{f' and {len(faults) - 5} more' if len(faults) > 5 else ''}. Copy it again."
                )
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file}: cannot be unpacked ({error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(files)


def _manifest(packed: zipfile.ZipFile, file: Path) -> dict[str, dict[str, Any]]:
    if MANIFEST not in packed.namelist():
        raise ConfigError(
            f"{file}: is no packed study: it has no {MANIFEST}. `raymcu pack` makes one."
        )
    try:
        return dict(json.loads(packed.read(MANIFEST))["files"])
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{file}: its {MANIFEST} is damaged ({error}). Copy it again.") from error


def _unpacked(packed: zipfile.ZipFile, files: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """Write the listed files; return what is wrong with any."""
    there = set(packed.namelist()) - {MANIFEST}
    faults = [f"{name} is not listed" for name in sorted(there - set(files))]
    for name, entry in files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or {"..", "."} & set(parts) or "\\" in name:
            faults.append(f"{name} would lie outside of the folder")
            continue
        if name not in there:
            faults.append(f"{name} is missing")
            continue
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with packed.open(name) as source, path.open("wb") as sink:
                digest, size = _copied(source, sink)
        except zipfile.BadZipFile:
            faults.append(f"{name} is damaged")
            continue
        if (digest, size) != (entry["sha256"], entry["size"]):
            faults.append(f"{name} has another content")
    return faults
