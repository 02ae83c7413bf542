"""Forget quality: can the forget set's truth ratios be told from the retrained model's?

Two-sided two-sample Kolmogorov-Smirnov test between the per-example truth ratios of the point
and of the model retrained without the forget set. Source: TOFU (arXiv:2401.06121) section 2.2.3
(``scipy.stats.ks_2samp``); the tutorial and G-effect print its natural logarithm, CRU too, so
every base has its own name here. p > 0.05 is commonly read as success; it depends on the number
of questions, so only scores of one forget set compare.

Both models answer the same questions, so the samples have one size n, and the exact distribution
is Gnedenko and Korolyuk's: p = 2 sum_k (-1)^(k-1) C(2n, n-kh) / C(2n, n) with h = nD. It is
summed in logarithms: scipy's p underflows from n = 515 on. Unlike scipy it stays exact beyond
n = 10,000.
"""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from raymcu.errors import ConfigError
from raymcu.metrics._base import Floats, Measured, Score, metric, shared
from raymcu.metrics.truth_ratio import log_truth_ratios, truth_ratio_examples

_SOURCE = "TOFU (arXiv:2401.06121) section 2.2.3; exact two-sided ks_2samp"


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Outcome of the exact two-sided two-sample test for two samples of one size."""

    statistic: float
    """Largest distance of the two empirical distributions, in [0, 1]."""
    ln_p: float
    """Natural logarithm of the p-value, <= 0, finite."""
    num: int
    """Size of each sample."""


def ks_test(first: Floats, second: Floats) -> KolmogorovSmirnov:
    """Test whether two samples of one size, without NaN, come from one distribution."""
    num = len(first)
    both = np.concatenate([first, second])
    below_first = np.searchsorted(np.sort(first), both, side="right")
    below_second = np.searchsorted(np.sort(second), both, side="right")
    distance = int(np.abs(below_first - below_second).max())
    return KolmogorovSmirnov(distance / num, _ln_p(num, distance), num)


def _ln_p(num: int, distance: int) -> float:
    if distance <= 1:  # samples without ties always differ by one step
        return 0.0
    step = np.arange(num)
    ln_ratios = np.cumsum(np.log((num - step) / (num + step + 1.0)))  # C(2n, n-j-1) / C(2n, n)
    ln_terms = ln_ratios[distance - 1 :: distance]
    signs = np.where(np.arange(len(ln_terms)) % 2, -1.0, 1.0)
    rest = float(np.sum(signs * np.exp(ln_terms - ln_terms[0])))  # the terms fall
    return min(0.0, math.log(2.0) + float(ln_terms[0]) + math.log(rest))


def _check_same_questions(point: Measured, retrained: Measured) -> None:
    """Refuse to compare models that were asked different questions.

    Raises:
        ConfigError: With how many questions each has, and how many they share.
    """
    here, there = _questions(point), _questions(retrained)
    if here == there:
        return
    raise ConfigError(
        f"forget quality: point {_names(point)} has truth ratios of {here.total()} forget "
        f"questions and the retrained model {_names(retrained)} of {there.total()}, of which "
        f"{(here & there).total()} are the same; all must be. Measure the model that was retrained "
        "without this forget set on the same probe with the same number of examples."
    )


@shared
def _questions(point: Measured) -> Counter[str]:
    return Counter(truth_ratio_examples(point, "forget").keys)


def _names(point: Measured) -> str:
    return "'" + ", ".join(point.point_ids) + "'"


@shared
def _compare(point: Measured, retrained: Measured) -> KolmogorovSmirnov | str:
    """Return the test's outcome, or why there is none."""
    _check_same_questions(point, retrained)
    here, there = (log_truth_ratios(model, "forget") for model in (point, retrained))
    if not len(here):
        return "no truth ratio (paraphrased_answer and perturbed answers) of probe 'forget'"
    for name, ratios in (("point", here), ("retrained model", there)):
        if np.isnan(ratios).any():
            return f"truth ratios of the {name} are not finite: the model has diverged"
    return ks_test(here, there)


@shared
def _scores(point: Measured, retrained: Measured) -> dict[str, Score]:
    test = _compare(point, retrained)
    if isinstance(test, str):
        return dict.fromkeys(("p", "ln", "log10", "d"), Score(None, 0, test))
    note = f"n1={test.num}, n2={test.num}, retrained={_names(retrained)}"
    values = {
        "p": math.exp(test.ln_p),
        "ln": test.ln_p,
        "log10": test.ln_p / math.log(10.0),
        "d": test.statistic,
    }
    return {name: Score(value, test.num, note) for name, value in values.items()}


@metric(
    "forget_quality_p",
    better="higher",
    span=(0.0, 1.0),
    unit="probability",
    probes=("forget",),
    source=_SOURCE,
    kind="perturbed_answer",
    needs=("retrained",),
)
def forget_quality_p(point: Measured, retrained: Measured) -> Score:
    """p-value of the KS test against the retrained model; higher = harder to tell apart."""
    return _scores(point, retrained)["p"]


@metric(
    "forget_quality_log10",
    better="higher",
    span=(-math.inf, 0.0),
    unit="log10",
    probes=("forget",),
    source=_SOURCE,
    kind="perturbed_answer",
    needs=("retrained",),
)
def forget_quality_log10(point: Measured, retrained: Measured) -> Score:
    """Base 10 logarithm of forget quality's p-value; higher = harder to tell apart."""
    return _scores(point, retrained)["log10"]


@metric(
    "forget_quality_ln",
    better="higher",
    span=(-math.inf, 0.0),
    unit="ln",
    probes=("forget",),
    source=_SOURCE,
    kind="perturbed_answer",
    needs=("retrained",),
)
def forget_quality_ln(point: Measured, retrained: Measured) -> Score:
    """Natural logarithm of forget quality's p-value; higher = harder to tell apart."""
    return _scores(point, retrained)["ln"]


@metric(
    "forget_quality_d",
    better="lower",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_SOURCE,
    kind="perturbed_answer",
    needs=("retrained",),
)
def forget_quality_d(point: Measured, retrained: Measured) -> Score:
    """KS distance of the truth ratios to the retrained model's; lower = harder to tell apart."""
    return _scores(point, retrained)["d"]
