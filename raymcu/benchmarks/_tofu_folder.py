"""TOFU from a local folder."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from raymcu.benchmarks._base import Example, Facts, fingerprint, set_facts
from raymcu.benchmarks._files import Files, file_rows, files_of, missing, stamped
from raymcu.benchmarks._tofu_rows import CONFIGS, OWN_CONTENT, REMEDY, examples, mismatches
from raymcu.errors import ConfigError

REFUSALS = "idontknow"
"""TOFU's file of refusals, ``idontknow.jsonl``: one sentence a line, in quotes or not. Optional."""
_OWN_LIST = "Without the file, raymcu's own list is used."

Sets = Mapping[str, Sequence[Example]]


def folder_sets(folder: Path) -> Sets:
    """Return the rows of every config, read again only if a file changed.

    Raises:
        ConfigError: With every fault of every file.
    """
    return _sets(_files(folder))


def folder_facts(folder: Path) -> Facts:
    """Return a hash of the rows (the same for every file format) and the sizes of all configs.

    Raises:
        ConfigError: With every fault of every file.
    """
    return _facts(_files(folder))


def folder_refusals(folder: Path) -> Sequence[str]:
    """Return the folder's own ways to say "I don't know"; none if it has no such file.

    Raises:
        ConfigError: With every fault of every file.
    """
    return [row.answer for row in folder_sets(folder).get(REFUSALS, ())]


def _files(folder: Path) -> Files:
    found = {config: files_of(folder, config) for config in CONFIGS}
    lacking = [config for config, files in found.items() if not files]
    if len(lacking) == len(CONFIGS):
        raise ConfigError(
            f"{folder}: holds no file of TOFU. Expected one file per config, e.g. "
            f"{folder / 'full.jsonl'}. {REMEDY}"
        )
    refusals = folder / f"{REFUSALS}.jsonl"
    if refusals.is_file():
        found[REFUSALS] = [refusals]
    readable = stamped({config: files for config, files in found.items() if files})
    if lacking:
        faults = [missing(folder, config, REMEDY) for config in lacking]
        raise ConfigError(faults + _read(readable)[1])
    return readable


@lru_cache(maxsize=2)
def _sets(files: Files) -> Sets:
    sets, faults = _read(files)
    if faults:
        raise ConfigError(faults)
    return sets


@lru_cache(maxsize=2)
def _facts(files: Files) -> Facts:
    sets = _sets(files)
    content = fingerprint(
        {config: sets[config] for config in (*OWN_CONTENT, REFUSALS) if config in sets}
    )
    return Facts(content, {config: set_facts(sets[config]) for config in CONFIGS})


def _read(files: Files) -> tuple[Sets, list[str]]:
    sets: dict[str, list[Example]] = {}
    where: dict[str, str] = {}
    faults: list[str] = []
    for config, parts in files:
        paths = [Path(path) for path, _, _ in parts]
        where[config] = str(paths[0] if len(paths) == 1 else paths[0].parent)
        try:
            if config == REFUSALS:
                sets[config] = _refusals(paths[0])
                continue
            rows = [row for path in paths for row in file_rows(path, REMEDY)]
        except ConfigError as error:
            faults += error.faults
            continue
        sets[config], of_rows = examples(rows, config, where[config])
        faults += of_rows
    return sets, faults + list(mismatches(sets, where))


def _refusals(path: Path) -> list[Example]:
    """Read one sentence a line, as a text without a question each."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). {REMEDY}") from error
    sentences: list[Example] = []
    faults = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        sentence: Any = line
        if line.startswith(('"', "{", "[")):
            try:
                sentence = json.loads(line)
            except json.JSONDecodeError:
                sentence = None
        if not isinstance(sentence, str):
            faults.append(
                f"{path}: line {number} ({line!r}) is not a sentence, plain or in double quotes. "
                f"Correct it. {_OWN_LIST}"
            )
        elif sentence.strip():
            sentences.append(Example("", sentence.strip()))
    if not sentences and not faults:
        faults.append(f"{path}: holds no sentence. Write one refusal a line. {_OWN_LIST}")
    if faults:
        raise ConfigError(faults)
    return sentences
