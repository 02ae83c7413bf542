"""What was measured of one point, as arrays: rows of one probe and one kind of answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, wraps
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymcu.store import tables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Rows:
    """Measurement rows of one probe and one kind of answer, as flat arrays.

    A column is read when a metric first asks for it.
    """

    columns: Callable[[str], pa.Array]
    """Gives a column of all rows of the point, ordered so that those of one kind are side by side,
    by (example, answer_index)."""
    start: int
    number: int

    def __len__(self) -> int:
        return self.number

    def first(self, number: int) -> "Rows":
        """Return the first so many rows, or all if there are fewer."""
        return Rows(self.columns, self.start, min(number, self.number))

    def column(self, name: str) -> pa.Array:
        """Return a column of table ``measurements``: (rows,)."""
        return self.columns(name).slice(self.start, self.number)

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
    def class_logprobs(self) -> Floats:
        """Log p of every class in nats, in the order of their numbers: (rows, classes).

        Of rows that all have it, as those of kind ``label`` do.
        """
        flat = self.tokens("class_logprobs").astype(np.float64)
        return flat.reshape(len(self), -1) if len(self) else flat.reshape(0, 0)

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
        """Return the point's rows of another table, e.g. ``representations`` or ``readings``."""
        return self._others.get(table, tables.empty(table))

    @cached_property
    def _kinds(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for probe, *kinds in self._rows:
            found.setdefault(probe, set()).update(kinds)
        probes, codes = self._codes("probe")
        kinds, kind_codes = self._codes("answer_kind")
        is_label = np.array([kind == "label" for kind in kinds], dtype=bool)[kind_codes]
        for column in ("generation", "mean_logprobs", "gradient_norm", "class_logprobs"):
            # A class's name is no text to judge, and its likelihood none of a text.
            is_asked = is_label if column == "class_logprobs" else ~is_label
            is_held = is_asked & pc.is_valid(self._table[column]).to_numpy()
            for code in np.unique(codes[is_held]):
                found[probes[code]].add(column)
        for name, table in self._others.items():
            pairs = table.select(["probe", *(["name"] if name == "readings" else [])])
            for row in pairs.group_by(pairs.column_names).aggregate([]).to_pylist():
                kind = ":".join([name, *([row["name"]] if "name" in row else [])])
                found.setdefault(row["probe"], set()).add(kind)
        return {probe: frozenset(kinds) for probe, kinds in found.items()}

    def rows(
        self, probe: str, answer_kind: str = "answer", question_kind: str = "question"
    ) -> Rows:
        """Return the rows of one probe and kind, ordered by (example, answer_index).

        Empty if that was not measured; a metric then returns ``Score(None, 0, note)``.
        """
        nothing = Rows(lambda name: self._table[name].combine_chunks(), 0, 0)
        return self._rows.get((probe, answer_kind, question_kind), nothing)

    def labels(self, probe: str) -> Rows:
        """Return the rows of a classifier's inputs, by example; empty if there are none."""
        return self.rows(probe, "label", "input")

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
        columns = cache(lambda name: self._table[name].combine_chunks().take(pa.array(places)))
        starts = [*np.flatnonzero(np.diff(group[places], prepend=-1)).tolist(), len(places)]
        return {
            tuple(found[code[places[start]]] for found, code in zip(names, codes, strict=True)): (
                Rows(columns, start, end - start)
            )
            for start, end in pairwise(starts)
        }

    def _codes(self, column: str) -> tuple[list[str], Ints]:
        """Return the different words of a column, and which of them each row has: (rows,)."""
        return self.part(("codes", column), lambda: _codes_of(self._table[column]))


def _codes_of(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    coded = column.combine_chunks()
    if not pa.types.is_dictionary(coded.type) or coded.null_count:
        coded = coded.cast(pa.string()).dictionary_encode(null_encoding="encode")
    words, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    # A part of a table keeps all its words.
    used = np.flatnonzero(np.bincount(codes, minlength=len(words)))
    return [words[place] for place in used.tolist()], np.searchsorted(used, codes)


def shared(compute: Callable[Concatenate[Measured, P], T]) -> Callable[Concatenate[Measured, P], T]:
    """Decorate a function of a point that several metrics call: it runs once per point."""

    @wraps(compute)
    def once(point: Measured, /, *args: P.args, **kwargs: P.kwargs) -> T:
        name = (compute, args, tuple(sorted(kwargs.items())))
        return point.part(name, lambda: compute(point, *args, **kwargs))

    return once
