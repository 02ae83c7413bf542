"""Whether there was anything to forget: reasons for which a study's verdicts would mean nothing."""

import math
from collections.abc import Mapping

from raymcu.metrics._base import METRICS

_TELLING = (
    ("forget_loss", "forget loss"),
    ("verbmem", "VerbMem"),
    ("forget_accuracy", "accuracy on the forget set"),
    ("forget_rouge", "ROUGE-L on the forget set"),
)
"""What tells whether a model knows the forget set; the first that both models have decides."""
LEAST = {"nats": 0.05, "percent": 1.0, "fraction": 0.02, "probability": 0.02}
"""Differences of the two models that are none, by unit."""
_KNOWS = math.log(2.0)
"""Nats per token under which a model gives the answers it learned."""
_OPTIONS = 4
_SURELY_ABOVE = 1.645
"""The z over which one model of twenty comes by guessing."""


def doubt(
    original: Mapping[str, float | None],
    retrained: Mapping[str, float | None],
    counts: Mapping[str, int],
    num_classes: int = 0,
) -> str | None:
    """Say why nothing can be forgotten of one forget set; None if something can.

    Args:
        original: Scores of the original by metric.
        retrained: Those of the model retrained without the forget set; empty if there is none.
        counts: Questions or inputs by metric, of the original.
        num_classes: Of a classifier.
    """
    accuracy, num = original.get("forget_accuracy"), counts.get("forget_accuracy", 0)
    if accuracy is not None and num:
        chance = 1 / (num_classes or _OPTIONS)
        what = f"questions with {_OPTIONS} options each"
        if num_classes:
            what = f"inputs of {num_classes} classes"
        if accuracy <= chance + _SURELY_ABOVE * math.sqrt(chance * (1 - chance) / num):
            return (
                f"the original does no better on the forget set than by guessing (accuracy "
                f"{accuracy:.3f} of {num} {what})"
            )
    for metric, name in _TELLING:
        one, other = original.get(metric), retrained.get(metric)
        if one is None or other is None:
            continue
        known = METRICS[metric]
        gap = other - one if known.better == "higher" else one - other
        if gap > LEAST[known.unit]:
            return None
        told = f"{name} {one:.3g} and {other:.3g}"
        if metric == "forget_loss" and one < _KNOWS:
            return f"the retrained model knows the forget set as well as the original does ({told})"
        return f"the original knows no more of the forget set than the retrained model ({told})"
    return None
