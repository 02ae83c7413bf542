"""Membership inference on classifiers: would an attacker count the forget set as training data?

The attack of the unlearning literature fits a support vector machine (RBF kernel, C = 3,
gamma = 1 / number of features) to one number of each input, with as many of the first retain inputs
as there are test inputs as members and the test inputs as others, and reports the share of forget
inputs that it takes for non-members, in per cent: higher is more forgotten, and what the retrained
model has is the ideal. Sources: Unlearn-Sparse and SalUn, ``evaluation/SVC_MIA.py``.

The number is the true class's probability (confidence), the entropy of all classes, or the
modified entropy of Song and Mittal (arXiv:2003.10595): with y the true class,
-(1 - p_y) ln p_y - sum over the other classes c of p_c ln(1 - p_c). Unlearn-Sparse's code of it
takes ln p_c for ln(1 - p_c), and indexes columns by the labels of all inputs, so that every class
that any input of the set has adds -(1 - p_c) ln p_c: that is
``mia_svc_m_entropy_sparse_nonmember``. A ln of 0 is that of 1e-30, as in the codes.

The AUCs need no fit. They are oriented as those of `raymcu.metrics.membership`: the probability
that a forget input looks more like a member than a test input.

A fit takes time quadratic in the number of inputs: 1 s for 2,000 test inputs, half a minute for
10,000.
"""

import math
from collections.abc import Callable

import numpy as np

from raymcu.metrics._base import Floats, Measured, Rows, Score, metric, shared
from raymcu.metrics._classes import true_classes, unseen
from raymcu.metrics.membership import area_under_curve

_CODE = "Unlearn-Sparse (arXiv:2304.04934) and SalUn (arXiv:2310.12508), evaluation/SVC_MIA.py"
_MIA = "Song and Mittal 2021 (arXiv:2003.10595)"
_LEAST = math.log(1e-30)


def confidences(rows: Rows) -> Floats:
    """Return the probability of each input's class: (rows,)."""
    probabilities: Floats = np.exp(rows.logprobs)
    return probabilities


def entropies(rows: Rows) -> Floats:
    """Return the entropy of each input's classes in nats: (rows,)."""
    logs = rows.class_logprobs
    sums: Floats = np.sum(np.exp(logs) * np.maximum(logs, _LEAST), axis=1)
    return -sums


def modified_entropies(rows: Rows) -> Floats:
    """Return Song and Mittal's modified entropy of each input in nats: (rows,)."""
    logs = rows.class_logprobs
    rest = -np.expm1(logs)  # 1 - p
    with np.errstate(divide="ignore"):
        terms = np.exp(logs) * np.maximum(np.log(np.maximum(rest, 0.0)), _LEAST)
    of_true = np.arange(len(rows)), true_classes(rows)
    terms[of_true] = rest[of_true] * np.maximum(logs[of_true], _LEAST)
    sums: Floats = terms.sum(axis=1)
    return -sums


def modified_entropies_sparse(rows: Rows) -> Floats:
    """Return what Unlearn-Sparse's code has for the modified entropy, in nats: (rows,)."""
    logs = rows.class_logprobs
    weights = np.exp(logs)
    written = np.unique(true_classes(rows))
    weights[:, written] = -np.expm1(logs[:, written])
    sums: Floats = np.sum(weights * np.maximum(logs, _LEAST), axis=1)
    return -sums


ATTACKS: dict[str, Callable[[Rows], Floats]] = {
    "confidence": confidences,
    "entropy": entropies,
    "m_entropy": modified_entropies,
    "m_entropy_sparse": modified_entropies_sparse,
}


def _values(rows: Rows, attack: Callable[[Rows], Floats]) -> Floats | None:
    """Return an attack's number of each input; None if the model has diverged."""
    if np.isnan(rows.logprobs).any() or np.isnan(rows.class_logprobs).any():
        return None
    return attack(rows)


def svc_nonmembers(members: Floats, others: Floats, forget: Floats) -> float:
    """Return the share of ``forget`` that the fitted attack takes for others, in [0, 1].

    Args:
        members: A number of each input that was trained on.
        others: One of each that was not.
        forget: One of each forget input.
    """
    from sklearn.svm import SVC  # slow to import

    model = SVC(C=3, kernel="rbf", gamma="auto")
    is_member = np.repeat([1, 0], [len(members), len(others)])
    model.fit(np.concatenate([members, others])[:, None], is_member)
    return float(np.mean(model.predict(forget[:, None]) == 0))


@shared
def nonmember_share(point: Measured, attack: str) -> Score:
    """Return the share of forget inputs that an attack takes for non-members, in per cent."""
    probes = ("retain", unseen(point), "forget")
    members, others, forget = map(point.labels, probes)
    for probe, rows in zip(probes, (members, others, forget), strict=True):
        if not len(rows):
            return Score(None, 0, f"no input of probe '{probe}' was measured")
    members = members.first(len(others))
    values = [_values(rows, ATTACKS[attack]) for rows in (members, others, forget)]
    if any(found is None for found in values):
        return Score(None, len(forget), "the probabilities are not finite: the model has diverged")
    note = None
    if len(members) < len(others):
        note = f"{len(members)} members against {len(others)} others: no more retain inputs"
    share = svc_nonmembers(*(found for found in values if found is not None))
    return Score(100.0 * share, len(forget), note)


def _register_svc(attack: str, told: str, source: str) -> None:
    def nonmember(point: Measured) -> Score:
        return nonmember_share(point, attack)

    nonmember.__doc__ = (
        f"Forget inputs that an SVC on the {told} takes for non-members; higher = more forgotten."
    )
    nonmember.__qualname__ = f"nonmember_share[{attack}]"
    metric(
        f"mia_svc_{attack}_nonmember",
        better="higher",
        span=(0.0, 100.0),
        unit="percent",
        probes=("forget", "retain", "test_kept"),
        source=source,
        kind="class_logprobs",
        or_probes=("forget", "retain", "test"),
    )(nonmember)


_register_svc("confidence", "true class's probability", _CODE)
_register_svc("entropy", "entropy", _CODE)
_register_svc("m_entropy", "modified entropy", f"{_MIA}; {_CODE}")
_register_svc("m_entropy_sparse", "modified entropy as Unlearn-Sparse's code has it", _CODE)


def _auc(point: Measured, attack: Callable[[Rows], Floats]) -> Score:
    probes = ("forget", unseen(point))
    forget, others = map(point.labels, probes)
    for probe, rows in zip(probes, (forget, others), strict=True):
        if not len(rows):
            return Score(None, 0, f"no input of probe '{probe}' was measured")
    first, second = (_values(rows, attack) for rows in (forget, others))
    num_examples = len(forget) + len(others)
    if first is None or second is None:
        return Score(None, num_examples, "probabilities are not finite: the model has diverged")
    return Score(area_under_curve(first, second), num_examples)


def _register_auc(name: str, told: str, attack: Callable[[Rows], Floats], source: str) -> None:
    def auc(point: Measured) -> Score:
        return _auc(point, attack)

    auc.__doc__ = (
        f"AUC of membership, {told}, against test; 1 = forget is remembered, 0.5 = as unseen."
    )
    auc.__qualname__ = f"auc[{name}]"
    metric(
        f"mia_class_{name}_auc",
        better="neither",
        span=(0.0, 1.0),
        unit="probability",
        probes=("forget", "test_kept"),
        source=source,
        kind="class_logprobs",
        or_probes=("forget", "test"),
    )(auc)


_register_auc("loss", "loss", lambda rows: rows.nll_mean, "Yeom et al. 2018 (arXiv:1709.01604)")
_register_auc("entropy", "entropy", entropies, _MIA)
_register_auc("m_entropy", "modified entropy", modified_entropies, _MIA)
