"""What each question comes to, for scores that are resampled: table ``samples``.

Whatever resamples questions, or cuts them in halves, needs a number of each question and not its
answer. So that answers are read once, when they are scored, these numbers are kept beside the
scores. A score is made of the means of one sample or more over their questions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
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

Samples = Mapping[str, tuple[str, Floats]]
"""By name: a probe and what each of its questions comes to, in the order of its examples."""
Combine = Callable[[Sequence[Floats]], Floats]
"""Makes scores, (draws,), of the draws' means over questions of each sample, (draws,) each."""
Sampled = tuple[Samples, str]
"""What a metric is made of, and how: a name in `COMBINE`."""

_OF_LOSSES = ("forget", "retain", "forget_text", "retain_text")
_KEPT = ("retain", "real_authors", "world_facts")


def _harmonic(means: Sequence[Floats]) -> Floats:
    with np.errstate(divide="ignore"):
        found: Floats = len(means) / np.sum(1.0 / np.array(means), axis=0)
    return found


COMBINE: Mapping[str, Combine] = {
    "mean": lambda means: means[0],
    "percent": lambda means: 100.0 * means[0],
    "percent_wrong": lambda means: 100.0 - 100.0 * means[0],
    "ratio": lambda means: means[0] / means[1],
    "harmonic": _harmonic,
}
"""By name, as table ``samples`` has it."""


def samples_of(point: Measured) -> dict[str, Sampled]:
    """Return what each metric that has an interval is made of, as far as it was measured."""
    found: dict[str, Sampled] = {}
    for probe in sorted(point.probes):
        rows, kinds = point.rows(probe) or point.labels(probe), point.kinds(probe)
        if probe in _OF_LOSSES:
            tokens = (probe, rows.num_tokens.astype(np.float64))
            found[f"{probe}_loss"] = ({"nll": (probe, rows.nll_sum), "tokens": tokens}, "ratio")
        if "option" in kinds:
            right = choices(point, probe)
            hits = np.where(np.isnan(right.probability), np.nan, right.is_right)
            found[f"{probe}_accuracy"] = ({"": (probe, hits)}, "mean")
        if "label" in kinds:
            found |= _of_classes(point, probe)
        if "generation" not in kinds:
            continue
        if probe == "verbmem":
            found["verbmem"] = ({"": (probe, _f1(point, probe, lambda said: said))}, "percent")
        if probe in ("forget", "retain"):
            found[f"{probe}_knowmem"] = ({"": (probe, _f1(point, probe, answer_only))}, "percent")
        if probe == "forget":
            found["forget_rouge"] = ({"": (probe, _recall(point, probe))}, "mean")
    if all({"generation", "perturbed_answer"} <= point.kinds(probe) for probe in _KEPT):
        found["model_utility"] = (_utility(point), "harmonic")
    return found


def _of_classes(point: Measured, probe: str) -> dict[str, Sampled]:
    """Return accuracy as a share, and in per cent under the name that the literature has."""
    rows = point.labels(probe)
    samples = {"": (probe, np.where(np.isnan(rows.logprobs), np.nan, rows.hits))}
    found: dict[str, Sampled] = {f"{probe}_accuracy": (samples, "mean")}
    if probe == "forget":
        found["ua_error_percent"] = (samples, "percent_wrong")
        found["ua_accuracy_percent"] = (samples, "percent")
    if probe == "retain":
        found["ra_accuracy_percent"] = (samples, "percent")
    if probe == unseen(point):
        found["ta_accuracy_percent"] = (samples, "percent")
    return found


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


def samples_table(point_id: str, found: Mapping[str, Sampled]) -> pa.Table:
    """Return the rows of table ``samples`` of one point: one for each sample of each metric."""
    rows = [
        (point_id, metric, made, name, probe, values)
        for metric, (samples, made) in found.items()
        for name, (probe, values) in samples.items()
    ]
    *words, values = zip(*rows, strict=True) if rows else ((),) * 6
    ends = np.cumsum([0, *(len(one) for one in values)])
    flat = np.concatenate([np.zeros(0), *values])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat, pa.float64()))
    schema = tables.SCHEMAS["samples"]
    columns = [pa.array(column, pa.string()) for column in words]
    return pa.Table.from_arrays([*columns, lists], schema.names).cast(schema)


def read_samples(
    run: RunFolder, points: Iterable[str]
) -> Iterator[tuple[str, Mapping[str, Sampled]]]:
    """Yield points that were measured, in the order of their names, and what questions come to.

    Of a point that was scored without keeping it, the answers are read.

    Raises:
        StoreError: If a file is damaged.
    """
    kept = frozenset(run.parts("samples"))
    for point in sorted(points):
        if point in kept:
            yield point, _of_table(run.read_part("samples", point))
        else:
            yield point, samples_of(Measured(run.read_part("measurements", point)))


def _of_table(rows: pa.Table) -> Mapping[str, Sampled]:
    lists = rows["values"].combine_chunks()
    flat, ends = lists.values.to_numpy(), lists.offsets.to_numpy()
    found: dict[str, tuple[dict[str, tuple[str, Floats]], str]] = {}
    words = zip(*tables.columns(rows, "metric", "made", "name", "probe"), strict=True)
    for place, (metric, made, name, probe) in enumerate(words):
        samples, _ = found.setdefault(metric, ({}, made))
        samples[name] = probe, flat[ends[place] : ends[place + 1]]
    return found
