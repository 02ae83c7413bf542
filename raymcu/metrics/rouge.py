"""ROUGE-L recall of the greedy answer against the reference answer, with stemming, as TOFU does.

Source: TOFU (arXiv:2401.06121) section 2.2.2 (package ``rouge_score``, ``use_stemmer=True``,
recall). The tokens are that package's; the longest common subsequence is found with one integer
of bits per row instead of its quadratic table (Hyyrö 2004), which gives the same length. MUSE
takes F1 without stemming: another metric.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from raymcu.metrics._base import Measured, Score, metric, shared

_SOURCE = "TOFU (arXiv:2401.06121) section 2.2.2; package rouge_score, rougeL recall, stemmer"


class _Stemmer:
    """The Porter stemmer of rouge_score with a memory: stemming is most of its time."""

    def __init__(self) -> None:
        # nltk takes a second to import, which `raymcu list` and `raymcu plan` need not pay.
        from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

        self.stem = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    return _Stemmer()


@lru_cache(maxsize=1 << 15)
def _tokens(text: str) -> tuple[str, ...]:
    from rouge_score import tokenize

    return tuple(tokenize.tokenize(text, _stemmer()))


@lru_cache(maxsize=1 << 17)
def rouge_l_recall(reference: str, generation: str) -> float:
    """Return the share of the reference's tokens that are in the generation, in order.

    0 if either has no token; a reference without letters or digits scores 0 even against itself.
    """
    wanted = _tokens(reference)
    if not wanted:
        return 0.0
    if reference == generation:
        return 1.0
    return _common_length(wanted, _tokens(generation)) / len(wanted)


def _common_length(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Return the length of the longest common subsequence.

    Bit i of ``row`` is 0 where the subsequence of ``first[: i + 1]`` is one longer than that of
    ``first[:i]``, after the tokens of ``second`` so far.
    """
    where: dict[str, int] = {}
    for position, token in enumerate(first):
        where[token] = where.get(token, 0) | 1 << position
    every = (1 << len(first)) - 1
    row = every
    for token in second:
        matches = row & where.get(token, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(first) - row.bit_count()


@shared
def rouge_recall(point: Measured, probe: str) -> Score:
    """Average ROUGE-L recall over the examples of a probe that have a generation."""
    rows = point.rows(probe)
    recalls = [
        rouge_l_recall(answer, generation)
        for answer, generation in zip(rows.answer, rows.generation, strict=True)
        if generation is not None
    ]
    return Score.mean(np.array(recalls), f"generation of probe '{probe}'")


@metric(
    "forget_rouge",
    better="lower",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_SOURCE,
)
def forget_rouge(point: Measured, retrained: Measured | None) -> Score:
    """ROUGE-L recall of the generated forget answers; lower = more forgotten."""
    return rouge_recall(point, "forget")


@metric(
    "retain_rouge",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("retain",),
    source=_SOURCE,
)
def retain_rouge(point: Measured, retrained: Measured | None) -> Score:
    """ROUGE-L recall of the generated retain answers; higher = better kept."""
    return rouge_recall(point, "retain")


@metric(
    "real_authors_rouge",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("real_authors",),
    source=_SOURCE,
)
def real_authors_rouge(point: Measured, retrained: Measured | None) -> Score:
    """ROUGE-L recall of the generated answers on real authors; higher = better kept."""
    return rouge_recall(point, "real_authors")


@metric(
    "world_facts_rouge",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("world_facts",),
    source=_SOURCE,
)
def world_facts_rouge(point: Measured, retrained: Measured | None) -> Score:
    """ROUGE-L recall of the generated answers on world facts; higher = better kept."""
    return rouge_recall(point, "world_facts")
