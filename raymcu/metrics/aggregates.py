"""OpenUnlearning's aggregates: memorisation, privacy, utility, and one number of all.

Source: OpenUnlearning (arXiv:2506.12618) appendix F; its code was never released (issue 150).

- Mem: harmonic mean (HM) of 1 - {extraction strength, exact memorisation, probability of the
  paraphrased answer, truth ratio c / (c + w)} on the forget probe, each as OpenUnlearning has it,
  its 1e-10 in the last one's denominator aside.
- Priv: HM of one number per membership attack, "how closely the model aligns with the retain
  model". The attacks are OpenUnlearning's: Min-K% and Min-K%++ leave the last token out. Neither
  paper nor authors say how it is scaled (issue 172). Here, with a and r the AUCs of the point and
  of the retrained model: 1 - |a - r| / max(r, 1 - r), which is 1 if they agree and 0 if a is as far
  from r as an AUC can be. It is the same whichever side counts as members, and has no denominator
  under 1/2. For r < 1/2 and a > r it is 1 - |PrivLeak| / 100 of MUSE.
- Util: HM of ``model_utility`` and fluency. Fluency is this project's proxy, not the gibberish
  classifier, so that Util and what is made of it do not compare with published numbers.
- Agg: HM of the three; the AAAI 2026 tutorial's is HM of Mem and Util.
"""

from dataclasses import replace

import numpy as np

from raymcu.metrics._base import (
    METRICS,
    Floats,
    Measured,
    Rows,
    Score,
    metric,
    shared,
)
from raymcu.metrics.collapse import fluency
from raymcu.metrics.extraction import extraction_strengths_ou
from raymcu.metrics.membership import (
    mean_nll,
    membership_auc,
    min_k_ou,
    min_k_plus_ou,
    nll_per_zlib_byte,
    probes_of,
)
from raymcu.metrics.probability import paraphrase_probability
from raymcu.metrics.truth_ratio import truth_ratio_share
from raymcu.metrics.utility import harmonic_score, model_utility

ATTACKS = {
    "mia_loss_auc": mean_nll,
    "mia_zlib_auc": nll_per_zlib_byte,
    "mia_min_k_auc": min_k_ou,
    "mia_min_k_plus_auc": min_k_plus_ou,
}
"""By the metric of the same attack: OpenUnlearning's, which drops the last token from some."""
_SOURCE = "OpenUnlearning (arXiv:2506.12618) appendix F"
_TUTORIAL = "Towards Reliable Evaluations of Machine Unlearning (AAAI 2026 tutorial), table 1"
_UTILITY_PROBES = ("forget", "retain", "real_authors", "world_facts")
_PROXY = "fluency is a proxy, not OpenUnlearning's classifier"


def exact_memorization_ou(rows: Rows) -> Floats:
    """Return the share of positions hit of each answer but its last token: (rows,).

    0 for an answer of one token or none.
    """
    before = np.concatenate([[0], np.cumsum(rows.hits)])
    lengths = np.maximum(rows.num_tokens - 1, 0)
    starts = rows.offsets[:-1]
    shares: Floats = (before[starts + lengths] - before[starts]) / np.maximum(lengths, 1)
    return shares


@shared
def memorization(point: Measured) -> Score:
    """Return OpenUnlearning's Mem."""
    rows, what = point.rows("forget"), "answer of probe 'forget'"
    found = {
        "extraction strength": Score.mean(extraction_strengths_ou(rows), what),
        "exact memorisation": Score.mean(exact_memorization_ou(rows), what),
        "paraphrased probability": paraphrase_probability(point, "forget"),
        "truth ratio": truth_ratio_share(point, "forget"),
    }
    return harmonic_score({f"1 - {name}": _rest(part) for name, part in found.items()}, len(rows))


def _rest(part: Score) -> Score:
    return part if part.value is None else replace(part, value=max(0.0, 1.0 - part.value))


@shared
def privacy(point: Measured, retrained: Measured) -> Score:
    """Return OpenUnlearning's Priv, over the attacks that were measured of both models."""
    parts = {}
    for name, attack in ATTACKS.items():
        if all(METRICS[name].is_measured(model) for model in (point, retrained)):
            kind = METRICS[name].kind
            parts[name] = likeness(
                *(membership_auc(m, attack, probes_of(m, kind)) for m in (point, retrained))
            )
    if not parts:
        return Score(None, 0, "no membership attack was measured of the point and of the retrained")
    num_examples = min(part.num_examples for part in parts.values())
    lacking = [name for name in ATTACKS if name not in parts]
    note = f"without {', '.join(lacking)}: not measured" if lacking else None
    return harmonic_score(parts, num_examples, note)


def likeness(attack: Score, of_retrained: Score) -> Score:
    """Return 1 - |a - r| / max(r, 1 - r) of the AUCs of a model and of the retrained one."""
    if attack.value is None or of_retrained.value is None:
        return attack if attack.value is None else of_retrained
    away = abs(attack.value - of_retrained.value)
    farthest = max(of_retrained.value, 1.0 - of_retrained.value)
    return Score(1.0 - away / farthest, attack.num_examples)


@shared
def utility(point: Measured) -> Score:
    """Return OpenUnlearning's Util, with the proxy of fluency."""
    of_model = model_utility(point)
    parts = {"model_utility": of_model, "forget_fluency": fluency(point, "forget")}
    return harmonic_score(parts, of_model.num_examples, _PROXY)


@metric(
    "ou_mem",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    kind="perturbed_answer",
    source=_SOURCE,
)
def ou_mem(point: Measured) -> Score:
    """OpenUnlearning's Mem, HM of 1 - ES, EM, paraphrase, truth ratio; higher = more forgotten."""
    return memorization(point)


@metric(
    "ou_priv",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget", "holdout"),
    or_probes=("forget_text", "holdout_text"),
    source=_SOURCE,
    needs=("retrained",),
)
def ou_priv(point: Measured, retrained: Measured) -> Score:
    """OpenUnlearning's Priv, HM over membership attacks; higher = more like the retrained."""
    return privacy(point, retrained)


@metric(
    "ou_util",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=_UTILITY_PROBES,
    kind="generation",
    source=_SOURCE,
)
def ou_util(point: Measured) -> Score:
    """OpenUnlearning's Util, HM of model utility and a fluency proxy; higher = better kept."""
    return utility(point)


@metric(
    "ou_aggregate",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=(*_UTILITY_PROBES, "holdout"),
    source=_SOURCE,
    needs=("retrained",),
)
def ou_aggregate(point: Measured, retrained: Measured) -> Score:
    """OpenUnlearning's overall score, HM of Mem, Priv and Util; higher = better unlearned."""
    mem, priv, util = memorization(point), privacy(point, retrained), utility(point)
    parts = {"ou_mem": mem, "ou_priv": priv, "ou_util": util}
    return harmonic_score(parts, mem.num_examples, _PROXY)


@metric(
    "ou_aggregate_two",
    better="higher",
    span=(0.0, 1.0),
    unit="fraction",
    probes=_UTILITY_PROBES,
    kind="generation",
    source=_TUTORIAL,
)
def ou_aggregate_two(point: Measured) -> Score:
    """The tutorial's overall score, HM of Mem and Util; higher = better unlearned."""
    mem, util = memorization(point), utility(point)
    return harmonic_score({"ou_mem": mem, "ou_util": util}, mem.num_examples, _PROXY)
