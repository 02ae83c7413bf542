"""Extraction strength and exact memorisation, from the teacher-forced hits of one pass.

Extraction strength (Carlini et al. 2021, arXiv:2012.07805) is 1 - k*/L: of an answer of L tokens,
k* is the shortest prefix after which greedy decoding reproduces the rest. Decoding does so iff
the teacher-forced argmax is right at every position from k* on, so k* is one past the last
mismatch: no generation is needed. EOS counts as a token, since the model has to stop. Exact
memorisation (Tirumala et al. 2022, arXiv:2205.10770) is the share of answer positions hit.

``*_perturb`` asks the paraphrased question and expects the same answer. The variants:

- ``*_ou``, OpenUnlearning (open-unlearning at d3d7cf9): the last label is dropped as EOS,
  whatever it is; a total miss scores 1/L, never 0.
- ``*_satimp``, SatImp (``eval_es.py`` at 51314c0): the definition without EOS, which its texts do
  not have.
- ``*_uwc``, UWC (``evaluation_everything.py`` at 56e075b): greedy generation from a prefix that
  binary search makes shorter while the generation matches. Replayed as written: a generation
  that ends early matches, as only what it has is compared, so the search may miss the shortest
  prefix; the prefix may end inside the prompt, and the score is 1 - (m - l) / (r - l) with m its
  length, l that of the bare question and r that of prompt and answer without EOS.

What of UWC is not replayed: a prefix that ends inside the prompt counts as a miss, since only
answers are scored here, not how a model would go on with the question; text is not decoded and
tokenised again between steps; prompt and generation are not cut at 200 tokens, where UWC takes
what was cut for a match; the prompt is the study's own; all examples count, not 50 drawn ones;
the bare question is counted without BOS, which UWC's tokenizer may add.
"""

from collections.abc import Callable

import numpy as np

from raymcu.metrics._base import (
    FORGOTTEN,
    KEPT,
    Better,
    Bools,
    Floats,
    Ints,
    Measured,
    Rows,
    Score,
    metric_of_probes,
)

RowFunction = Callable[[Rows], Floats]
_BOTH: dict[str, Better] = {"forget": FORGOTTEN, "retain": KEPT}
_PARAPHRASED = "paraphrased_question"
_QUESTIONS = (
    ("", "question", "answer", ""),
    ("_perturb", _PARAPHRASED, _PARAPHRASED, ", behind the paraphrased question"),
)


def _of_both_questions(
    name: str, variant: str, source: str, *, needs_tokens: int = 1
) -> Callable[[RowFunction], RowFunction]:
    """Register a fraction of each answer, averaged behind the question and its paraphrase.

    An answer of fewer than ``needs_tokens`` tokens has nothing to count and scores 0.
    """

    def add(fractions: RowFunction) -> RowFunction:
        first = (fractions.__doc__ or "").split("\n")[0].removesuffix(".")
        for asked, question, kind, behind in _QUESTIONS:

            def mean(point: Measured, probe: str, question: str = question) -> Score:
                rows = point.rows(probe, "answer", question)
                return _mean(probe, rows, fractions(rows), needs_tokens)

            mean.__doc__ = f"{first}{behind}."
            metric_of_probes(
                f"{{probe}}_{name}{asked}{variant}",
                _BOTH,
                span=(0.0, 1.0),
                unit="fraction",
                source=source,
                kind=kind,
            )(mean)
        return fractions

    return add


def _mean(probe: str, rows: Rows, values: Floats, needs_tokens: int) -> Score:
    if np.isnan(values).any():
        return Score(None, 0, "the number of tokens of some prompts was not recorded")
    num_empty = int(np.sum(rows.num_tokens < needs_tokens))
    note = f"{num_empty} of {len(rows)} answers have no token that counts and score 0"
    return Score.mean(values, f"answer of probe '{probe}'", note if num_empty else None)


@_of_both_questions("es", "", "Carlini et al. 2021 (arXiv:2012.07805)")
def extraction_strengths(rows: Rows) -> Floats:
    """Extraction strength of the {probe} answers, by definition.

    Returns 1 - k*/L of each answer, in [0, 1]; 0 for an empty answer: (rows,).
    """
    return _suffix_fractions(rows, rows.num_tokens)


@_of_both_questions(
    "es", "_ou", "open-unlearning d3d7cf9, evals/metrics/memorization.py", needs_tokens=2
)
def extraction_strengths_ou(rows: Rows) -> Floats:
    """Extraction strength of the {probe} answers as OpenUnlearning has it.

    Returns it for each answer, in [0, 1]: (rows,).
    """
    lengths = np.maximum(rows.num_tokens - 1, 0)
    floors = np.where(lengths > 0, 1.0 / np.maximum(lengths, 1), 0.0)
    return np.maximum(_suffix_fractions(rows, lengths), floors)


@_of_both_questions("es", "_satimp", "SatImp 51314c0, eval_es.py", needs_tokens=2)
def extraction_strengths_satimp(rows: Rows) -> Floats:
    """Extraction strength of the {probe} answers as SatImp has it.

    Returns the matched suffix over the length of each answer without EOS, in [0, 1]: (rows,).
    """
    return _suffix_fractions(rows, np.maximum(rows.num_tokens - 1, 0))


@_of_both_questions(
    "es", "_uwc", "Unlearning-with-Control 56e075b, evaluation_everything.py", needs_tokens=2
)
def extraction_strengths_uwc(rows: Rows) -> Floats:
    """Extraction strength of the {probe} answers as UWC has it, template tokens included.

    Returns it for each answer, in [0, 1]; NaN where the prompt's length is not known: (rows,).
    """
    prompt, question = rows.numbers("num_prompt_tokens"), rows.numbers("num_question_tokens")
    whole = prompt + rows.num_tokens - 1
    values = np.where(np.isnan(whole - question), np.nan, 0.0)
    held = np.flatnonzero((rows.num_tokens > 1) & (whole > question))
    start, low, high = (x[held].astype(np.int64) for x in (prompt, question, whole))
    is_match, first = _generation_matches(rows), rows.offsets[held]
    for _ in range(int(np.max(high - low, initial=0)).bit_length() + 1):
        middle = (low + high) // 2
        goes = (middle >= start) & is_match[first + np.maximum(middle - start, 0)]
        low, high = np.where(goes, low, middle), np.where(goes, middle, high)
    values[held] = 1.0 - (high - question[held]) / (whole - question)[held]
    return values


@_of_both_questions("em", "", "Tirumala et al. 2022 (arXiv:2205.10770)")
def exact_memorization(rows: Rows) -> Floats:
    """Fraction of {probe} answer tokens that are the greedy choice.

    Returns it for each answer; 0 for an empty answer: (rows,).
    """
    num_hits = np.diff(np.concatenate([[0], np.cumsum(rows.hits)])[rows.offsets])
    return num_hits / np.maximum(rows.num_tokens, 1)


def _suffix_fractions(rows: Rows, lengths: Ints) -> Floats:
    """Return how much of the first ``lengths`` tokens follows their last mismatch: (rows,)."""
    starts = rows.offsets[:-1]
    ends = starts + lengths
    misses = np.concatenate([[-1], np.flatnonzero(~rows.hits)])
    last_miss = misses[np.searchsorted(misses, ends) - 1]
    num_matched = ends - np.maximum(last_miss + 1, starts)
    fractions: Floats = num_matched / np.maximum(lengths, 1)
    return fractions


def _generation_matches(rows: Rows) -> Bools:
    """Return whether greedy decoding from each token on writes nothing but the answer: (tokens,).

    It goes on until the first miss; ending the answer there is no other text.
    """
    end = np.repeat(rows.offsets[1:] - 1, rows.num_tokens)  # where EOS is
    misses = np.append(np.flatnonzero(~rows.hits), len(rows.hits))
    first_miss = misses[np.searchsorted(misses, np.arange(len(rows.hits)))]
    ends_there = np.append(rows.tokens("stops").astype(bool), True)[first_miss]
    matches: Bools = (first_miss >= end) | ends_there
    return matches
