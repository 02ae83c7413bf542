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

from raymcu.metrics._base import Floats, Ints, Measured, Rows, Score, metric

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


def _mean(probe: str, values: Floats) -> Score:
    return Score.mean(values, f"answer of probe '{probe}'")


@metric(
    "forget_es",
    better="lower",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_ES_SOURCE,
)
def forget_es(point: Measured, retrained: Measured | None) -> Score:
    """Extraction strength of the forget answers, by definition; lower = more forgotten."""
    return _mean("forget", extraction_strengths(point.rows("forget")))


@metric(
    "retain_es",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("retain",),
    source=_ES_SOURCE,
)
def retain_es(point: Measured, retrained: Measured | None) -> Score:
    """Extraction strength of the retain answers, by definition; higher = better kept."""
    return _mean("retain", extraction_strengths(point.rows("retain")))


@metric(
    "forget_es_ou",
    better="lower",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_OU_SOURCE,
)
def forget_es_ou(point: Measured, retrained: Measured | None) -> Score:
    """Extraction strength of the forget answers as OpenUnlearning has it; lower = forgotten."""
    return _mean("forget", extraction_strengths_ou(point.rows("forget")))


@metric(
    "retain_es_ou",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("retain",),
    source=_OU_SOURCE,
)
def retain_es_ou(point: Measured, retrained: Measured | None) -> Score:
    """Extraction strength of the retain answers as OpenUnlearning has it; higher = kept."""
    return _mean("retain", extraction_strengths_ou(point.rows("retain")))


@metric(
    "forget_em",
    better="lower",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_EM_SOURCE,
)
def forget_em(point: Measured, retrained: Measured | None) -> Score:
    """Fraction of forget answer tokens that are the greedy choice; lower = more forgotten."""
    return _mean("forget", exact_memorization(point.rows("forget")))


@metric(
    "retain_em",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("retain",),
    source=_EM_SOURCE,
)
def retain_em(point: Measured, retrained: Measured | None) -> Score:
    """Fraction of retain answer tokens that are the greedy choice; higher = better kept."""
    return _mean("retain", exact_memorization(point.rows("retain")))
