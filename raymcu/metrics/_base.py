"""What a metric is: a pure function of measurements, with its direction, range and source.

A metric never sees a model, and this package imports neither torch nor Ray.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymcu.registry import Registry

Better = Literal["higher", "lower", "neither"]


class MetricFunction(Protocol):
    """Computes one score of one point; ``retrained`` is the retrained model's measurement."""

    def __call__(self, point: "Measured", retrained: "Measured | None") -> "Score": ...


@dataclass(frozen=True)
class Score:
    """A number, or None with the reason in ``note``; never NaN or infinite."""

    value: float | None
    num_examples: int
    note: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite or None, got {self.value}")


@dataclass(frozen=True)
class Metric:
    """A metric with what a reader has to know to use its number."""

    compute: MetricFunction
    better: Better
    """Which direction is better for an unlearned model."""
    low: float
    high: float
    unit: str
    """``fraction``, ``nats``, ``probability``, ``log10``…"""
    probes: tuple[str, ...]
    """Probes that must have been measured; the metric is left out of a study that has not."""
    needs_retrained: bool = False


METRICS: Registry[Metric] = Registry("metric", __package__ or "raymcu.metrics")


@dataclass(frozen=True)
class Rows:
    """Measurement rows of one probe and one kind of answer, as flat arrays."""

    example: np.ndarray  # (rows,) int
    key: tuple[str, ...]  # (rows,)
    answer: tuple[str, ...]  # (rows,)
    generation: tuple[str | None, ...]  # (rows,)
    offsets: np.ndarray  # (rows + 1,) where each row's tokens start
    logprobs: np.ndarray  # (tokens,) float64, nats
    hits: np.ndarray  # (tokens,) bool

    def __len__(self) -> int:
        return len(self.example)

    @cached_property
    def num_tokens(self) -> np.ndarray:
        """Answer tokens of each row, EOS included: (rows,)."""
        return np.diff(self.offsets)

    @cached_property
    def nll_sum(self) -> np.ndarray:
        """Negative loglikelihood of each answer in nats: (rows,)."""
        ends = np.concatenate([[0.0], np.cumsum(-self.logprobs)])[self.offsets]
        return np.diff(ends)

    @cached_property
    def nll_mean(self) -> np.ndarray:
        """Mean negative loglikelihood per token of each answer in nats: (rows,)."""
        return self.nll_sum / self.num_tokens


class Measured:
    """The measurements of one point: Arrow rows in, arrays of one probe and answer kind out."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self._cache: dict[tuple[str, str, str], Rows] = {}

    def rows(
        self, probe: str, answer_kind: str = "answer", question_kind: str = "question"
    ) -> Rows:
        """Return the rows of one probe and kind, ordered by (example, answer_index).

        Empty if that was not measured; a metric then returns ``Score(None, 0, note)``.
        """
        wanted = (probe, answer_kind, question_kind)
        if wanted not in self._cache:
            self._cache[wanted] = self._select(*wanted)
        return self._cache[wanted]

    def _select(self, probe: str, answer_kind: str, question_kind: str) -> Rows:
        columns = ("probe", "answer_kind", "question_kind")
        mask = None
        for name, value in zip(columns, (probe, answer_kind, question_kind), strict=True):
            here = pc.equal(self._table[name].cast(pa.string()), value)
            mask = here if mask is None else pc.and_(mask, here)
        found = self._table.filter(mask)
        found = found.sort_by([("example", "ascending"), ("answer_index", "ascending")])
        logprobs = found["logprobs"].combine_chunks()
        hits = found["hits"].combine_chunks()
        lengths = pc.list_value_length(logprobs).to_numpy(zero_copy_only=False)
        return Rows(
            example=found["example"].to_numpy(),
            key=tuple(found["example_key"].to_pylist()),
            answer=tuple(found["answer"].to_pylist()),
            generation=tuple(found["generation"].to_pylist()),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            logprobs=logprobs.flatten().to_numpy(zero_copy_only=False).astype(np.float64),
            hits=hits.flatten().to_numpy(zero_copy_only=False).astype(bool),
        )


def metric(
    name: str,
    *,
    better: Better,
    span: tuple[float, float],
    unit: str,
    probes: tuple[str, ...],
    source: str,
    needs_retrained: bool = False,
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function as the metric of that name."""

    def add(compute: MetricFunction) -> MetricFunction:
        entry = Metric(compute, better, span[0], span[1], unit, probes, needs_retrained)
        METRICS.register(name, source=source, described_by=compute)(entry)
        return compute

    return add
