"""What the models now say: the questions whose greedy answers changed most, side by side.

How much an answer changed is told by ROUGE-L F1 against the reference answer, without stemming:
1 is the reference word for word. Of a classifier's input it is the probability of the true class.
"""

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.metrics.rouge import rouge_l_f1
from raymcu.report.data import REFERENCES, Study
from raymcu.report.names import export_names
from raymcu.report.page_tables import worst_point
from raymcu.store.run_folder import RunFolder

MOST_FORGET, MOST_KEPT = 6, 4
"""Questions shown of each forget set: of what is to be forgotten, and of all else."""
MOST_ENSEMBLES = 4
MOST_MODELS = 24
_MOST_READ = 2000
_LONGEST = 300
"""Characters of a text that are shown."""

Key = tuple[str, int]
"""Probe and row of an example in it."""


@dataclass(frozen=True)
class Said:
    """One answer and who gave it."""

    models: tuple[str, ...]
    text: str
    match: float
    """ROUGE-L F1 against the reference, in [0, 1]; of classifiers the lowest probability that one
    of these models gives the class."""
    highest: float
    """The same, but of classifiers the highest."""


@dataclass(frozen=True)
class Question:
    """One question with its reference answer and all that was said."""

    probe: str
    example: int
    question: str
    """Empty if the folder is from before questions were kept, or the probe is of plain texts."""
    answer: str
    said: tuple[Said, ...]
    change: float
    """How much nearer the original is to the reference than the unlearners are, on average."""
    picture: str = ""
    """A data URI, if the input is a small image."""


@dataclass(frozen=True)
class Answer:
    """What one model says to one question."""

    reference: str
    text: str
    match: float
    """What `Said` has of it."""
    right: float
    """How near it is to the reference, in [0, 1]."""


@dataclass(frozen=True)
class Answers:
    """What one model says to all questions."""

    point_id: str
    name: str
    role: str
    answers: Mapping[Key, Answer]


def read_answers(run: RunFolder, study: Study) -> dict[str, tuple[Question, ...]]:
    """Return by forget set the questions whose answers changed most; none without greedy answers.

    Raises:
        StoreError: If a measurements file is damaged.
    """
    asked = _questions(run)
    found = {}
    for size in study.forget_sizes:
        models = read_said(run, answering(study, size))
        if chosen := most_changed(models, asked.get(size, {})):
            found[size] = chosen
    return found


def read_said(run: RunFolder, told: Iterable[tuple[str, str, str]]) -> list[Answers]:
    """Return what is said of those (point, name, role) that answered anything."""
    return [
        Answers(point, name, role, answers)
        for point, name, role in told
        if run.has_part("measurements", point)
        if (answers := _answers(run.read_part("measurements", point)))
    ]


def answering(study: Study, size: str) -> list[tuple[str, str, str]]:
    """Return (point, name, role) of the models whose answers are shown, a curve's worst last."""
    hidden = ("memorizer", "random")
    ends = [e for e in study.endpoints if e.forget_size == size and e.role not in hidden]
    if sum(end.role == "ensemble" for end in ends) > MOST_ENSEMBLES:  # whose names are long
        ends = [end for end in ends if end.role != "ensemble"]
    found = [(end.point_id, end.label, end.role) for end in ends[:MOST_MODELS]]
    judged = [
        (max(row["retain_barrier"] or 0.0, row["forget_barrier"] or 0.0), curve)
        for curve in study.curves
        if curve.forget_size == size and (row := study.findings.get(curve.curve_id))
    ]
    if judged:
        _, curve = max(judged, key=lambda pair: pair[0])
        point = worst_point(curve, study.findings[curve.curve_id])
        if point is not None and point not in {known for known, _, _ in found}:
            name = export_names(study.plan)[point].removeprefix(f"{size}:")
            found.append((point, f"{name} (highest barrier)", "curve"))
    return found


def most_changed(
    models: Sequence[Answers], asked: Mapping[Key, tuple[str, str]]
) -> tuple[Question, ...]:
    """Choose the questions on which the unlearners left the original most."""
    originals = [model for model in models if model.role == "original"]
    unlearned = [m for m in models if m.role not in (*REFERENCES, "curve")]
    if not originals or not unlearned:
        return ()
    change = {}
    for key, answer in originals[0].answers.items():
        if now := [model.answers[key].right for model in unlearned if key in model.answers]:
            change[key] = answer.right - fmean(now)
    ranked = sorted(change, key=lambda key: (-abs(change[key]), key))
    lost = [key for key in ranked if key[0] in _FORGOTTEN][:MOST_FORGET]
    hurt = [key for key in ranked if key[0] not in _FORGOTTEN][:MOST_KEPT]
    chosen = [*lost[:2], *hurt[:1], *lost[2:], *hurt[1:]]  # the page folds all but the first three
    return _told(models, asked, chosen, change)


def chosen_questions(
    run: RunFolder,
    size: str,
    models: Sequence[Answers],
    chosen: Sequence[Key],
    change: Mapping[Key, float],
) -> tuple[Question, ...]:
    """Return questions of a forget set with all that models say to them.

    Args:
        run: Whose questions they are.
        size: The forget set.
        models: Who is asked.
        chosen: Which questions, in order; some model answers each.
        change: By question, how much answers changed.
    """
    return _told(models, _questions(run).get(size, {}), chosen, change)


def _told(
    models: Sequence[Answers],
    asked: Mapping[Key, tuple[str, str]],
    chosen: Sequence[Key],
    change: Mapping[Key, float],
) -> tuple[Question, ...]:
    return tuple(
        Question(
            probe=key[0],
            example=key[1],
            question=_cut(asked.get(key, ("", ""))[0]),
            answer=_cut(next(m.answers[key].reference for m in models if key in m.answers)),
            said=_said(models, key),
            change=change[key],
            picture=asked.get(key, ("", ""))[1],
        )
        for key in chosen
    )


_FORGOTTEN = ("forget", "verbmem")


def _said(models: Iterable[Answers], key: Key) -> tuple[Said, ...]:
    """Put models that say the same together, in the order of who says it first."""
    groups: dict[str, list[Answers]] = {}
    for model in models:
        if key in model.answers:
            groups.setdefault(model.answers[key].text, []).append(model)
    every = sum(model.role == "unlearner" for here in groups.values() for model in here)
    found = []
    for text, here in groups.items():
        matches = [model.answers[key].match for model in here]
        found.append(Said(_names(here, every), _cut(text), min(matches), max(matches)))
    return tuple(found)


def _names(models: Sequence[Answers], every: int) -> tuple[str, ...]:
    """Name models; all unlearners together, where they are three or more, in a word."""
    unlearners = [model.name for model in models if model.role == "unlearner"]
    if not 2 < len(unlearners) == every:
        return tuple(model.name for model in models)
    first = [model.name for model in models if model.role in REFERENCES]
    others = [m.name for m in models if m.role not in (*REFERENCES, "unlearner")]
    return (*first, f"all {every} unlearners", *others)


def _answers(measurements: pa.Table) -> dict[Key, Answer]:
    kinds = (("answer", "question"), ("label", "input"))
    is_plain = functools.reduce(pc.or_, (_is_of(measurements, *kind) for kind in kinds))
    rows = measurements.filter(pc.and_(is_plain, pc.is_valid(measurements["generation"])))
    names = ("probe", "example", "answer", "generation", "answer_kind")
    columns = [rows[name].to_pylist() for name in (*names, "logprobs", "generation_logprobs")]
    found = {}
    for probe, example, answer, said, kind, true, chosen in zip(*columns, strict=True):
        if kind == "label":
            told = Answer(answer, said, math.exp(chosen[0]), math.exp(true[0]))
        else:
            match = rouge_l_f1(answer, said, False)
            told = Answer(answer, said, match, match)
        found[probe, example] = told
    return found


def _is_of(measurements: pa.Table, answer: str, question: str) -> Any:
    return pc.and_(
        pc.equal(measurements["answer_kind"].cast(pa.string()), answer),
        pc.equal(measurements["question_kind"].cast(pa.string()), question),
    )


def _questions(run: RunFolder) -> dict[str, dict[Key, tuple[str, str]]]:
    """Return by forget set the questions and their pictures."""
    found: dict[str, dict[Key, tuple[str, str]]] = {}
    for row in run.read_table("questions").to_pylist():
        told = (row["question"], row["picture"] or "")
        found.setdefault(row["forget_size"], {})[row["probe"], row["example"]] = told
    return found


_REPEATED = re.compile(r"(?<!\S)((?:\S+ ){0,3}?\S+)(?: \1(?!\S)){3,}")


def _cut(text: str) -> str:
    """Shorten a text: words said four times and more in a row once, with their number."""

    def once(match: re.Match[str]) -> str:
        return f"{match[1]} (×{(len(match[0]) + 1) // (len(match[1]) + 1)})"

    text = _REPEATED.sub(once, " ".join(text[:_MOST_READ].split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
