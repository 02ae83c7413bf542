"""Model utility: harmonic mean of nine scores on what has to be kept, as TOFU defines it.

{retain, real authors, world facts} x {probability, ROUGE, truth ratio}. Source: TOFU
(arXiv:2401.06121) section 2.2.2. Published numbers come from ``aggregate_eval_stat.py``
(geometric truth ratio): ``model_utility``. The paper's text and ``utils.get_model_utility``
average perturbed probabilities arithmetically: ``model_utility_arith``, 0.02 to 0.04 away.
OpenUnlearning adds 1e-10 to the denominators of option probabilities and truth ratios:
``model_utility_ou``, 0.3% away where the real authors' answers have a probability near 4e-11, the
same where all are likelier by far.
"""

from collections.abc import Mapping

import numpy as np

from raymcu.metrics._base import Floats, Measured, Score, metric
from raymcu.metrics.probability import answer_probability, option_probability, option_probability_ou
from raymcu.metrics.rouge import rouge_recall
from raymcu.metrics.truth_ratio import Mean, truth_ratio_margin, truth_ratio_margin_ou

_PROBES = ("retain", "real_authors", "world_facts")


def harmonic_mean(values: Floats) -> float:
    """Return the harmonic mean of values >= 0; any exact zero makes it 0."""
    if not np.all(values):
        return 0.0
    with np.errstate(over="ignore"):  # the reciprocal of a denormal: the mean is 0 then too
        return float(len(values) / np.sum(1.0 / np.asarray(values, dtype=np.float64)))


def utility_parts(point: Measured, mean: Mean) -> Mapping[str, Score]:
    """Return the nine scores by name."""
    parts = {}
    for probe in _PROBES:
        likelihood = answer_probability if probe == "retain" else option_probability
        parts[f"{probe}_probability"] = likelihood(point, probe)
        parts[f"{probe}_rouge"] = rouge_recall(point, probe)
        parts[f"{probe}_truth_ratio"] = truth_ratio_margin(point, probe, mean)
    return parts


def utility_parts_ou(point: Measured) -> Mapping[str, Score]:
    """Return the nine scores by name, with OpenUnlearning's 1e-10 in denominators."""
    parts = dict(utility_parts(point, "geometric"))
    for probe in _PROBES:
        parts[f"{probe}_truth_ratio"] = truth_ratio_margin_ou(point, probe)
        if probe != "retain":
            parts[f"{probe}_probability"] = option_probability_ou(point, probe)
    return parts


def harmonic_score(parts: Mapping[str, Score], num_examples: int, note: str | None = None) -> Score:
    """Return the harmonic mean of scores >= 0, or which of them there is not, and why.

    Args:
        parts: Scores by name.
        num_examples: Examples the mean is taken over.
        note: A warning that goes with the number.
    """
    missing = [f"{name} ({part.note})" for name, part in parts.items() if part.value is None]
    if missing:
        return Score(None, 0, f"missing: {'; '.join(missing)}")
    values = np.array([part.value for part in parts.values()])
    zeros = [name for name, part in parts.items() if part.value == 0.0]
    notes = [f"0 because of {', '.join(zeros)}"] if zeros else []
    notes += [note] if note else []
    return Score(harmonic_mean(values), num_examples, "; ".join(notes) or None)


def _utility(parts: Mapping[str, Score]) -> Score:
    num_examples = sum(parts[f"{probe}_probability"].num_examples for probe in _PROBES)
    return harmonic_score(parts, num_examples)


@metric(
    "model_utility",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=_PROBES,
    source="TOFU (arXiv:2401.06121) section 2.2.2; aggregate_eval_stat.py at bdc209e",
)
def model_utility(point: Measured) -> Score:
    """Harmonic mean of the nine utility scores, geometric truth ratio; higher = better kept."""
    return _utility(utility_parts(point, "geometric"))


@metric(
    "model_utility_arith",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=_PROBES,
    source="TOFU (arXiv:2401.06121) section 2.2.2, eq. 1; utils.get_model_utility at bdc209e",
)
def model_utility_arith(point: Measured) -> Score:
    """Harmonic mean of the nine utility scores, arithmetic truth ratio; higher = better kept."""
    return _utility(utility_parts(point, "arithmetic"))


@metric(
    "model_utility_ou",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=_PROBES,
    source="open-unlearning d3d7cf9, configs/eval/tofu_metrics/model_utility.yaml",
)
def model_utility_ou(point: Measured) -> Score:
    """Harmonic mean of the nine, with OpenUnlearning's 1e-10 in ratios; higher = better kept."""
    return _utility(utility_parts_ou(point))
