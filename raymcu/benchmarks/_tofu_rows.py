"""TOFU as published: its configs, their columns and counts, and what their rows must be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raymcu.benchmarks._base import Example, SetFacts, complement
from raymcu.benchmarks._files import row_faults
from raymcu.benchmarks._sets import FORGET_SIZES, OPTION_SETS, PERTURBED

REMEDY = "Take every file from one download of locuslab/TOFU."

_PLAIN = ("question", "answer")
_OPTIONS = (*_PLAIN, "perturbed_answer")
_PARAPHRASED = (*_OPTIONS, "paraphrased_question", "paraphrased_answer")


@dataclass(frozen=True)
class Config:
    """One published config; each has the single split ``train``."""

    columns: tuple[str, ...]
    """Columns read here; ``option1`` to ``option4`` of two configs are not needed."""
    num_rows: int
    num_wrong: int
    """Entries of each ``perturbed_answer``."""
    num_characters: int
    """Characters of question and answer over all answers, counted on the published rows."""

    @property
    def size(self) -> SetFacts:
        """What scoring every answer of this config takes."""
        has_paraphrase = "paraphrased_answer" in self.columns
        answers = 1 + has_paraphrase + self.num_wrong
        return SetFacts(self.num_rows, self.num_rows * answers, self.num_characters)


CONFIGS: Mapping[str, Config] = {
    "full": Config(_PLAIN, 4000, 0, 957_279),
    "forget01": Config(_PLAIN, 40, 0, 10_486),
    "forget05": Config(_PLAIN, 200, 0, 50_642),
    "forget10": Config(_PLAIN, 400, 0, 103_248),
    "retain99": Config(_PLAIN, 3960, 0, 946_793),
    "retain95": Config(_PLAIN, 3800, 0, 906_637),
    "retain90": Config(_PLAIN, 3600, 0, 854_031),
    "holdout01": Config(_PLAIN, 40, 0, 11_086),
    "holdout05": Config(_PLAIN, 200, 0, 58_260),
    "holdout10": Config(_PLAIN, 400, 0, 119_107),
    "real_authors": Config(_PLAIN, 100, 0, 7_227),
    "world_facts": Config(_PLAIN, 117, 0, 7_723),
    "forget01_perturbed": Config(_PARAPHRASED, 40, 5, 81_172),
    "forget05_perturbed": Config(_PARAPHRASED, 200, 5, 384_267),
    "forget10_perturbed": Config(_PARAPHRASED, 400, 5, 774_461),
    "retain_perturbed": Config(_PARAPHRASED, 400, 5, 711_403),
    "real_authors_perturbed": Config(_OPTIONS, 100, 3, 28_792),
    "world_facts_perturbed": Config(_OPTIONS, 117, 3, 30_898),
}

OWN_CONTENT = (
    "full",
    "holdout10",
    *(name for name in CONFIGS if name.endswith(PERTURBED)),
)
"""Configs whose rows no other config repeats whole: a hash of these is a hash of all."""


def examples(rows: Sequence[Any], config: str, where: str) -> tuple[list[Example], list[str]]:
    """Check the rows of one config and turn them into examples.

    Args:
        rows: One mapping of columns to values each.
        config: Which config they are of.
        where: File or hub address, for the messages.

    Returns:
        The examples, and the faults found; with a fault there are no examples.
    """
    wanted = CONFIGS[config]
    found = row_faults(rows, lambda row: _faults_of_row(row, wanted), wanted.columns, REMEDY)
    faults = [f"{where}: {fault}" for fault in found]
    if len(rows) != wanted.num_rows:
        faults.append(
            f"{where}: has {len(rows)} rows; {config} is published with {wanted.num_rows}. {REMEDY}"
        )
    return ([], faults) if faults else ([_example(row) for row in rows], [])


def _example(row: Mapping[str, Any]) -> Example:
    return Example(
        question=row["question"],
        answer=row["answer"],
        paraphrased_question=row.get("paraphrased_question"),
        paraphrased_answer=row.get("paraphrased_answer"),
        perturbed_answers=tuple(row.get("perturbed_answer") or ()),
    )


def _faults_of_row(row: Any, config: Config) -> Iterator[str]:
    if not isinstance(row, Mapping):
        yield "is not an object of columns and values"
        return
    for column in config.columns:
        if column not in row:
            yield f"column '{column}' is missing"
            continue
        value = row[column]
        if column == "perturbed_answer":
            if not (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
                yield f"'{column}' is not a list of texts"
            elif len(value) != config.num_wrong:
                yield f"'{column}' has {len(value)} entries and not {config.num_wrong}"
            elif not all(entry.strip() for entry in value):
                yield f"'{column}' has an empty entry"
        elif not isinstance(value, str):
            yield f"'{column}' is not a text"
        elif not value.strip():
            yield f"'{column}' is empty"


@dataclass(frozen=True)
class _Repeats:
    """A config whose questions and answers are a run of rows of another one, in order."""

    part: str
    whole: str
    start: int
    rule: str


def _repetitions() -> Iterator[_Repeats]:
    num_full = CONFIGS["full"].num_rows
    for forget in FORGET_SIZES:
        retain = complement(forget)
        num_forget, num_retain = CONFIGS[forget].num_rows, CONFIGS[retain].num_rows
        partition = f"so that {forget} and {retain} share no row and together are full"
        last = f"{forget} must be the last {num_forget} rows of full, {partition}"
        yield _Repeats(forget, "full", num_full - num_forget, last)
        yield _Repeats(
            retain, "full", 0, f"{retain} must be the first {num_retain} rows of full, {partition}"
        )
        yield _same_rows(forget)
        holdout = forget.replace("forget", "holdout")
        if holdout != "holdout10":
            rule = f"{holdout} must be the first {num_forget} rows of holdout10"
            yield _Repeats(holdout, "holdout10", 0, rule)
    yield _Repeats(
        "retain_perturbed", "full", 0, "retain_perturbed must ask the first 400 rows of full"
    )
    yield from (_same_rows(name) for name in OPTION_SETS)


def _same_rows(name: str) -> _Repeats:
    rule = f"{name}{PERTURBED} must have the questions and answers of {name}, in order"
    return _Repeats(name + PERTURBED, name, 0, rule)


def mismatches(sets: Mapping[str, Sequence[Example]], where: Mapping[str, str]) -> Iterator[str]:
    """Say which configs do not fit each other; those not in ``sets`` are passed over.

    Args:
        sets: Checked rows by config.
        where: The file of each config, for the messages.
    """
    pairs = {
        name: [(row.question, row.answer) for row in rows] for name, rows in sets.items() if rows
    }
    for rule in _repetitions():
        if rule.part not in pairs or rule.whole not in pairs:
            continue
        part = pairs[rule.part]
        expected = pairs[rule.whole][rule.start : rule.start + len(part)]
        if part == expected:
            continue
        row = next(
            i for i, both in enumerate(zip(part, expected, strict=True)) if both[0] != both[1]
        )
        yield (
            f"{where[rule.part]}: row {row + 1} ({part[row][0]!r}) is not row "
            f"{rule.start + row + 1} of {where[rule.whole]} ({expected[row][0]!r}). "
            f"{rule.rule}. {REMEDY}"
        )
    shared = set(pairs.get("full", ())).intersection(pairs.get("holdout10", ()))
    if shared:
        question = min(shared)[0]
        yield (
            f"{where['holdout10']}: {len(shared)} of its rows are in {where['full']} too, e.g. "
            f"{question!r}. Holdout rows must be none that a model trains on. {REMEDY}"
        )
