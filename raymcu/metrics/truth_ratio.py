"""Truth ratio: how much likelier the wrong answers are than a right one, as TOFU measures it.

Per example R = exp(m(right) - mean_j m(perturbed_j)), the geometric mean over perturbed answers,
with m the mean NLL per token; right is the paraphrased answer for forget and retain, the true
answer for real authors and world facts. Source: TOFU (arXiv:2401.06121) eq. 1 and
``aggregate_eval_stat.py`` at bdc209e. The paper's text and TOFU's ``utils.get_model_utility``
average the perturbed probabilities arithmetically: ``mean="arithmetic"`` here.

Everything is kept as log R, in nats: R over- or underflows for a model that has diverged.

OpenUnlearning adds 1e-10 to denominators: R = w / (c + 1e-10) of the right answer's probability c
and the wrong ones' w, and 1 / (R + 1e-10). Where c is near 1e-10 or less, as on real authors for a
model that never learned of them, that is another number: ``{probe}_truth_ratio_ou``.
"""

from typing import Literal

import numpy as np

from raymcu.metrics._base import FORGOTTEN, KEPT, Floats, Measured, Score, metric_of_probes, shared
from raymcu.metrics._examples import EPSILON, WrongAnswers, wrong_answers

Mean = Literal["geometric", "arithmetic"]

_SOURCE = "TOFU (arXiv:2401.06121) eq. 1; aggregate_eval_stat.py at bdc209e"
_OU = "open-unlearning d3d7cf9, evals/metrics/memorization.py, truth_ratio"


def right_answer(probe: str) -> str:
    """Return the kind of answer that stands for the truth in the ratio of this probe."""
    return "paraphrased_answer" if probe in ("forget", "retain") else "answer"


@shared
def log_truth_ratios(point: Measured, probe: str, mean: Mean = "geometric") -> Floats:
    """Return ln R of each example that has what it takes, ordered by example: (examples,) nats.

    ``truth_ratio_examples`` names the examples in the same order.
    """
    answers = truth_ratio_examples(point, probe)
    if not len(answers.starts):
        return np.zeros(0)
    reduce = _mean_logprob if mean == "geometric" else _log_mean_probability
    with np.errstate(invalid="ignore"):
        return reduce(answers) + answers.right_nll


def truth_ratio_examples(point: Measured, probe: str) -> WrongAnswers:
    """Return the answers the truth ratio of this probe is taken over."""
    return wrong_answers(point, probe, right_answer(probe))


def _mean_logprob(answers: WrongAnswers) -> Floats:
    return -np.add.reduceat(answers.wrong_nll, answers.starts) / answers.counts


def _log_mean_probability(answers: WrongAnswers) -> Floats:
    best = np.minimum.reduceat(answers.wrong_nll, answers.starts)
    probabilities = np.exp(np.repeat(best, answers.counts) - answers.wrong_nll)
    return np.log(np.add.reduceat(probabilities, answers.starts) / answers.counts) - best


@metric_of_probes(
    "{probe}_truth_ratio",
    {"forget": "higher"},
    span=(0.0, 1.0),
    unit="fraction",
    source=_SOURCE,
    kind="perturbed_answer",
)
@shared
def truth_ratio_closeness(point: Measured, probe: str, mean: Mean = "geometric") -> Score:
    """Mean min(R, 1/R) on {probe}; 1 = truth and falsehood equally likely, as if never seen."""
    closeness = np.exp(-np.abs(log_truth_ratios(point, probe, mean)))
    return _average(point, probe, closeness)


@metric_of_probes(
    "{probe}_truth_ratio",
    {"retain": KEPT, "real_authors": KEPT, "world_facts": KEPT},
    span=(0.0, 1.0),
    unit="fraction",
    source=_SOURCE,
    kind="perturbed_answer",
)
@shared
def truth_ratio_margin(point: Measured, probe: str, mean: Mean = "geometric") -> Score:
    """Mean max(0, 1 - R) on {probe}; 1 = falsehood is impossible, 0 = at least as likely."""
    margin = -np.expm1(np.minimum(log_truth_ratios(point, probe, mean), 0.0))
    return _average(point, probe, margin)


def _ratios_ou(point: Measured, probe: str) -> Floats:
    """Return OpenUnlearning's R, w / (c + 1e-10), of each example: (examples,)."""
    answers = truth_ratio_examples(point, probe)
    if not len(answers.starts):
        return np.zeros(0)
    wrong: Floats = np.exp(_mean_logprob(answers))
    return wrong / (np.exp(-answers.right_nll) + EPSILON)


@metric_of_probes(
    "{probe}_truth_ratio_ou",
    {"forget": "higher"},
    span=(0.0, 1.0),
    unit="fraction",
    source=f"{_OU} by closer_to_1_better",
    kind="perturbed_answer",
)
def truth_ratio_closeness_ou(point: Measured, probe: str) -> Score:
    """Mean min(R, 1/R) on {probe} with OpenUnlearning's 1e-10; 1 = as if never seen."""
    ratios = _ratios_ou(point, probe)
    return _average(point, probe, np.minimum(ratios, 1.0 / (ratios + EPSILON)))


@metric_of_probes(
    "{probe}_truth_ratio_ou",
    {"retain": KEPT, "real_authors": KEPT, "world_facts": KEPT},
    span=(0.0, 1.0),
    unit="fraction",
    source=f"{_OU} by true_better",
    kind="perturbed_answer",
)
@shared
def truth_ratio_margin_ou(point: Measured, probe: str) -> Score:
    """Mean max(0, 1 - R) on {probe} with OpenUnlearning's 1e-10; 1 = falsehood is impossible."""
    return _average(point, probe, np.maximum(0.0, 1.0 - _ratios_ou(point, probe)))


@metric_of_probes(
    "{probe}_truth_ratio_prob_mean",
    {"forget": FORGOTTEN, "retain": KEPT},
    span=(0.0, 1.0),
    unit="fraction",
    source=f"{_OU} by prob_mean",
    kind="perturbed_answer",
)
@shared
def truth_ratio_share(point: Measured, probe: str) -> Score:
    """Mean 1 / (1 + R) on {probe}: c / (c + w) of a right and the mean wrong probability."""
    # Without OpenUnlearning's 1e-10 in the denominator, so that it has a limit, not 0, far out.
    with np.errstate(invalid="ignore"):
        shares = np.exp(-np.logaddexp(0.0, log_truth_ratios(point, probe)))
    return _average(point, probe, shares)


def _average(point: Measured, probe: str, values: Floats) -> Score:
    what = f"truth ratio ({right_answer(probe)} and perturbed answers) of probe '{probe}'"
    return Score.mean(values, what, truth_ratio_examples(point, probe).note)
