"""How sure a score is: 95% intervals by resampling questions, of what models are judged by first.

The percentile bootstrap: questions, or inputs, of each probe are drawn anew with replacement, a
thousand times, and the score is taken of each draw. The draws depend on nothing but the probe and
its number of questions: equal measurements give equal intervals, and all models are asked the same
draws. A p-value has no interval, so forget quality has none.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymcu.metrics._base import Floats
from raymcu.metrics._samples import COMBINE, Combine, Sampled, Samples, read_samples
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

RESAMPLES = 1000
SHARE = 0.95
_ALONG = ("curve", "walk", "trial", "layers")
"""Roles of points that are not told one by one."""


def single_points(run: RunFolder) -> frozenset[str]:
    """Return the points that are told one by one: models, ends of curves, what was attacked."""
    rows = run.read_table("points").select(["point_id", "role", "t"]).to_pylist()
    return frozenset(
        row["point_id"]
        for row in rows
        if row["role"] not in _ALONG or (row["role"] == "curve" and row["t"] in (0, 1))
    )


def keep_intervals(run: RunFolder) -> None:
    """Write the intervals of every single model that is measured and has none yet.

    Raises:
        StoreError: If a file of what was measured is damaged.
    """
    there = set(run.parts("intervals"))
    missing = single_points(run) & set(run.parts("measurements")) - there
    for point, found in read_samples(run, missing):
        run.write_part("intervals", point, intervals(point, found))


def intervals(point_id: str, found: Mapping[str, Sampled]) -> pa.Table:
    """Return the rows of table ``intervals`` of one point; a score that is not finite has none."""
    drawn = {}
    for metric, (samples, made) in found.items():
        if samples and min(len(values) for _, values in samples.values()):
            draws = resampled(samples, COMBINE[made])
            if np.isfinite(draws).all():
                drawn[metric] = draws
    rows: list[dict[str, Any]] = []
    if drawn:
        lows, highs = bounds(list(drawn.values()))
        for metric, low, high in zip(drawn, lows, highs, strict=True):
            asked = {probe: len(values) for probe, values in found[metric][0].values()}
            rows.append({"point_id": point_id, "metric": metric, "low": float(low),
                         "high": float(high), "num_questions": sum(asked.values())})  # fmt: skip
    return tables.from_rows("intervals", rows)


def bounds(drawn: Sequence[Floats]) -> Floats:
    """Return both ends of the interval of several scores' draws: (2, scores)."""
    found: Floats = np.quantile(np.array(drawn), [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=1)
    return found


def resampled(samples: Samples, combine: Combine, draws: int = RESAMPLES) -> Floats:
    """Return the score of each draw: (draws,)."""
    means = []
    for probe, values in samples.values():
        means.append(_draws(probe, len(values), draws) @ values / len(values))
    return combine(means)


@lru_cache(maxsize=16)
def _draws(probe: str, num: int, draws: int) -> npt.NDArray[np.float64]:
    """Return how often each draw has each of so many questions: (draws, questions)."""
    rng = np.random.default_rng([num, *probe.encode()])
    picked = rng.integers(num, size=(draws, num))
    at = picked + num * np.arange(draws)[:, None]
    return np.bincount(at.ravel(), minlength=draws * num).reshape(draws, num).astype(np.float64)
