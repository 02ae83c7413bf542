"""Published splits: where each is, what its rows must be, how large it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from raymcu.benchmarks._base import Example, SetFacts, fingerprint, set_facts
from raymcu.benchmarks._files import (
    Files,
    file_rows,
    files_of,
    hub_place,
    hub_rows,
    missing,
    row_faults,
    stamped,
)
from raymcu.errors import ConfigError

Sets = Mapping[str, Sequence[Example]]
Check = Callable[[Any], str | None]


@dataclass(frozen=True, eq=False)
class Form:
    """What rows look like, and the example that one becomes."""

    columns: Mapping[str, Check]
    """Each with what is wrong with a value of it, or None."""
    example: Callable[[Mapping[str, Any]], Example]

    def faults(self, row: Any) -> Iterator[str]:
        """Say what is wrong with a row."""
        if not isinstance(row, Mapping):
            yield "is not an object of columns and values"
            return
        for column, check in self.columns.items():
            if column not in row:
                yield f"column '{column}' is missing"
            elif fault := check(row[column]):
                yield f"'{column}' {fault}"


def text(value: Any) -> str | None:
    """Say why a value is not a text with something in it."""
    if not isinstance(value, str):
        return "is not a text"
    return None if value.strip() else "is empty"


TEXTS = Form(
    {"text": lambda x: None if isinstance(x, str) else "is not a text"},
    lambda row: Example("", row["text"]),
)
"""Rows may also be the bare texts. Blank ones, as WikiText has them, are passed over."""
QUESTIONS = Form(
    {"question": text, "answer": text}, lambda row: Example(row["question"], row["answer"])
)


@dataclass(frozen=True)
class Split:
    """One published split."""

    name: str
    """Its file in a folder, without ending."""
    hub_id: str
    config: str | None
    split: str
    form: Form
    num_rows: int
    num_characters: int
    """About: the bytes that the dataset card gives, or the files' size."""
    revision: str = "main"
    num_answers: int = 1
    """Answers of each row that are scored."""
    is_optional: bool = False
    """Whether a folder may lack it until it is asked for."""


@dataclass(frozen=True)
class Source:
    """The splits of a benchmark, in one folder or, without one, each on the hub."""

    splits: tuple[Split, ...]
    folder: Path | None
    remedy: str
    """What to do about a fault of a file."""
    apart: tuple[tuple[str, str], ...] = ()
    """Pairs of splits that must share no row."""

    def rows(self, name: str) -> Sequence[Example]:
        """Return the rows of a split, read again only if a file of the folder changed.

        Raises:
            ConfigError: With every fault of the folder, or of the split on the hub.
        """
        if self.folder is not None:
            sets = _folder(self._files(), self)
            self.need(name)
            return sets[name]
        (split,) = (split for split in self.splits if split.name == name)
        return _hub(split, self.remedy)

    def has(self, *names: str) -> bool:
        """Say whether all those splits are there; on the hub each is."""
        return not self._lacking(names)

    def need(self, *names: str) -> None:
        """Check that those splits are there.

        Raises:
            ConfigError: Naming each that the folder lacks.
        """
        if faults := self._lacking(names):
            raise ConfigError(faults)

    def fingerprints(self) -> tuple[str, str]:
        """Name the content of the splits that must be there, and of the optional ones.

        Returns:
            A hash of a folder's rows each, the same for every file format, or hub ids.

        Raises:
            ConfigError: With every fault of the folder.
        """
        if self.folder is not None:
            return _contents(self._files(), self)
        trained, asked = (
            dict.fromkeys(f"{s.hub_id}@{s.revision}" for s in self.splits if s.is_optional == only)
            for only in (False, True)
        )
        return "+".join(trained), "+".join(asked)

    def size(self, name: str) -> SetFacts:
        """Return the size of a split: of a folder counted, of the hub about the published one.

        A folder must have it.

        Raises:
            ConfigError: With every fault of the folder.
        """
        if self.folder is not None:
            return _sizes(self._files(), self)[name]
        (split,) = (split for split in self.splits if split.name == name)
        num_answers = split.num_rows * split.num_answers
        return SetFacts(split.num_rows, num_answers, split.num_answers * split.num_characters)

    def _files(self) -> Files:
        assert self.folder is not None  # noqa: S101 - asked of folders only
        found = {split.name: files_of(self.folder, split.name) for split in self.splits}
        readable = stamped({name: files for name, files in found.items() if files})
        if faults := self._lacking(split.name for split in self.splits if not split.is_optional):
            raise ConfigError(faults + _read(readable, self)[1])
        return readable

    def _lacking(self, names: Iterable[str]) -> list[str]:
        """Name each of those splits that a folder has no file of."""
        folder = self.folder
        if folder is None:
            return []
        return [missing(folder, n, self.remedy) for n in names if not files_of(folder, n)]


def sizes_of(names: Iterable[str], size: Callable[[str], SetFacts]) -> dict[str, SetFacts]:
    """Return the size of each set.

    Raises:
        ConfigError: With the faults of all of them.
    """
    sizes: dict[str, SetFacts] = {}
    faults: list[str] = []
    for name in names:
        try:
            sizes[name] = size(name)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return sizes


@lru_cache(maxsize=16)
def _hub(split: Split, remedy: str) -> Sequence[Example]:
    place = (split.hub_id, split.config, split.split, split.revision)
    found, faults = _examples(hub_rows(*place), split.form, hub_place(*place), remedy)
    if faults:
        raise ConfigError(faults)
    return found


@lru_cache(maxsize=2)
def _folder(files: Files, source: Source) -> Sets:
    sets, faults = _read(files, source)
    if faults:
        raise ConfigError(faults)
    return sets


@lru_cache(maxsize=2)
def _contents(files: Files, source: Source) -> tuple[str, str]:
    sets = _folder(files, source)
    asked = {split.name for split in source.splits if split.is_optional}
    return (
        fingerprint({name: rows for name, rows in sets.items() if name not in asked}),
        fingerprint({name: rows for name, rows in sets.items() if name in asked}),
    )


@lru_cache(maxsize=2)
def _sizes(files: Files, source: Source) -> Mapping[str, SetFacts]:
    return {name: set_facts(rows) for name, rows in _folder(files, source).items()}


def _read(files: Files, source: Source) -> tuple[Sets, list[str]]:
    forms = {split.name: split.form for split in source.splits}
    sets: dict[str, Sequence[Example]] = {}
    where: dict[str, str] = {}
    faults: list[str] = []
    for name, parts in files:
        paths = [Path(path) for path, _, _ in parts]
        where[name] = str(paths[0] if len(paths) == 1 else paths[0].parent)
        try:
            rows = [row for path in paths for row in file_rows(path, source.remedy)]
        except ConfigError as error:
            faults += error.faults
            continue
        sets[name], of_rows = _examples(rows, forms[name], where[name], source.remedy)
        faults += of_rows
    for one, other in source.apart:
        shared = {row.answer for row in sets.get(one, ())} & {r.answer for r in sets.get(other, ())}
        if shared:
            faults.append(
                f"{where[one]}: {len(shared)} of its rows are in {where[other]} too, e.g. "
                f"{min(shared)[:60]!r}. What is forgotten must not be kept. {source.remedy}"
            )
    return sets, faults


def _examples(
    rows: Sequence[Any], form: Form, where: str, remedy: str
) -> tuple[list[Example], list[str]]:
    if "text" in form.columns:
        rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    faults = [f"{where}: {f}" for f in row_faults(rows, form.faults, form.columns, remedy)]
    if faults:
        return [], faults
    found = [example for row in rows if (example := form.example(row)).answer.strip()]
    if not found:
        return [], [f"{where}: holds no row, or blank ones only. {remedy}"]
    return found, []
