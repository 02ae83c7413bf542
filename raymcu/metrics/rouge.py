"""ROUGE-L of the greedy answer against the reference answer.

``{probe}_rouge`` is recall with stemming: TOFU (arXiv:2401.06121) section 2.2.2. MUSE takes F1
without stemming: see ``muse.py``. Tokens and stems are those of package ``rouge_score``; the
longest common subsequence is found with one integer of bits per row instead of its quadratic table
(Hyyrö 2004), which gives the same length.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from raymcu.metrics._base import FORGOTTEN, KEPT, Measured, Score, metric_of_probes, shared


@lru_cache(maxsize=1)
def _stem() -> Callable[[str], str]:
    """Return the Porter stemmer with a memory: stemming is most of the time."""
    # nltk takes a second to import, which `raymcu list` and `raymcu plan` need not pay.
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

    stem = PorterStemmer().stem  # words of three letters stay as they are
    return lru_cache(maxsize=1 << 16)(lambda word: stem(word) if len(word) > 3 else word)


@lru_cache(maxsize=1 << 15)
def _tokens(text: str, stems: bool) -> tuple[str, ...]:
    if stems:
        return tuple(map(_stem(), _tokens(text, False)))
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


@lru_cache(maxsize=1 << 15)
def _places(text: str, stems: bool) -> dict[str, int]:
    """Return where each token of a text is, as bits."""
    where: dict[str, int] = {}
    for place, token in enumerate(_tokens(text, stems)):
        where[token] = where.get(token, 0) | 1 << place
    return where


@lru_cache(maxsize=1 << 17)
def _overlap(reference: str, generation: str, stems: bool) -> tuple[int, int, int]:
    """Return the common tokens, those of the reference and those of the generation."""
    wanted, given = _tokens(reference, stems), _tokens(generation, stems)
    if wanted == given:
        return len(wanted), len(wanted), len(given)
    return _common_length(len(wanted), _places(reference, stems), given), len(wanted), len(given)


def rouge_l_recall(reference: str, generation: str) -> float:
    """Return the share of the reference's stemmed tokens that are in the generation, in order.

    0 if either has no token; a reference without letters or digits scores 0 even against itself.
    """
    common, wanted, _ = _overlap(reference, generation, True)
    return common / wanted if common else 0.0


def rouge_l_f1(reference: str, generation: str, stems: bool) -> float:
    """Return the harmonic mean of ROUGE-L recall and precision, with or without stemming.

    0 if either has no token.
    """
    common, wanted, given = _overlap(reference, generation, stems)
    if not common:
        return 0.0
    precision, recall = common / given, common / wanted
    return 2 * precision * recall / (precision + recall)


def _common_length(length: int, places: Mapping[str, int], second: tuple[str, ...]) -> int:
    """Return the length of the longest common subsequence of two texts.

    Bit i of ``row`` is 0 where the subsequence of the first i + 1 tokens of the first text is one
    longer than that of the first i, after the tokens of ``second`` so far.
    """
    every = (1 << length) - 1
    row = every
    for token in second:
        if here := places.get(token, 0):
            matches = row & here
            row = (row + matches) | (row - matches)
    return length - (row & every).bit_count()


@metric_of_probes(
    "{probe}_rouge",
    {"forget": FORGOTTEN, "retain": KEPT, "real_authors": KEPT, "world_facts": KEPT},
    span=(0.0, 1.0),
    unit="fraction",
    source="TOFU (arXiv:2401.06121) section 2.2.2; package rouge_score, rougeL recall, stemmer",
    kind="generation",
)
@shared
def rouge_recall(point: Measured, probe: str) -> Score:
    """ROUGE-L recall of the generated answers on {probe}."""
    recalls = [rouge_l_recall(answer, said) for answer, said in generations(point, probe)]
    return Score.mean(np.array(recalls), f"generation of probe '{probe}'")


def generations(point: Measured, probe: str) -> list[tuple[str, str]]:
    """Return reference and generated answer of each example of a probe that has both."""
    rows = point.rows(probe)
    pairs = zip(rows.answer, rows.generation, strict=True)
    return [(answer, generation) for answer, generation in pairs if generation is not None]
