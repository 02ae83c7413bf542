"""What is in a folder, from one listing of it."""

from collections.abc import Iterable, Iterator

from raymcu.store.objects import Entry


class Listing:
    """Files by their paths, and what is in each folder.

    Args:
        files: Path and entry of each file that is there.
    """

    def __init__(self, files: Iterable[tuple[str, Entry]]) -> None:
        self.files: dict[str, Entry] = {}
        self._inside: dict[str, dict[str, None]] = {}
        """By folder: the names in it."""
        for path, entry in files:
            self.add(path, entry)

    def add(self, path: str, entry: Entry) -> None:
        """Note that a file was written."""
        is_new = path not in self.files
        self.files[path] = entry
        while is_new and "/" in path:
            path, name = path.rsplit("/", 1)
            is_new = path not in self._inside
            self._inside.setdefault(path, {})[name] = None

    def has(self, path: str) -> bool:
        """Say whether there is such a file or folder."""
        return path in self.files or path in self._inside

    def names(self, folder: str) -> list[str]:
        """List what is in a folder, by name."""
        return list(self._inside.get(folder, ()))

    def below(self, folder: str) -> Iterator[tuple[str, Entry]]:
        """Yield every file below a folder, however deep, or the file of that path itself."""
        if folder in self.files:
            yield folder, self.files[folder]
        for name in self.names(folder):
            yield from self.below(f"{folder}/{name}")

    def remove(self, path: str) -> None:
        """Note that a file or folder was deleted."""
        for name in self.names(path):
            self.remove(f"{path}/{name}")
        self.files.pop(path, None)
        self._inside.pop(path, None)
        folder, _, name = path.rpartition("/")
        if name in self._inside.get(folder, ()):
            del self._inside[folder][name]
            if not self._inside[folder]:
                self.remove(folder)
