"""Probability of the reference answer, normalised for length, as TOFU measures it.

With m(a) the mean NLL per token of answer a: forget and retain average exp(-m(answer)); real
authors and world facts average the share of the true answer among the options,
P / (P + sum_j P_j) with P = exp(-m). Source: TOFU (arXiv:2401.06121) section 2.2.2 and
``aggregate_eval_stat.py`` at bdc209e. The share is computed as a softmax of -m, so options that
all underflow give their limit, not 0/0.
"""

import numpy as np

from raymcu.metrics._base import Floats, Measured, Score, metric, shared
from raymcu.metrics._examples import WrongAnswers, wrong_answers

_SOURCE = "TOFU (arXiv:2401.06121) section 2.2.2; aggregate_eval_stat.py at bdc209e"


@shared
def answer_probability(point: Measured, probe: str) -> Score:
    """Average exp(-m(answer)), the per-token geometric mean probability, over a probe."""
    return Score.mean(np.exp(-point.rows(probe).nll_mean), f"answer of probe '{probe}'")


@shared
def option_probability(point: Measured, probe: str) -> Score:
    """Average the probability of the true answer among it and its perturbed answers."""
    options = wrong_answers(point, probe, "answer")
    return Score.mean(_share(options), f"perturbed answer of probe '{probe}'", options.note)


def _share(options: WrongAnswers) -> Floats:
    # Relative to the likeliest option, so that the sum is at least 1 and never overflows.
    best = np.minimum(options.right_nll, np.minimum.reduceat(options.wrong_nll, options.starts))
    with np.errstate(invalid="ignore"):
        right = np.exp(best - options.right_nll)
        wrong = np.exp(np.repeat(best, options.counts) - options.wrong_nll)
    shares: Floats = right / (right + np.add.reduceat(wrong, options.starts))
    return shares


@metric(
    "forget_probability",
    better="lower",
    span=(0.0, 1.0),
    unit="probability",
    probes=("forget",),
    source=_SOURCE,
)
def forget_probability(point: Measured, retrained: Measured | None) -> Score:
    """Probability per token of the forget answers; lower = more forgotten."""
    return answer_probability(point, "forget")


@metric(
    "retain_probability",
    better="higher",
    span=(0.0, 1.0),
    unit="probability",
    probes=("retain",),
    source=_SOURCE,
)
def retain_probability(point: Measured, retrained: Measured | None) -> Score:
    """Probability per token of the retain answers; higher = better kept."""
    return answer_probability(point, "retain")


@metric(
    "real_authors_probability",
    better="higher",
    span=(0.0, 1.0),
    unit="probability",
    probes=("real_authors",),
    source=_SOURCE,
)
def real_authors_probability(point: Measured, retrained: Measured | None) -> Score:
    """Share of the true answer among the options on real authors; higher = better kept."""
    return option_probability(point, "real_authors")


@metric(
    "world_facts_probability",
    better="higher",
    span=(0.0, 1.0),
    unit="probability",
    probes=("world_facts",),
    source=_SOURCE,
)
def world_facts_probability(point: Measured, retrained: Measured | None) -> Score:
    """Share of the true answer among the options on world facts; higher = better kept."""
    return option_probability(point, "world_facts")
