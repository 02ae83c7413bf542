"""Checkpoints by id, each whole or not there at all: manifests, resumable states, local copies.

A checkpoint is done when its manifest exists and the sizes in it match; the manifest is the last
file to appear.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raymcu.errors import StoreError
from raymcu.store.folders import Folder
from raymcu.store.ids import content_id

MANIFEST = "manifest.json"


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

    def drop_weights(self, checkpoint: str) -> None:
        """Delete the weights of a checkpoint that nothing needs any more; it stays done."""
        manifest = self.manifest(checkpoint)
        kept = {k: e for k, e in manifest["files"].items() if not k.endswith(".safetensors")}
        if len(kept) == len(manifest["files"]):
            return
        dropped = sorted(manifest["files"].keys() - kept.keys())
        self.folder.write_json(f"{checkpoint}/{MANIFEST}", {**manifest, "files": kept})
        for name in dropped:
            self.folder.remove(f"{checkpoint}/{name}")

    def has_weights(self, checkpoint: str) -> bool:
        """Say whether a complete checkpoint still has its weights."""
        return any(name.endswith(".safetensors") for name in self.manifest(checkpoint)["files"])

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

    def publish_unhashed(self, filling: Path, name: str, more: Mapping[str, str]) -> None:
        """Let files that workers wrote appear at once as a folder of the store.

        The manifest says their sizes alone: to read all of them again would take its time.

        Args:
            filling: A folder beside its place; of a remote store, whose files are there already,
                any.
            name: Its name in the store.
            more: Texts to put in, by file name.
        """
        target = self.folder.path(name)
        if self.folder.is_local:
            for file, text in more.items():
                (filling / file).write_text(text)
            sizes = {path.name: path.stat().st_size for path in filling.iterdir()}
        else:
            for file, text in more.items():
                self.folder.write_bytes(f"{name}/{file}", text.encode())
            sizes = {
                file: self.folder.fs.size(f"{target}/{file}") for file in self.folder.names(name)
            }
        files = {file: {"size": size, "sha256": None} for file, size in sorted(sizes.items())}
        if self.folder.is_local:
            (filling / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
            _replace_dir(filling, Path(target))
        else:
            self.folder.write_json(f"{name}/{MANIFEST}", {"files": files})

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
