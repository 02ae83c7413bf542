"""Extraction strength and exact memorisation, from the teacher-forced hits of one pass.

Extraction strength (Carlini et al. 2021, arXiv:2012.07805) is 1 - k*/L: of an answer of L tokens,
k* is the shortest prefix after which greedy decoding reproduces the rest. Decoding does so iff
the teacher-forced argmax is right at every position from k* on, so k* is one past the last
mismatch: no generation is needed. EOS counts as a token, since the model has to stop.

``*_es_ou`` is OpenUnlearning's variant (open-unlearning at d3d7cf9): the last label is dropped as
EOS, whatever it is; a total miss scores 1/L, never 0; an empty answer scores 0. Exact
memorisation (Tirumala et al. 2022, arXiv:2205.10770) is the share of answer positions hit.
"""

import numpy as np

from raymcu.metrics._base import (
    FORGOTTEN,
    KEPT,
    Better,
    Floats,
    Ints,
    Measured,
    Rows,
    Score,
    metric_of_probes,
)

_ES_SOURCE = "Carlini et al. 2021 (arXiv:2012.07805)"
_OU_SOURCE = "open-unlearning d3d7cf9, evals/metrics/memorization.py"
_EM_SOURCE = "Tirumala et al. 2022 (arXiv:2205.10770)"


def extraction_strengths(rows: Rows) -> Floats:
    """Return 1 - k*/L of each answer, in [0, 1]; 0 for an empty answer: (rows,)."""
    return _suffix_fractions(rows, rows.num_tokens)


def extraction_strengths_ou(rows: Rows) -> Floats:
    """Return OpenUnlearning's variant of each answer, in [0, 1]: (rows,)."""
    lengths = np.maximum(rows.num_tokens - 1, 0)
    floors = np.where(lengths > 0, 1.0 / np.maximum(lengths, 1), 0.0)
    return np.maximum(_suffix_fractions(rows, lengths), floors)


def exact_memorization(rows: Rows) -> Floats:
    """Return the fraction of positions hit of each answer; 0 for an empty answer: (rows,)."""
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


_BOTH: dict[str, Better] = {"forget": FORGOTTEN, "retain": KEPT}


@metric_of_probes("{probe}_es", _BOTH, span=(0.0, 1.0), unit="fraction", source=_ES_SOURCE)
def es(point: Measured, probe: str) -> Score:
    """Extraction strength of the {probe} answers, by definition."""
    return _mean(probe, extraction_strengths(point.rows(probe)))


@metric_of_probes("{probe}_es_ou", _BOTH, span=(0.0, 1.0), unit="fraction", source=_OU_SOURCE)
def es_ou(point: Measured, probe: str) -> Score:
    """Extraction strength of the {probe} answers as OpenUnlearning has it."""
    return _mean(probe, extraction_strengths_ou(point.rows(probe)))


@metric_of_probes("{probe}_em", _BOTH, span=(0.0, 1.0), unit="fraction", source=_EM_SOURCE)
def em(point: Measured, probe: str) -> Score:
    """Fraction of {probe} answer tokens that are the greedy choice."""
    return _mean(probe, exact_memorization(point.rows(probe)))


def _mean(probe: str, values: Floats) -> Score:
    return Score.mean(values, f"answer of probe '{probe}'")
