"""Task loss on the forget and the retain probe: what barriers of mode connectivity are made of.

MCU eqs 2 to 4, L(D_f) and L(D_r): mean negative loglikelihood over all answer
tokens of the probe together, so a long answer weighs more than a short one. Not the mean of
per-answer means, which is what ``probability`` builds on. An input of a classifier has one label:
the mean is over inputs. Where texts are forgotten and questions ask whether it worked (MUSE, WMDP),
D_f and D_r are the texts: ``forget_text`` and ``retain_text``.
"""

from raymcu.metrics._base import Measured, Score, metric_of_probes


@metric_of_probes(
    "{probe}_loss",
    {"forget": "higher", "retain": "lower", "forget_text": "higher", "retain_text": "lower"},
    span=(0.0, float("inf")),
    unit="nats",
    source="MCU eqs 2-4",
    or_kind="label",
)
def loss(point: Measured, probe: str) -> Score:
    """Mean NLL per answer token, or input, of the {probe} probe, in nats; lower = better known."""
    rows = point.rows(probe) or point.labels(probe)
    if not rows.logprobs.size:
        return Score(None, 0, f"no answer of probe '{probe}' was measured")
    mean = float(rows.nll_sum.sum() / rows.num_tokens.sum())
    return Score.finite(mean, len(rows), f"loss on probe '{probe}'")
