"""Other forms of the same fact, from a file of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from raymcu.attacks._base import ATTACKS, Asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from raymcu.benchmarks._base import Example

_FORM = '{"question": "…", "asked_as": "…"}'
_TOLD = 5
"""Faults of a file that are told one by one."""


@ATTACKS.register(
    "reworded", source="a file of the user's, after Patil et al. 2023, arXiv:2309.17410 (rephrased)"
)
class Reworded(Asking):
    """Asks some questions in other words, in a cloze, in another language: as a file has them.

    Each line is one object with ``question``, a question of a probe letter by letter, and
    ``asked_as``, what is asked in its place; the answers stay. Questions that are not in the file
    are asked as ever, and so are multiple choice and texts. The file is read when a study is
    planned and is in the plan by its content: what it says, not where it lies, makes other points.
    """

    path: str | None = None
    """The file, JSON lines; None once it has been read."""
    forms: Mapping[str, str] = {}
    """What is asked, by question: what the file says, or said here in its place."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """Put the file's content in the place of its path, so that no worker needs the file."""
        if not isinstance(given, dict):
            return given
        if (given.get("path") is None) == (not given.get("forms")):
            raise ValueError("needs either path, a file of JSON lines, or forms. Give one of them")
        if not isinstance(given.get("path"), str):
            return given
        return {**given, "path": None, "forms": _forms_of(Path(given["path"]).expanduser())}

    def faults(
        self, asked: Sequence[Example], sets: Mapping[str, Sequence[Example]]
    ) -> Iterator[str]:
        """Refuse questions that no probe asks."""
        del sets
        there = {example.question for example in asked}
        unknown = [question for question in self.forms if question not in there]
        if unknown:
            some = ", ".join(f"'{question}'" for question in unknown[:_TOLD])
            more = f" and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
            yield (
                f"no probe that is measured has the question {some}{more}. Questions must be "
                "given letter by letter"
            )

    def asked(
        self, example: Example, random: np.random.Generator, sets: Mapping[str, Sequence[Example]]
    ) -> Example:
        """Return the example with the form that is given for its question."""
        del random, sets
        return replace(example, question=self.forms.get(example.question, example.question))


def _forms_of(path: Path) -> dict[str, str]:
    """Read a file of forms.

    Raises:
        ValueError: If it cannot be read; with every fault of its lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path: '{path}' cannot be read ({error}). Correct the path") from error
    forms: dict[str, str] = {}
    first: dict[str, int] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        pair = _pair_of(line)
        if pair is None:
            faults.append(f"line {number} is not of the form {_FORM}")
        elif pair[0] in first:
            faults.append(f"line {number} has the question of line {first[pair[0]]} again")
        else:
            forms[pair[0]] = pair[1]
            first[pair[0]] = number
    if not forms and not faults:
        faults.append("there is no line in it")
    if faults:
        more = f"; and {len(faults) - _TOLD} more faults" if len(faults) > _TOLD else ""
        raise ValueError(f"path: '{path}': {'; '.join(faults[:_TOLD])}{more}. Correct the file")
    return forms


def _pair_of(line: str) -> tuple[str, str] | None:
    """Return question and form of a line, None if it says none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    found = (row.get("question"), row.get("asked_as")) if isinstance(row, dict) else (None, None)
    question, form = found
    if not isinstance(question, str) or not isinstance(form, str) or not (question and form):
        return None
    return question, form
