"""Accuracy of classifiers, and the four numbers of the unlearning literature with their gap.

The literature calls them UA, RA, TA and MIA, in per cent, and does not agree on the first: UA is
100 less the accuracy on the forget set in SalUn (arXiv:2310.12508) and in Unlearn-Sparse
(arXiv:2304.04934) before it, and the accuracy itself in TARF (arXiv:2406.08288). So each name says
which way it goes. The gap to the retrained model is the same with either.

TA and MIA are of the test set; where a whole class is forgotten, of the test set without it.
Where more is to go than what is given, the forget set here is all that is to go, the retain set
what is left without it, as TARF has it.
"""

from functools import partial

import numpy as np

from raymcu.metrics._base import FORGOTTEN, KEPT, Better, Measured, Score, metric, metric_of_probes
from raymcu.metrics._classes import share_right, unseen
from raymcu.metrics.membership_classes import nonmember_share

SALUN = "SalUn (arXiv:2310.12508); Unlearn-Sparse (arXiv:2304.04934)"
TARF = "TARF (arXiv:2406.08288)"
_PROBES: dict[str, Better] = {
    **dict.fromkeys(("test", "validation", "test_kept"), KEPT),
    "forget_given": FORGOTTEN,
}
_in_percent = partial(metric, span=(0.0, 100.0), unit="percent", kind="label")
_GAP = ("forget", "retain")


@metric_of_probes(
    "{probe}_accuracy",
    _PROBES,
    span=(0.0, 1.0),
    unit="fraction",
    source="share of right classes",
    kind="label",
)
def accuracy(point: Measured, probe: str) -> Score:
    """Share of {probe} inputs whose class is the likeliest."""
    return share_right(point, probe)


def _percent(score: Score, sign: int = 1) -> Score:
    """Return a share in per cent, or with ``sign`` -1 what is left of 100."""
    if score.value is None:
        return score
    share = score.value if sign > 0 else 1.0 - score.value
    return Score(100.0 * share, score.num_examples, score.note)


@_in_percent("ua_error_percent", better="higher", probes=("forget",), source=SALUN)
def ua_error_percent(point: Measured) -> Score:
    """SalUn's UA, 100 less the accuracy on the forget set in per cent; higher = more forgotten."""
    return _percent(share_right(point, "forget"), -1)


@_in_percent("ua_accuracy_percent", better=FORGOTTEN, probes=("forget",), source=TARF)
def ua_accuracy_percent(point: Measured) -> Score:
    """TARF's UA, the accuracy on the forget set in per cent; lower = more forgotten."""
    return _percent(share_right(point, "forget"))


@_in_percent("ra_accuracy_percent", better=KEPT, probes=("retain",), source=SALUN)
def ra_accuracy_percent(point: Measured) -> Score:
    """RA, the accuracy on the retain set in per cent; higher = better kept."""
    return _percent(share_right(point, "retain"))


@_in_percent(
    "ta_accuracy_percent",
    better=KEPT,
    probes=("test_kept",),
    source=SALUN,
    or_probes=("test",),
)
def ta_accuracy_percent(point: Measured) -> Score:
    """TA, the accuracy on the test set in per cent, forgotten classes aside; higher = better kept.

    Of probe ``test_kept`` where it was measured, else of ``test``.
    """
    return _percent(share_right(point, unseen(point)))


def mean_gap(found: dict[str, Score], of_retrained: dict[str, Score]) -> Score:
    """Return the mean of the absolute differences of each part, or the first part's reason."""
    for whose, parts in (("", found), (" of the retrained model", of_retrained)):
        for name, part in parts.items():
            if part.value is None:
                return Score(None, 0, f"{name}{whose}: {part.note}")
    gaps = {
        name: abs(float(part.value or 0.0) - float(of_retrained[name].value or 0.0))
        for name, part in found.items()
    }
    note = ", ".join(f"{name} {gap:.2f}" for name, gap in gaps.items())
    num_examples = min(part.num_examples for part in found.values())
    return Score(float(np.mean(list(gaps.values()))), num_examples, note)


@_in_percent(
    "ua_ra_ta_mia_gap",
    better="lower",
    probes=(*_GAP, "test_kept"),
    source=f"{SALUN}; {TARF}",
    or_probes=(*_GAP, "test"),
    needs=("retrained",),
)
def ua_ra_ta_mia_gap(point: Measured, retrained: Measured) -> Score:
    """Mean gap of UA, RA, TA and MIA to the retrained model; lower = more like it.

    MIA is by the true class's confidence, ``mia_svc_confidence_nonmember``. All count the same.
    """
    here, there = (
        {
            "UA": ua_error_percent(model),
            "RA": ra_accuracy_percent(model),
            "TA": ta_accuracy_percent(model),
            "MIA": nonmember_share(model, "confidence"),
        }
        for model in (point, retrained)
    )
    return mean_gap(here, there)
