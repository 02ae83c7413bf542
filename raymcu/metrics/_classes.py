"""What the metrics of classifiers share: shares of right classes, and two models on one probe."""

import math
from collections import Counter

import numpy as np

from raymcu.errors import ConfigError
from raymcu.metrics._base import Floats, Ints, Measured, Reference, Rows, Score, shared


@shared
def share_right(point: Measured, probe: str) -> Score:
    """Return the share of a probe's inputs whose class is the likeliest, in [0, 1]."""
    rows = point.labels(probe)
    is_right = np.where(np.isnan(rows.logprobs), np.nan, rows.hits)  # NaN: it has diverged
    return Score.mean(is_right, f"input of probe '{probe}'")


def unseen(point: Measured) -> str:
    """Return the probe of what no model has learned.

    The test set without the forgotten classes where that was measured, as the codes of SalUn have
    it when a class is forgotten, else the test set.
    """
    return "test_kept" if "label" in point.kinds("test_kept") else "test"


def true_classes(rows: Rows) -> Ints:
    """Return the number of each row's class: (rows,).

    A row has its class by name and with its log p. A name's number is that of the class whose
    probability is that in its rows; no two names have the same.

    Args:
        rows: Labels without NaN.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    names, name_of = np.unique(np.array(rows.answer), return_inverse=True)
    away = np.zeros((len(names), rows.class_logprobs.shape[1]))
    np.add.at(away, name_of, np.abs(np.exp(rows.class_logprobs) - np.exp(rows.logprobs)[:, None]))
    numbers: Ints = linear_sum_assignment(away)[1][name_of]
    return numbers


@shared
def compared(
    point: Measured, other: Measured, role: Reference, probe: str
) -> tuple[Floats, Floats] | str:
    """Return the log p of all classes by a point and by a reference model, or why there is none.

    Two of (inputs, classes), in nats, of the same inputs in one order; without NaN.

    Raises:
        ConfigError: If they were given other inputs, or classes.
    """
    here, there = point.labels(probe), other.labels(probe)
    if not len(here):
        return f"no input of probe '{probe}' was measured"
    if not len(there):
        return f"the {role} model was not measured on probe '{probe}'"
    keys, others = Counter(here.key), Counter(there.key)
    widths = here.class_logprobs.shape[1], there.class_logprobs.shape[1]
    if keys != others or widths[0] != widths[1]:
        raise ConfigError(
            f"comparison with the {role} model: probe '{probe}' of point "
            f"'{', '.join(point.point_ids)}' has {len(here)} inputs of {widths[0]} classes and of "
            f"'{', '.join(other.point_ids)}' {len(there)} of {widths[1]}; "
            f"{(keys & others).total()} inputs are the same, all must be. Measure both with the "
            "same benchmark and number of examples."
        )
    by_key = (np.argsort(rows.key, kind="stable") for rows in (here, there))
    first, second = (
        rows.class_logprobs[order] for rows, order in zip((here, there), by_key, strict=True)
    )
    for name, found in (("point", first), (f"{role} model", second)):
        if np.isnan(found).any():
            return f"probabilities of the {name} are not finite: the model has diverged"
    return first, second


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Return the Jensen-Shannon divergence of distributions, in nats, in [0, ln 2]: (rows,).

    Args:
        first: Their log p: (rows, classes). A class without probability adds nothing.
        second: Those of the others.
    """
    middle = np.logaddexp(first, second) - math.log(2.0)
    halves = kullback_leibler(first, middle) + kullback_leibler(second, middle)
    divergences: Floats = np.clip(halves / 2.0, 0.0, math.log(2.0))  # of rounding
    return divergences


def kullback_leibler(first: Floats, second: Floats) -> Floats:
    """Return KL(first || second) of distributions, in nats: (rows,).

    Infinite where the second gives no probability to a class to which the first gives some.

    Args:
        first: Their log p: (rows, classes).
        second: Those of the others.
    """
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(first), 0.0, np.exp(first) * (first - second))
    divergences: Floats = terms.sum(axis=1)
    return divergences
