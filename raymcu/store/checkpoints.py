"""Checkpoints by id, each whole or not there at all: manifests, resumable states, local copies.

A checkpoint is done when its manifest exists and the sizes in it match; the manifest is the last
file to appear.
"""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raymcu.errors import StoreError
from raymcu.store import node_cache
from raymcu.store.folders import Folder
from raymcu.store.ids import content_id
from raymcu.store.objects import Entry

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
        if self.folder.is_local and not self.folder.exists(f"{checkpoint}/{MANIFEST}"):
            return False
        there = self.folder.files(checkpoint)
        sizes = {name: entry.size for name, entry in there.items()}
        known = self.folder.known
        if known is not None and self.folder.path(_sealed(checkpoint, sizes)) in known.files:
            return True
        return MANIFEST in there and self._is_whole(checkpoint, sizes, there[MANIFEST])

    def _is_whole(self, checkpoint: str, sizes: Mapping[str, int], manifest: Entry) -> bool:
        """Compare the sizes of files with what the manifest says; never False."""
        for name, entry in self.manifest(checkpoint, manifest)["files"].items():
            if sizes.get(name) != entry["size"]:
                raise StoreError(
                    f"{self.folder.path_url(f'{checkpoint}/{name}')}: has {sizes.get(name)} bytes, "
                    f"its manifest says {entry['size']}. "
                    f"Delete {self.folder.path_url(checkpoint)} and run again to train it anew."
                )
        return True

    def manifest(self, checkpoint: str, listed: Entry | None = None) -> dict[str, Any]:
        """Return the manifest: ``files`` with size and sha256, and what the writer added.

        Args:
            checkpoint: Its id.
            listed: As a listing has it.
        """
        manifest = self.folder.read_json(f"{checkpoint}/{MANIFEST}", listed)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or not all(
            isinstance(entry, dict) and {"size", "sha256"} <= set(entry) for entry in files.values()
        ):
            place = self.folder.path_url(checkpoint)
            raise StoreError(
                f"{place}/{MANIFEST}: is not a manifest. "
                f"Delete {place} and run again to train it anew."
            )
        return dict(manifest)

    def drop_weights(self, checkpoint: str) -> None:
        """Delete the weights of a checkpoint that nothing needs any more; it stays done."""
        manifest = self.manifest(checkpoint)
        kept = {k: e for k, e in manifest["files"].items() if not k.endswith(".safetensors")}
        if len(kept) == len(manifest["files"]):
            return
        dropped = sorted(manifest["files"].keys() - kept.keys())
        self._seal(checkpoint, {**manifest, "files": kept})
        for name in dropped:
            self.folder.remove(f"{checkpoint}/{name}")

    def has_weights(self, checkpoint: str) -> bool:
        """Say whether a complete checkpoint still has its weights."""
        return any(name.endswith(".safetensors") for name in self.manifest(checkpoint)["files"])

    def verify(self, checkpoint: str) -> list[str]:
        """Re-hash every file; return a sentence for each that differs from its manifest."""
        faults = []
        there = self.folder.files(checkpoint)
        for name, entry in self.manifest(checkpoint)["files"].items():
            place = self.folder.path_url(f"{checkpoint}/{name}")
            if name not in there:
                faults.append(f"{place}: is missing.")
            elif (found := self._digest(f"{checkpoint}/{name}")) != entry["sha256"]:
                faults.append(
                    f"{place}: its sha256 is {found[:16]}…, "
                    f"its manifest says {entry['sha256'][:16]}…."
                )
        return faults

    def done(self) -> list[str]:
        """List the ids of complete checkpoints; folders with a dot are at work or left over."""
        if self.folder.is_local:
            names = [name for name in self.folder.names("") if not name.startswith(".")]
            return [name for name in names if self.folder.exists(f"{name}/{MANIFEST}")]
        found = (_split(path) for path in self.folder.files())
        return sorted(
            checkpoint
            for checkpoint, name in found
            if name == MANIFEST and not checkpoint.startswith(".") and "/" not in checkpoint
        )

    def local_dir(self, checkpoint: str) -> Path:
        """Return a local folder with the checkpoint's files, copied once if the store is remote.

        Raises:
            StoreError: If it is not in a remote store, or a file is missing or damaged there.
        """
        if self.folder.is_local:
            return Path(self.folder.path(checkpoint))
        is_state = checkpoint.startswith(".")  # of which there are several under one name
        place = self._place(checkpoint)
        if not is_state and node_cache.hold(place):
            return place
        manifest = self.manifest(checkpoint)
        place = self._place(checkpoint, manifest) if is_state else place
        if not node_cache.hold(place):
            node_cache.make_room(sum(entry["size"] for entry in manifest["files"].values()))
            arriving = Path(tempfile.mkdtemp(prefix=".arriving-", dir=place.parent))
            try:
                self._fetch(checkpoint, manifest["files"], arriving)
                _appear(arriving, place)
                node_cache.hold(place)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
        return place

    def _place(self, checkpoint: str, *more: Mapping[str, Any]) -> Path:
        """Return where this machine keeps a remote checkpoint."""
        return node_cache.place() / content_id([self.folder.url, checkpoint, *more])

    def _fetch(self, checkpoint: str, files: Mapping[str, Any], folder: Path) -> None:
        """Copy a remote checkpoint's files, and compare them with what its manifest says."""
        for name, entry in files.items():
            url = self.folder.path_url(f"{checkpoint}/{name}")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            anew = f"Delete {self.folder.path_url(checkpoint)} and run again to train it anew."
            try:
                self.folder.fs.get_file(self.folder.path(f"{checkpoint}/{name}"), str(path))
            except FileNotFoundError as error:
                raise StoreError(f"{url}: is missing. {anew}") from error
            if (size := path.stat().st_size) != entry["size"]:
                raise StoreError(
                    f"{url}: has {size} bytes, its manifest says {entry['size']}. {anew}"
                )
            if entry["sha256"] and (found := _sha256(path)) != entry["sha256"]:
                raise StoreError(
                    f"{url}: its sha256 is {found[:16]}…, its manifest says "
                    f"{entry['sha256'][:16]}…. {anew}"
                )

    @contextmanager
    def writing(self, checkpoint: str, **notes: Any) -> Iterator[Path]:
        """Give a local folder to fill; when the block ends well it becomes the checkpoint.

        Args:
            checkpoint: Its id, a sub-folder of the store.
            notes: JSON values to keep in the manifest.
        """
        parent = node_cache.place()
        if self.folder.is_local:
            parent = Path(self.folder.path(checkpoint)).parent
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
            if self.folder.is_local:
                (filling / MANIFEST).write_text(json.dumps(manifest, indent=1))
                self._publish(filling, checkpoint)
            else:
                self._send(filling, checkpoint, manifest)
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
            sizes = {file: entry.size for file, entry in self.folder.files(name).items()}
        files = {file: {"size": size, "sha256": None} for file, size in sorted(sizes.items())}
        if self.folder.is_local:
            (filling / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
            _replace_dir(filling, Path(target))
        else:
            self.folder.write_json(f"{name}/{MANIFEST}", {"files": files})

    def _publish(self, filling: Path, checkpoint: str) -> None:
        filling.chmod(0o755)  # mkdtemp made it private to this user
        _replace_dir(filling, Path(self.folder.path(checkpoint)))

    def _send(self, filling: Path, checkpoint: str, manifest: Mapping[str, Any]) -> None:
        """Copy files to a remote store, the manifest last; they become this machine's copy."""
        if self.folder.has_file(f"{checkpoint}/{MANIFEST}"):
            self.folder.remove(f"{checkpoint}/{MANIFEST}")  # first, so that it is never half a lie
            self.folder.remove(checkpoint)
        for name in manifest["files"]:
            path = self.folder.path(f"{checkpoint}/{name}")
            self.folder.fs.put_file(str(filling / name), path)
        self._seal(checkpoint, manifest)
        if not checkpoint.startswith("."):  # a state is read after a death, if ever
            place = self._place(checkpoint)
            _replace_dir(filling, place)
            node_cache.hold(place)
            node_cache.make_room(0)

    def _seal(self, checkpoint: str, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of files that are there; a listing tells that they are all."""
        content = json.dumps(manifest, indent=1).encode()
        is_kept = not checkpoint.startswith(".")
        self.folder.write_bytes(f"{checkpoint}/{MANIFEST}", content, is_read_again=is_kept)
        sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
        if not self.folder.is_local and is_kept:
            self.folder.write_bytes(_sealed(checkpoint, {**sizes, MANIFEST: len(content)}), b"")

    def _digest(self, name: str) -> str:
        with self.folder.fs.open(self.folder.path(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _split(path: str) -> tuple[str, str]:
    checkpoint, _, name = path.partition("/")
    return checkpoint, name


def _sealed(checkpoint: str, sizes: Mapping[str, int]) -> str:
    """Name a file that stands for a remote checkpoint of so many files and bytes."""
    return f".whole/{checkpoint}-{len(sizes)}-{sum(sizes.values())}"


def _appear(folder: Path, place: Path) -> None:
    """Give a folder its name, unless another process was first and may be reading its own."""
    try:
        folder.replace(place)
    except OSError:
        if not place.exists():
            raise


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
