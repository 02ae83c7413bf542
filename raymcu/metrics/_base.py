"""What a metric is: a pure function of measurements, with its direction, range and source.

A metric never sees a model, and this package imports neither torch nor Ray.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymcu.registry import Registry
from raymcu.store import tables

Better = Literal["higher", "lower", "neither"]
_BETTER = get_args(Better)
_KINDS = (
    *("answer", "paraphrased_answer", "perturbed_answer", "option", "paraphrased_question"),
    *("generation", "mean_logprobs", "gradient_norm", "representations", "judgements"),
)
"""What may be measured of a probe."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")
P = ParamSpec("P")
OfProbe = TypeVar("OfProbe", bound=Callable[..., "Score"])


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

    @classmethod
    def mean(cls, values: Floats, what: str, note: str | None = None) -> "Score":
        """Average ``values`` over examples, or say why that is no number.

        Args:
            values: One value per example.
            what: What one value is, for the note, e.g. ``truth ratio``.
            note: A warning that goes with the number.
        """
        if not len(values):
            return cls(None, 0, f"no {what} was measured")
        return cls.finite(float(np.mean(values)), len(values), what, note)

    @classmethod
    def finite(cls, value: float, num_examples: int, what: str, note: str | None = None) -> "Score":
        """Return ``value`` as a score; one that is not finite becomes None, with a note."""
        if math.isfinite(value):
            return cls(value, num_examples, note)
        return cls(None, num_examples, f"the {what} is not finite: the model has diverged")


NO_RETRAINED = Score(None, 0, "needs the retrained model's measurement, and there is none")


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
    kind: str = "answer"
    """What must have been measured of each of them: a kind of answer, ``paraphrased_question``,
    ``generation``, ``mean_logprobs``, ``gradient_norm``, ``representations`` or ``judgements``."""
    or_probes: tuple[str, ...] = ()
    """Other probes from which the metric can be computed instead."""
    needs_retrained: bool = False

    def is_measured(self, point: "Measured") -> bool:
        """Whether a point has what the metric is computed from."""
        return any(
            probes and all(self.kind in point.kinds(probe) for probe in probes)
            for probes in (self.probes, self.or_probes)
        )


METRICS: Registry[Metric] = Registry("metric", __package__ or "raymcu.metrics", "Metric")


@dataclass(frozen=True)
class Rows:
    """Measurement rows of one probe and one kind of answer, as flat arrays.

    A column is read when a metric first asks for it.
    """

    table: pa.Table
    """All measurements of the point."""
    places: Ints  # (rows,) which of them, ordered by (example, answer_index)

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> pa.Array:
        """Return a column of table ``measurements``: (rows,)."""
        return self.table[name].combine_chunks().take(pa.array(self.places))

    def tokens(self, name: str) -> npt.NDArray[Any]:
        """Return a column with a value for each answer token, flat: (tokens,)."""
        return np.asarray(self.column(name).flatten().to_numpy(zero_copy_only=False))

    def numbers(self, name: str) -> Floats:
        """Return a column with a number for each row, NaN where there is none: (rows,)."""
        values = self.column(name).to_numpy(zero_copy_only=False)
        return np.asarray(values, dtype=np.float64)

    @cached_property
    def example(self) -> Ints:
        """Row of the example in its probe: (rows,)."""
        return np.asarray(self.column("example").to_numpy(), dtype=np.int64)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Hash of the original question: (rows,)."""
        return tuple(self.column("example_key").to_pylist())

    @cached_property
    def answer(self) -> tuple[str, ...]:
        """The reference answer scored: (rows,)."""
        return tuple(self.column("answer").to_pylist())

    @cached_property
    def generation(self) -> tuple[str | None, ...]:
        """Greedy answer to the question, None where it was not asked: (rows,)."""
        return tuple(self.column("generation").to_pylist())

    @cached_property
    def logprobs(self) -> Floats:
        """Log p of each answer token in nats: (tokens,)."""
        return self.tokens("logprobs").astype(np.float64)

    @cached_property
    def hits(self) -> Bools:
        """Whether each answer token is the model's greedy choice: (tokens,)."""
        return self.tokens("hits").astype(bool)

    @cached_property
    def offsets(self) -> Ints:
        """Where each row's tokens start, and their number: (rows + 1,)."""
        lengths = pc.list_value_length(self.column("logprobs")).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    @cached_property
    def num_tokens(self) -> Ints:
        """Answer tokens of each row, EOS included: (rows,)."""
        return np.diff(self.offsets)

    @cached_property
    def nll_sum(self) -> Floats:
        """Negative loglikelihood of each answer in nats: (rows,)."""
        # One sum per row: differences of one running sum would spread an infinity to all rows.
        sums = np.zeros(len(self))
        filled = self.num_tokens > 0
        if filled.any():
            sums[filled] = np.add.reduceat(-self.logprobs, self.offsets[:-1][filled])
        return sums

    @cached_property
    def nll_mean(self) -> Floats:
        """Mean negative loglikelihood per token of each answer in nats: (rows,).

        A row without tokens has 0, the value of an empty sum.
        """
        return self.nll_sum / np.maximum(self.num_tokens, 1)


class Measured:
    """The measurements of one point: Arrow rows in, arrays of one probe and answer kind out."""

    def __init__(self, table: pa.Table, others: Mapping[str, pa.Table] | None = None) -> None:
        """Take the rows of one point of table ``measurements``, and of others by table name."""
        self._table = table.combine_chunks()
        self._others = dict(others or {})
        self._parts: dict[tuple[Any, ...], Any] = {}

    @cached_property
    def point_ids(self) -> tuple[str, ...]:
        """Ids of the points in the table; one, unless the caller mixed them up."""
        return tuple(sorted(self._codes("point_id")[0]))

    @cached_property
    def probes(self) -> frozenset[str]:
        """Names of the probes that were measured."""
        return frozenset(self._codes("probe")[0])

    def kinds(self, probe: str) -> frozenset[str]:
        """Return what was measured of a probe, as `Metric.kind` names it."""
        return self._kinds.get(probe, frozenset())

    def other(self, table: str) -> pa.Table:
        """Return the point's rows of another table: ``representations`` or ``judgements``."""
        return self._others.get(table, tables.empty(table))

    @cached_property
    def _kinds(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for probe, *kinds in self._rows:
            found.setdefault(probe, set()).update(kinds)
        probes, codes = self._codes("probe")
        for column in ("generation", "mean_logprobs", "gradient_norm"):
            is_held = pc.is_valid(self._table[column]).to_numpy()
            for code in np.unique(codes[is_held]):
                found[probes[code]].add(column)
        for name, table in self._others.items():
            for probe in table["probe"].cast(pa.string()).unique().to_pylist():
                found.setdefault(probe, set()).add(name)
        return {probe: frozenset(kinds) for probe, kinds in found.items()}

    def rows(
        self, probe: str, answer_kind: str = "answer", question_kind: str = "question"
    ) -> Rows:
        """Return the rows of one probe and kind, ordered by (example, answer_index).

        Empty if that was not measured; a metric then returns ``Score(None, 0, note)``.
        """
        nothing = Rows(self._table, np.zeros(0, dtype=np.int64))
        return self._rows.get((probe, answer_kind, question_kind), nothing)

    def part(self, name: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """Return what ``compute`` gives, computed at most once for this point."""
        if name not in self._parts:
            self._parts[name] = compute()
        return cast("T", self._parts[name])

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], Rows]:
        """Rows by probe, kind of answer and kind of question."""
        names, codes = zip(
            *map(self._codes, ("probe", "answer_kind", "question_kind")), strict=True
        )
        group = (codes[0] * len(names[1]) + codes[1]) * len(names[2]) + codes[2]
        index, example = (self._table[c].to_numpy() for c in ("answer_index", "example"))
        places = np.lexsort((index, example, group))
        starts = np.flatnonzero(np.diff(group[places], prepend=-1))
        return {
            tuple(found[code[here[0]]] for found, code in zip(names, codes, strict=True)): Rows(
                self._table, here
            )
            for here in np.split(places, starts)[1:]
        }

    def _codes(self, column: str) -> tuple[list[str], Ints]:
        """Return the different words of a column, and which of them each row has: (rows,)."""
        words = self._table[column].cast(pa.string()).combine_chunks()
        coded = words.dictionary_encode(null_encoding="encode")
        return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def shared(compute: Callable[Concatenate[Measured, P], T]) -> Callable[Concatenate[Measured, P], T]:
    """Decorate a function of a point that several metrics call: it runs once per point."""

    @wraps(compute)
    def once(point: Measured, /, *args: P.args, **kwargs: P.kwargs) -> T:
        name = (compute, args, tuple(sorted(kwargs.items())))
        return point.part(name, lambda: compute(point, *args, **kwargs))

    return once


def _check_told(better: Any, span: Any, probes: Any, kind: Any) -> None:
    """Refuse what no type checker of the user's has seen."""
    if better not in _BETTER:
        raise ValueError(f"better must be one of {', '.join(_BETTER)}, got {better!r}.")
    if not isinstance(probes, tuple):
        raise ValueError(  # noqa: TRY004 - told like the others
            f"probes must be a tuple of names, e.g. ('forget',), got {probes!r}."
        )
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}.")
    if len(span) != 2 or not span[0] < span[1]:
        raise ValueError(f"span must be the lowest and the highest value, got {span!r}.")


def metric(  # noqa: PLR0913 - a metric's metadata, all by name
    name: str,
    *,
    better: Better,
    span: tuple[float, float],
    unit: str,
    probes: tuple[str, ...],
    source: str,
    kind: str = "answer",
    or_probes: tuple[str, ...] = (),
    needs_retrained: bool = False,
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function as the metric of that name.

    Raises:
        ValueError: If what is told of it is not what `Metric` says.
    """
    for choice in filter(None, (probes, or_probes)):
        _check_told(better, span, choice, kind)

    def add(compute: MetricFunction) -> MetricFunction:
        entry = Metric(compute, better, *span, unit, probes, kind, or_probes, needs_retrained)
        METRICS.register(name, source=source, described_by=compute)(entry)
        return compute

    return add


KEPT: Better = "higher"
FORGOTTEN: Better = "lower"
_MEANING: Mapping[Better, str] = {"higher": "better kept", "lower": "more forgotten"}


def metric_of_probes(
    name: str,
    better: Mapping[str, Better],
    *,
    span: tuple[float, float],
    unit: str,
    source: str,
    kind: str = "answer",
) -> Callable[[OfProbe], OfProbe]:
    """Register a function of a point and a probe as one metric for each of several probes.

    Args:
        name: Name of the metrics, with ``{probe}`` in it; the docstring's first line may too.
        better: The probes, and which direction is better on each.
        span: Lowest and highest value.
        unit: Unit of the value.
        source: Where it is from.
        kind: What must have been measured of the probe.
    """

    def add(compute: OfProbe) -> OfProbe:
        for probe, direction in better.items():
            one = _on_probe(compute, probe, direction)
            metric(
                name.format(probe=probe),
                better=direction,
                span=span,
                unit=unit,
                probes=(probe,),
                source=source,
                kind=kind,
            )(one)
        return compute

    return add


def _on_probe(compute: Callable[..., Score], probe: str, better: Better) -> MetricFunction:
    def one(point: Measured, retrained: Measured | None) -> Score:
        return compute(point, probe)

    first = (compute.__doc__ or "").strip().split("\n")[0].rstrip(".")
    is_told = ";" in first  # by the docstring itself, where forgetting is not what it measures
    meaning = f"; {better} = {_MEANING[better]}" if better in _MEANING and not is_told else ""
    one.__doc__ = f"{first.format(probe=probe.replace('_', ' '))}{meaning}."
    one.__module__, one.__qualname__ = compute.__module__, f"{compute.__qualname__}[{probe}]"
    return one
