"""Collapse: has the model lost its language? Told from its own greedy answers, without a judge.

Repetition is seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319, section 6) with n = 3 and words
(split at white space) for tokens: 1 - distinct 3-grams / 3-grams. An answer of one or two words
repeats nothing. The model's own NLL is that of the tokens it chose, the end of the answer
included: high for noise, but low for an endless loop, so that no direction is better.

Fluency is a proxy, made of these: per answer (1 - repetition) * exp(-own NLL per token), and 0 if
it is empty. It is not the probability of the gibberish classifier that OpenUnlearning
(arXiv:2506.12618) calls fluency, and its numbers do not compare with that.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from raymcu.metrics._base import Better, Bools, Floats, Measured, Score, metric_of_probes, shared

GRAM = 3
_REPETITION_SOURCE = "Welleck et al. 2020 (arXiv:1908.04319) section 6, seq-rep-n, n = 3, words"
_SOURCE = "raymcu: greedy answers of the measured model"
_WORSE: dict[str, Better] = {"forget": "lower", "retain": "lower"}
_BETTER: dict[str, Better] = {"forget": "higher", "retain": "higher"}
_NEITHER: dict[str, Better] = {"forget": "neither", "retain": "neither"}


def repetition(text: str) -> float:
    """Return the share of a text's 3-grams of words that occurred before, in [0, 1)."""
    words = text.split()
    grams = list(zip(*(words[start:] for start in range(GRAM)), strict=False))
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


@dataclass(frozen=True)
class OwnAnswers:
    """A model's greedy answers: (answers,) each."""

    is_empty: Bools
    """Without a word."""
    repetition: Floats
    has_nll: Bools
    """Whether the log probabilities of its tokens were measured."""
    nll: Floats
    """Mean NLL per generated token in nats; infinite where it was not measured."""

    @property
    def note(self) -> str | None:
        """Says how many lack log probabilities, if any."""
        lacking = int(np.sum(~self.has_nll))
        return (
            f"{lacking} of {len(self.nll)} generations lack log probabilities" if lacking else None
        )


@shared
def own_answers(point: Measured, probe: str) -> OwnAnswers:
    """Return the greedy answers to the questions of a probe."""
    rows = point.rows(probe)
    logprobs = rows.column("generation_logprobs")
    lengths = pc.fill_null(pc.list_value_length(logprobs), 0).to_numpy()
    values = logprobs.flatten().to_numpy().astype(np.float64)
    each = np.split(values, np.cumsum(lengths))[:-1]
    said = [pair for pair in zip(rows.generation, each, strict=True) if pair[0] is not None]
    texts = [text or "" for text, _ in said]
    return OwnAnswers(
        is_empty=np.array([not text.split() for text in texts], dtype=bool),
        repetition=np.array([repetition(text) for text in texts], dtype=np.float64),
        has_nll=np.array([len(tokens) > 0 for _, tokens in said], dtype=bool),
        nll=np.array([-tokens.mean() if len(tokens) else np.inf for _, tokens in said], float),
    )


@metric_of_probes(
    "{probe}_repetition",
    _WORSE,
    span=(0.0, 1.0),
    unit="fraction",
    source=_REPETITION_SOURCE,
    kind="generation",
)
def mean_repetition(point: Measured, probe: str) -> Score:
    """Share of repeated 3-grams of words in the {probe} generations; 0 = none."""
    found = own_answers(point, probe)
    num_empty = int(found.is_empty.sum())
    note = f"{num_empty} empty generations are left out" if num_empty else None
    said = found.repetition[~found.is_empty]
    what = f"generation of probe '{probe}' that is not empty"
    return Score.mean(said, what, note)


@metric_of_probes(
    "{probe}_own_nll",
    _NEITHER,
    span=(0.0, float("inf")),
    unit="nats",
    source=_SOURCE,
    kind="generation",
)
def own_nll(point: Measured, probe: str) -> Score:
    """Mean NLL per token of the {probe} generations under the model itself, in nats."""
    found = own_answers(point, probe)
    what = f"log probability of the generations of probe '{probe}'"
    return Score.mean(found.nll[found.has_nll], what, found.note)


@metric_of_probes(
    "{probe}_empty",
    _WORSE,
    span=(0.0, 1.0),
    unit="fraction",
    source=_SOURCE,
    kind="generation",
)
def empty(point: Measured, probe: str) -> Score:
    """Share of {probe} generations without a word; 0 = none."""
    found = own_answers(point, probe)
    return Score.mean(found.is_empty.astype(np.float64), f"generation of probe '{probe}'")


@metric_of_probes(
    "{probe}_fluency",
    _BETTER,
    span=(0.0, 1.0),
    unit="fraction",
    source="raymcu: a proxy, (1 - repetition) * exp(-own NLL); not OpenUnlearning's classifier",
    kind="generation",
)
@shared
def fluency(point: Measured, probe: str) -> Score:
    """Proxy of fluency of the {probe} generations, from repetition and own NLL; 1 = fluent."""
    found = own_answers(point, probe)
    fluent = np.where(found.is_empty, 0.0, (1.0 - found.repetition) * np.exp(-found.nll))
    what = f"log probability of the generations of probe '{probe}'"
    return Score.mean(fluent[found.has_nll], what, found.note)
