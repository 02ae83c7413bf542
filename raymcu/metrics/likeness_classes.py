"""How a classifier's predictions differ from another model's: ZRF, JS, KL and churn.

- ZRF (bad teaching, arXiv:2205.08096) is 1 less the mean Jensen-Shannon divergence to a model that
  has learned nothing, over the forget inputs: in nats, so that it lies in [1 - ln 2, 1]. 1 = as one
  that knows nothing; the ideal is what the retrained model has.
- ``zrf_bad_teaching`` is what its authors' code and SSD's compute: KL from the middle to either
  model, not from either to the middle, and ``F.kl_div``'s default, which divides by inputs times
  classes. It is near 1 whatever the model, the nearer the more classes there are.
- ``zrf_mu_bench`` is MU-Bench's (mubench/evaluation.py at 48f5c7b): the other is no model, but the
  softmax of logits drawn from [0, 1) anew for each input, a mean over 500 draws. Here the draws are
  the same for all points, and as many as make two million numbers where that is fewer.
- JS and KL to the retrained model are means over inputs. KL is from the retrained model to the
  point: infinite, and then null, if the point rules a class out that the retrained does not.
- Churn is the share of inputs whose likeliest class changed, right or wrong.
"""

import math

import numpy as np

from raymcu.metrics._base import (
    Better,
    Floats,
    Measured,
    Reference,
    Score,
    metric,
    metric_of_probes,
)
from raymcu.metrics._classes import compared, jensen_shannon, kullback_leibler

_ZRF = "bad teaching (arXiv:2205.08096)"
_SPAN = (1.0 - math.log(2.0), 1.0)
_NEARER: dict[str, Better] = {"forget": "lower", "test": "lower"}
_CHURN = "Milani Fard et al. 2016, Launch and Iterate: Reducing Prediction Churn"
_DRAWS, _NUMBERS = 500, 2_000_000


@metric(
    "zrf",
    better="higher",
    span=_SPAN,
    unit="similarity",
    probes=("forget",),
    source=_ZRF,
    kind="class_logprobs",
    needs=("random",),
)
def zrf(point: Measured, random: Measured) -> Score:
    """ZRF, 1 less the mean JS to an untrained model on the forget set; higher = more like it."""
    pair = compared(point, random, "random", "forget")
    if isinstance(pair, str):
        return Score(None, 0, pair)
    return Score(1.0 - float(np.mean(jensen_shannon(*pair))), len(pair[0]))


@metric(
    "zrf_bad_teaching",
    better="higher",
    span=(-math.inf, 1.0),
    unit="similarity",
    probes=("forget",),
    source="vikram2000b/bad-teaching-unlearning and SSD (arXiv:2308.07707), metrics.py",
    kind="class_logprobs",
    needs=("random",),
)
def zrf_bad_teaching(point: Measured, random: Measured) -> Score:
    """ZRF as its authors' code has it, divided by classes, too; higher = more like untrained."""
    pair = compared(point, random, "random", "forget")
    if isinstance(pair, str):
        return Score(None, 0, pair)
    first, second = pair
    middle = np.logaddexp(first, second) - math.log(2.0)
    total = kullback_leibler(middle, first) + kullback_leibler(middle, second)
    value = 1.0 - float(np.sum(total)) / 2.0 / first.size
    if not math.isfinite(value):
        return Score(None, len(first), "one of the models gives a class no probability")
    return Score(min(value, 1.0), len(first))


@metric(
    "zrf_mu_bench",
    better="higher",
    span=_SPAN,
    unit="similarity",
    probes=("forget",),
    source="MU-Bench (arXiv:2406.14796), mubench/evaluation.py at 48f5c7b",
    kind="class_logprobs",
)
def zrf_mu_bench(point: Measured) -> Score:
    """ZRF as MU-Bench has it, against softmax of uniform logits; higher = more like them."""
    logs = point.labels("forget").class_logprobs
    if not len(logs):
        return Score(None, 0, "no input of probe 'forget' was measured")
    if np.isnan(logs).any():
        return Score(None, len(logs), "the probabilities are not finite: the model has diverged")
    generator = np.random.default_rng(0)
    draws = min(_DRAWS, math.ceil(_NUMBERS / logs.size))
    means = [np.mean(jensen_shannon(logs, _of_logits(generator, logs))) for _ in range(draws)]
    return Score(1.0 - float(np.mean(means)), len(logs))


def _of_logits(generator: np.random.Generator, like: Floats) -> Floats:
    """Return the log softmax of logits drawn from [0, 1): (rows, classes)."""
    logits = generator.random(like.shape)
    logs: Floats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logs


@metric_of_probes(
    "{probe}_js_retrained",
    _NEARER,
    span=(0.0, math.log(2.0)),
    unit="nats",
    source="Jensen-Shannon divergence, Lin 1991",
    kind="class_logprobs",
    needs=("retrained",),
)
def js_retrained(point: Measured, probe: str, retrained: Measured) -> Score:
    """Mean JS divergence to the retrained model on {probe} inputs; lower = more like it."""
    pair = compared(point, retrained, "retrained", probe)
    if isinstance(pair, str):
        return Score(None, 0, pair)
    return Score(float(np.mean(jensen_shannon(*pair))), len(pair[0]))


@metric_of_probes(
    "{probe}_kl_retrained",
    _NEARER,
    span=(0.0, math.inf),
    unit="nats",
    source="Kullback-Leibler divergence, from the retrained model to the point",
    kind="class_logprobs",
    needs=("retrained",),
)
def kl_retrained(point: Measured, probe: str, retrained: Measured) -> Score:
    """Mean KL divergence from the retrained model on {probe} inputs; lower = more like it."""
    pair = compared(point, retrained, "retrained", probe)
    if isinstance(pair, str):
        return Score(None, 0, pair)
    here, there = pair
    value = float(np.mean(kullback_leibler(there, here)))
    if not math.isfinite(value):
        note = "infinite: a class has no probability here and some of the retrained model"
        return Score(None, len(here), note)
    return Score(max(value, 0.0), len(here))  # of rounding


def _churn(point: Measured, other: Measured, role: Reference, probe: str) -> Score:
    pair = compared(point, other, role, probe)
    if isinstance(pair, str):
        return Score(None, 0, pair)
    here, there = (logs.argmax(axis=1) for logs in pair)
    return Score(float(np.mean(here != there)), len(here))


@metric_of_probes(
    "{probe}_churn_original",
    {"forget": "neither", "retain": "lower", "test": "lower"},
    span=(0.0, 1.0),
    unit="fraction",
    source=_CHURN,
    kind="class_logprobs",
    needs=("original",),
)
def churn_original(point: Measured, probe: str, original: Measured) -> Score:
    """Share of {probe} inputs whose predicted class is not the original's; 0 = as before."""
    return _churn(point, original, "original", probe)


@metric_of_probes(
    "{probe}_churn_retrained",
    {"forget": "lower", "retain": "lower", "test": "lower"},
    span=(0.0, 1.0),
    unit="fraction",
    source=_CHURN,
    kind="class_logprobs",
    needs=("retrained",),
)
def churn_retrained(point: Measured, probe: str, retrained: Measured) -> Score:
    """Share of {probe} inputs whose predicted class is not the retrained's; 0 = like it."""
    return _churn(point, retrained, "retrained", probe)
