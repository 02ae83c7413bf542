"""Probability of the reference answer, normalised for length, as TOFU measures it.

With m(a) the mean NLL per token of answer a: forget and retain average exp(-m(answer)); real
authors and world facts average the share of the true answer among the options,
P / (P + sum_j P_j) with P = exp(-m). Source: TOFU (arXiv:2401.06121) section 2.2.2 and
``aggregate_eval_stat.py`` at bdc209e. The share is computed as a softmax of -m, so options that
all underflow give their limit, not 0/0. ``*_probability_ou`` has OpenUnlearning's 1e-10 below the
line, which counts where all options together are as unlikely as that.
"""

import numpy as np

from raymcu.metrics._base import FORGOTTEN, KEPT, Floats, Measured, Score, metric_of_probes, shared
from raymcu.metrics._examples import EPSILON, WrongAnswers, wrong_answers

_SOURCE = "TOFU (arXiv:2401.06121) section 2.2.2; aggregate_eval_stat.py at bdc209e"


@metric_of_probes(
    "{probe}_probability",
    {"forget": FORGOTTEN, "retain": KEPT},
    span=(0.0, 1.0),
    unit="probability",
    source=_SOURCE,
)
@shared
def answer_probability(point: Measured, probe: str) -> Score:
    """Probability per token of the {probe} answers, the mean of exp(-m(answer))."""
    return Score.mean(np.exp(-point.rows(probe).nll_mean), f"answer of probe '{probe}'")


@metric_of_probes(
    "{probe}_paraphrase_probability",
    {"forget": FORGOTTEN, "retain": KEPT},
    span=(0.0, 1.0),
    unit="probability",
    source="open-unlearning d3d7cf9, evals/metrics/memorization.py, Q_A_PARA_Prob",
    kind="paraphrased_answer",
)
@shared
def paraphrase_probability(point: Measured, probe: str) -> Score:
    """Probability per token of the paraphrased {probe} answers, the mean of exp(-m)."""
    rows = point.rows(probe, "paraphrased_answer")
    return Score.mean(np.exp(-rows.nll_mean), f"paraphrased answer of probe '{probe}'")


@metric_of_probes(
    "{probe}_probability",
    {"real_authors": KEPT, "world_facts": KEPT},
    span=(0.0, 1.0),
    unit="probability",
    source=_SOURCE,
    kind="perturbed_answer",
)
@shared
def option_probability(point: Measured, probe: str) -> Score:
    """Share of the true answer among it and its perturbed answers on {probe}."""
    options = wrong_answers(point, probe, "answer")
    return Score.mean(option_shares(options), f"perturbed answer of probe '{probe}'", options.note)


@metric_of_probes(
    "{probe}_probability_ou",
    {"real_authors": KEPT, "world_facts": KEPT},
    span=(0.0, 1.0),
    unit="probability",
    source="open-unlearning d3d7cf9, evals/metrics/memorization.py, probability_w_options",
    kind="perturbed_answer",
)
@shared
def option_probability_ou(point: Measured, probe: str) -> Score:
    """Share of the true answer among its options on {probe}, with OpenUnlearning's 1e-10."""
    options = wrong_answers(point, probe, "answer")
    shares = np.zeros(0)
    if len(options.starts):
        right, wrong = np.exp(-options.right_nll), np.exp(-options.wrong_nll)
        shares = right / (right + np.add.reduceat(wrong, options.starts) + EPSILON)
    return Score.mean(shares, f"perturbed answer of probe '{probe}'", options.note)


def option_shares(options: WrongAnswers) -> Floats:
    """Return the share of each example's right answer among all its answers: (examples,)."""
    # Relative to the likeliest option, so that the sum is at least 1 and never overflows.
    best = np.minimum(options.right_nll, np.minimum.reduceat(options.wrong_nll, options.starts))
    with np.errstate(invalid="ignore"):
        right = np.exp(best - options.right_nll)
        wrong = np.exp(np.repeat(best, options.counts) - options.wrong_nll)
    shares: Floats = right / (right + np.add.reduceat(wrong, options.starts))
    return shares
