"""How sure a score is: 95% intervals by resampling questions, of what models are judged by first.

The percentile bootstrap: questions, or inputs, of each probe are drawn anew with replacement, a
thousand times, and the score is taken of each draw. The draws depend on nothing but the probe and
its number of questions: equal measurements give equal intervals, and all models are asked the same
draws. A p-value has no interval, so forget quality has none.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymcu.metrics._base import Floats, Measured
from raymcu.metrics._classes import unseen
from raymcu.metrics._examples import wrong_answers
from raymcu.metrics.choice import choices
from raymcu.metrics.muse import answer_only
from raymcu.metrics.probability import option_shares
from raymcu.metrics.rouge import generations, rouge_l_f1, rouge_l_recall
from raymcu.metrics.truth_ratio import log_truth_ratios
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

RESAMPLES = 1000
SHARE = 0.95
_ALONG = ("curve", "walk", "trial", "layers")
"""Roles of points that are not told one by one."""

_OF_LOSSES = ("forget", "retain", "forget_text", "retain_text")

Samples = Mapping[str, tuple[str, Floats]]
"""By name: a probe and what each of its questions comes to."""


def keep_intervals(run: RunFolder) -> None:
    """Write the intervals of every single model that is measured and has none yet.

    Raises:
        StoreError: If a measurements file is damaged.
    """
    rows = run.read_table("points").select(["point_id", "role", "t"]).to_pylist()
    wanted = {
        row["point_id"]
        for row in rows
        if row["role"] not in _ALONG or (row["role"] == "curve" and row["t"] in (0, 1))
    }
    there = set(run.parts("intervals"))
    for point in sorted(wanted & set(run.parts("measurements")) - there):
        run.write_part("intervals", point, intervals(point, run.read_part("measurements", point)))


def intervals(point_id: str, measurements: pa.Table) -> pa.Table:
    """Return the rows of table ``intervals`` of one point; a score that is not finite has none."""
    point = Measured(measurements)
    rows: list[dict[str, Any]] = []
    for metric, (samples, combine) in samples_of(point).items():
        sizes = {probe: len(values) for probe, values in samples.values()}
        if not samples or not min(sizes.values()):
            continue
        drawn = resampled(samples, combine)
        if np.isfinite(drawn).all():
            low, high = np.quantile(drawn, [(1 - SHARE) / 2, (1 + SHARE) / 2])
            rows.append({"point_id": point_id, "metric": metric, "low": float(low),
                         "high": float(high), "num_questions": sum(sizes.values())})  # fmt: skip
    return tables.from_rows("intervals", rows)


Combine = Callable[[Sequence[Floats]], Floats]
"""Makes scores, (draws,), of the draws' means over questions of each sample, (draws,) each."""


def resampled(samples: Samples, combine: Combine, draws: int = RESAMPLES) -> Floats:
    """Return the score of each draw: (draws,)."""
    means = []
    for probe, values in samples.values():
        means.append(_draws(probe, len(values), draws) @ values / len(values))
    return combine(means)


@lru_cache(maxsize=8)
def _draws(probe: str, num: int, draws: int) -> npt.NDArray[np.float64]:
    """Return how often each draw has each of so many questions: (draws, questions)."""
    rng = np.random.default_rng([num, *probe.encode()])
    picked = rng.integers(num, size=(draws, num))
    at = picked + num * np.arange(draws)[:, None]
    return np.bincount(at.ravel(), minlength=draws * num).reshape(draws, num).astype(np.float64)


def samples_of(point: Measured) -> dict[str, tuple[Samples, Combine]]:
    """Return what each metric that has an interval is made of, as far as it was measured."""
    found: dict[str, tuple[Samples, Combine]] = {}
    for probe in sorted(point.probes):
        rows, kinds = point.rows(probe) or point.labels(probe), point.kinds(probe)
        if probe in _OF_LOSSES:
            tokens = (probe, rows.num_tokens.astype(np.float64))
            found[f"{probe}_loss"] = ({"nll": (probe, rows.nll_sum), "tokens": tokens}, _ratio)
        if "option" in kinds:
            right = choices(point, probe)
            hits = np.where(np.isnan(right.probability), np.nan, right.is_right)
            found[f"{probe}_accuracy"] = ({"": (probe, hits)}, _alone)
        if "label" in kinds:
            found |= _of_classes(point, probe)
        if "generation" not in kinds:
            continue
        if probe == "verbmem":
            found["verbmem"] = ({"": (probe, _f1(point, probe, lambda said: said))}, _percent)
        if probe in ("forget", "retain"):
            found[f"{probe}_knowmem"] = ({"": (probe, _f1(point, probe, answer_only))}, _percent)
        if probe == "forget":
            found["forget_rouge"] = ({"": (probe, _recall(point, probe))}, _alone)
    if all({"generation", "perturbed_answer"} <= point.kinds(probe) for probe in _KEPT):
        found["model_utility"] = (_utility(point), _harmonic)
    return found


def _of_classes(point: Measured, probe: str) -> dict[str, tuple[Samples, Combine]]:
    """Return accuracy as a share, and in per cent under the name that the literature has."""
    rows = point.labels(probe)
    samples = {"": (probe, np.where(np.isnan(rows.logprobs), np.nan, rows.hits))}
    found: dict[str, tuple[Samples, Combine]] = {f"{probe}_accuracy": (samples, _alone)}
    if probe == "forget":
        found["ua_error_percent"] = (samples, _error)
        found["ua_accuracy_percent"] = (samples, _percent)
    if probe == "retain":
        found["ra_accuracy_percent"] = (samples, _percent)
    if probe == unseen(point):
        found["ta_accuracy_percent"] = (samples, _percent)
    return found


_KEPT = ("retain", "real_authors", "world_facts")


def _utility(point: Measured) -> Samples:
    """Return the nine samples that model utility is the harmonic mean of the means of."""
    samples: dict[str, tuple[str, Floats]] = {}
    for probe in _KEPT:
        likely = (
            np.exp(-point.rows(probe).nll_mean)
            if probe == "retain"
            else option_shares(wrong_answers(point, probe, "answer"))
        )
        margin = -np.expm1(np.minimum(log_truth_ratios(point, probe), 0.0))
        parts = (("likely", likely), ("rouge", _recall(point, probe)), ("truth", margin))
        samples |= {f"{probe} {name}": (probe, values) for name, values in parts}
    return samples


def _recall(point: Measured, probe: str) -> Floats:
    return np.array([rouge_l_recall(*pair) for pair in generations(point, probe)])


def _f1(point: Measured, probe: str, cut: Callable[[str], str]) -> Floats:
    score = partial(rouge_l_f1, stems=False)
    return np.array([score(answer, cut(said)) for answer, said in generations(point, probe)])


def _alone(means: Sequence[Floats]) -> Floats:
    return means[0]


def _percent(means: Sequence[Floats]) -> Floats:
    return 100.0 * means[0]


def _error(means: Sequence[Floats]) -> Floats:
    return 100.0 - 100.0 * means[0]


def _ratio(means: Sequence[Floats]) -> Floats:
    return means[0] / means[1]


def _harmonic(means: Sequence[Floats]) -> Floats:
    with np.errstate(divide="ignore"):
        found: Floats = len(means) / np.sum(1.0 / np.array(means), axis=0)
    return found
