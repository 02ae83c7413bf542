"""Membership inference: does the forget set still look like training data?

Each attack gives an example a number that is lower for training data. The score is the AUC,
oriented as ``auc_member_is_forget``: the probability that a forget example looks more like a
member than a held-out one, ties counting half. 1 = the forget set is remembered, 0.5 = it looks
as if never seen, under 0.5 = less likely than unseen text, which tells an attacker as much. The
ideal is the AUC of the retrained model, near 0.5, so neither direction is better.

The sets are MUSE's texts, ``forget_text`` and ``holdout_text``, where both were measured, else
the questions' answers of ``forget`` and ``holdout``. The attacks are those of OpenUnlearning
(open-unlearning at d3d7cf9, ``evals/metrics/mia``), which orients its AUC in the same way; MUSE
reports one minus it. All tokens of the answer count, EOS included; OpenUnlearning drops the last
one from Min-K%, Min-K%++ and GradNorm, as ``privleak_ou`` and ``ou_priv`` do from the first two.
Of n tokens Min-K% takes int(k n) but at least one, as OpenUnlearning does; MUSE's mean of none, for
n < 1/k, is not a number. An answer without tokens tells nothing and is left out.
"""

import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from raymcu.errors import ConfigError
from raymcu.metrics._base import Floats, Ints, Measured, Rows, Score, metric, shared

TEXTS = ("forget_text", "holdout_text")
QUESTIONS = ("forget", "holdout")
Attack = Callable[[Rows], Floats]

_OU = "open-unlearning d3d7cf9, evals/metrics/mia"
_MIN_STD = 1e-3  # the root of OpenUnlearning's smallest variance


def area_under_curve(members: Floats, others: Floats) -> float:
    """Return the share of pairs in which the member is lower, ties counting half, in [0, 1].

    Args:
        members: A number of each example held to be a member, without NaN.
        others: One of each other example, without NaN.
    """
    ordered = np.sort(others)
    num_lower = np.searchsorted(ordered, members, side="left").sum()
    num_not_higher = np.searchsorted(ordered, members, side="right").sum()
    num_pairs = len(members) * len(others)
    return 1.0 - int(num_lower + num_not_higher) / (2 * num_pairs)


def lowest_means(values: Floats, offsets: Ints, share: float) -> Floats:
    """Return the mean of the lowest ``share`` of each answer's values: (rows,).

    At least one value is taken; an answer without any has 0, one with a NaN has NaN.

    Args:
        values: A value of each token: (tokens,).
        offsets: Where the values of each answer start, and their number: (rows + 1,).
        share: How much of an answer is taken, rounded down to whole tokens.
    """
    lengths = np.diff(offsets)
    counts = np.maximum(1, (lengths * share).astype(np.int64))
    rank = np.arange(lengths.max(initial=0))
    is_there, row = rank < lengths[:, None], np.repeat(np.arange(len(lengths)), lengths)
    ordered = np.full(is_there.shape, np.inf)  # a row each: many short sorts are the fastest
    ordered[is_there] = values
    ordered.sort(axis=1)
    is_lowest = is_there & (rank < counts[:, None])
    owner = np.nonzero(is_lowest)[0]
    means: Floats = np.bincount(owner, ordered[is_lowest], minlength=len(lengths)) / counts
    means[row[np.isnan(values)]] = np.nan  # it sorts last, so it may not be among the lowest
    return means


@shared
def membership_auc(point: Measured, attack: Attack, probes: tuple[str, ...]) -> Score:
    """Return ``auc_member_is_forget`` of an attack, a function of the answers of a probe.

    Args:
        point: The model.
        attack: Gives every answer a number that is lower for training data.
        probes: The set held to be members, and the set of no members.
    """
    return _auc(*((rows, attack(rows)) for rows in map(point.rows, probes)))


def probes_of(point: Measured, kind: str = "answer") -> tuple[str, ...]:
    """Return the members' and the other probe: the texts if both have what ``kind`` says."""
    has_texts = all(kind in point.kinds(probe) for probe in TEXTS)
    return TEXTS if has_texts else QUESTIONS


def same_questions(point: Measured, retrained: Measured, probe: str) -> tuple[Ints, Ints]:
    """Return the rows of both models in one order: two of (rows,).

    Raises:
        ConfigError: If they were asked different questions.
    """
    here, there = point.rows(probe).key, retrained.rows(probe).key
    if Counter(here) != Counter(there):
        num_shared = (Counter(here) & Counter(there)).total()
        raise ConfigError(
            f"membership inference: probe '{probe}' of point '{', '.join(point.point_ids)}' has "
            f"{len(here)} rows and of the retrained model '{', '.join(retrained.point_ids)}' "
            f"{len(there)}, of which {num_shared} are the same; all must be. Measure the model "
            "that was retrained without this forget set on the same probe with the same number of "
            "examples."
        )
    return np.argsort(here, kind="stable"), np.argsort(there, kind="stable")


def _auc(forget: tuple[Rows, Floats], holdout: tuple[Rows, Floats]) -> Score:
    members, others = (values[rows.num_tokens > 0] for rows, values in (forget, holdout))
    if not len(members) or not len(others):
        return Score(None, 0, "needs measured answers of the forget and of the holdout set")
    if np.isnan(members).any() or np.isnan(others).any():
        return Score(None, 0, "some answers have no number: not measured, or the model diverged")
    num_examples = len(members) + len(others)
    num_empty = len(forget[0]) + len(holdout[0]) - num_examples
    note = f"{num_empty} answers without tokens are left out" if num_empty else None
    return Score(area_under_curve(members, others), num_examples, note)


def _attack(name: str, source: str, kind: str = "answer") -> Callable[[Attack], Attack]:
    """Register the AUC of an attack; the docstring's first line names it."""

    def add(attack: Attack) -> Attack:
        def auc(point: Measured) -> Score:
            return membership_auc(point, attack, probes_of(point, kind))

        first = (attack.__doc__ or "").split("\n")[0].removeprefix("Attack by ").removesuffix(".")
        auc.__doc__ = f"AUC of membership, {first}; 1 = forget is remembered, 0.5 = as unseen."
        metric(
            name,
            better="neither",
            span=(0.0, 1.0),
            unit="probability",
            probes=QUESTIONS,
            source=source,
            kind=kind,
            or_probes=TEXTS,
        )(auc)
        return attack

    return add


@_attack("mia_loss_auc", f"Yeom et al. 2018 (arXiv:1709.01604); {_OU}/loss.py")
def mean_nll(rows: Rows) -> Floats:
    """Attack by mean NLL per token.

    Returns nats of each answer: (rows,).
    """
    return rows.nll_mean


@_attack("mia_zlib_auc", f"Carlini et al. 2021 (arXiv:2012.07805); {_OU}/zlib.py")
def nll_per_zlib_byte(rows: Rows) -> Floats:
    """Attack by mean NLL per token over the bytes of the zlib-compressed answer.

    Returns nats per byte of each answer: (rows,).
    """
    sizes: Floats = np.array([_zlib_bytes(answer) for answer in rows.answer], dtype=np.float64)
    return rows.nll_mean / sizes


@lru_cache(maxsize=1 << 16)  # all points of a study have the same answers
def _zlib_bytes(text: str) -> int:
    return len(zlib.compress(text.encode()))


@_attack("mia_min_k_auc", f"Shi et al. 2023 (arXiv:2310.16789), k = 0.4; {_OU}/min_k.py")
def min_k(rows: Rows) -> Floats:
    """Attack by mean NLL of the 40% least likely tokens (Min-K%).

    k as OpenUnlearning's configurations and MUSE's PrivLeak have it. Returns nats: (rows,).
    """
    return -lowest_means(rows.logprobs, rows.offsets, 0.4)


@_attack("mia_min_k_20_auc", f"Shi et al. 2023 (arXiv:2310.16789), k = 0.2; {_OU}/min_k.py")
def min_k_20(rows: Rows) -> Floats:
    """Attack by mean NLL of the 20% least likely tokens (Min-K%).

    k as the paper and the default of OpenUnlearning's class have it. Returns nats: (rows,).
    """
    return -lowest_means(rows.logprobs, rows.offsets, 0.2)


@_attack(
    "mia_min_k_plus_auc",
    f"Zhang et al. 2024 (arXiv:2404.02936), k = 0.4; {_OU}/min_k_plus_plus.py",
    kind="mean_logprobs",
)
def min_k_plus(rows: Rows) -> Floats:
    """Attack by the 40% lowest normalised log-probabilities (Min-K%++).

    (log p - mu) / sigma, with mu and sigma of log p under the model's own distribution at that
    token; sigma is at least 0.001, as OpenUnlearning has it. Returns minus their mean: (rows,).
    """
    return -lowest_means(_normalised(rows), rows.offsets, 0.4)


def min_k_ou(rows: Rows) -> Floats:
    """Return OpenUnlearning's Min-K% of each answer, k = 0.4, the last token left out: (rows,)."""
    return -lowest_means(*_but_last(rows, rows.logprobs), 0.4)


def min_k_plus_ou(rows: Rows) -> Floats:
    """Return OpenUnlearning's Min-K%++ of each answer, k = 0.4, without the last token: (rows,)."""
    return -lowest_means(*_but_last(rows, _normalised(rows)), 0.4)


def _normalised(rows: Rows) -> Floats:
    """Return (log p - mu) / sigma of each token: (tokens,)."""
    spread = np.maximum(rows.tokens("std_logprobs").astype(np.float64), _MIN_STD)
    normalised: Floats = (rows.logprobs - rows.tokens("mean_logprobs")) / spread
    return normalised


def _but_last(rows: Rows, values: Floats) -> tuple[Floats, Ints]:
    """Return the values of all but each answer's last token, and where the answers' start."""
    is_last = np.zeros(len(values), dtype=bool)
    is_last[rows.offsets[1:][rows.num_tokens > 0] - 1] = True
    lengths = np.maximum(rows.num_tokens - 1, 0)
    return values[~is_last], np.concatenate([[0], np.cumsum(lengths)])


@_attack(
    "mia_gradnorm_auc",
    f"Wang et al. 2024 (arXiv:2402.17012); {_OU}/gradnorm.py",
    kind="gradient_norm",
)
def gradient_norm(rows: Rows) -> Floats:
    """Attack by the norm of the gradient of the mean NLL, averaged over parameters.

    Returns it for each answer: (rows,).
    """
    return rows.numbers("gradient_norm")


@metric(
    "mia_reference_auc",
    better="neither",
    span=(0.0, 1.0),
    unit="probability",
    probes=QUESTIONS,
    source=f"Carlini et al. 2021 (arXiv:2012.07805); {_OU}/reference.py",
    or_probes=TEXTS,
    needs=("retrained",),
)
def mia_reference_auc(point: Measured, retrained: Measured) -> Score:
    """AUC of membership, mean NLL less the retrained model's; 1 = remembered, 0.5 = as unseen.

    The reference model is the retrained one, for which the score is 0.5.

    Raises:
        ConfigError: If the two models were asked different questions.
    """
    found = []
    for probe in probes_of(point):
        here, there = same_questions(point, retrained, probe)
        rows = point.rows(probe)
        nll = np.zeros(len(rows))
        with np.errstate(invalid="ignore"):  # where both have diverged
            nll[here] = rows.nll_mean[here] - retrained.rows(probe).nll_mean[there]
        found.append((rows, nll))
    return _auc(*found)
