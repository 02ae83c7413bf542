"""Task loss on the forget and the retain probe: what barriers of mode connectivity are made of.

MCU (papers/mcu.txt) eqs 2 to 4, L(D_f) and L(D_r): mean negative loglikelihood over all answer
tokens of the probe together, so a long answer weighs more than a short one. Not the mean of
per-answer means, which is what ``probability`` builds on.
"""

from raymcu.metrics._base import Measured, Score, metric

_SOURCE = "MCU (papers/mcu.txt) eqs 2-4"


def _token_mean_loss(point: Measured, probe: str) -> Score:
    rows = point.rows(probe)
    if not rows.logprobs.size:
        return Score(None, 0, f"no answer of probe '{probe}' was measured")
    loss = float(rows.nll_sum.sum() / rows.num_tokens.sum())
    return Score.finite(loss, len(rows), f"loss on probe '{probe}'")


@metric(
    "forget_loss",
    better="higher",
    span=(0.0, float("inf")),
    unit="nats",
    probes=("forget",),
    source=_SOURCE,
)
def forget_loss(point: Measured, retrained: Measured | None) -> Score:
    """Mean NLL per answer token on the forget probe, in nats; higher = more forgotten."""
    return _token_mean_loss(point, "forget")


@metric(
    "retain_loss",
    better="lower",
    span=(0.0, float("inf")),
    unit="nats",
    probes=("retain",),
    source=_SOURCE,
)
def retain_loss(point: Measured, retrained: Measured | None) -> Score:
    """Mean NLL per answer token on the retain probe, in nats; lower = better kept."""
    return _token_mean_loss(point, "retain")
