"""What is asked of a model: every answer of every example of a probe, as text and as tokens."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from raymcu.attacks._base import Asking
from raymcu.benchmarks._base import Example, Manner
from raymcu.measurement.likelihood import Likelihood
from raymcu.models.encoding import Encoded, Encoder
from raymcu.store import tables
from raymcu.study.search_space import Measurement


@dataclass(frozen=True)
class Row:
    """One answer behind one form of a question; the columns of table ``measurements``."""

    probe: str
    example: int
    key: str
    question_kind: str
    answer_kind: str
    answer_index: int
    question: str
    answer: str
    num_question_tokens: int
    tokens: Encoded
    max_new_tokens: int
    """Longest greedy answer to the question; 0 asks for none."""

    @property
    def is_plain(self) -> bool:
        """Whether it is the plain answer to a plain question, or the class of an input."""
        return (self.question_kind, self.answer_kind) in {
            ("question", "answer"),
            ("input", "label"),
        }

    def wants(self, probes: Collection[str]) -> bool:
        """Whether it is the plain answer to a plain question of one of these probes."""
        kinds = (self.question_kind, self.answer_kind)
        return self.probe in probes and kinds == ("question", "answer")


@dataclass(frozen=True)
class RowMaker:
    """Turns the examples of one probe into rows."""

    encoder: Encoder
    asked: Measurement
    probe: str
    manner: Manner
    asking: Asking | None = None
    """Changes what is asked; None asks as the benchmark words it."""
    sets: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    """What it takes examples from."""

    def __call__(self, number: int, example: Example) -> Iterator[Row]:
        """Yield the rows of an example: its answers, and its answer to the paraphrased question."""
        if self.asking is None or not self.asking.suits(self.manner):
            yield from self._plain(number, example)
            return
        key = int(example.key, 16)
        asked = self.asking.asked(example, np.random.default_rng([key, 0]), self.sets)
        for row in self._plain(number, asked):
            random = np.random.default_rng([key, 1])  # the same before each answer
            prompt = self.asking.prompt(row.tokens.prompt, random, self.encoder)
            tokens = Encoded(tuple(prompt), row.tokens.answer)
            yield replace(row, key=example.key, tokens=tokens)

    def _plain(self, number: int, example: Example) -> Iterator[Row]:
        yield self._row(number, example, "answer", 0, example.answer)
        if example.paraphrased_answer is not None:
            yield self._row(number, example, "paraphrased_answer", 0, example.paraphrased_answer)
        wrong = "option" if self.manner.is_choice else "perturbed_answer"
        for index, answer in enumerate(example.perturbed_answers):
            yield self._row(number, example, wrong, index, answer)
        other = example.paraphrased_question
        if other is not None and self.probe in self.asked.paraphrased:
            asked = replace(example, question=other)
            row = self._row(number, asked, "answer", 0, example.answer)
            yield replace(
                row, key=example.key, question_kind="paraphrased_question", max_new_tokens=0
            )

    def _row(self, number: int, example: Example, kind: str, index: int, answer: str) -> Row:
        manner, question = self.manner, example.question
        tokens = self.encoder.encode(
            question,
            answer,
            is_text=manner.is_text,
            context=example.context,
            trailing_blank=example.trailing_blank,
            ends=manner.ends,
        )
        if manner.max_answer_tokens is not None:
            room = manner.max_answer_tokens - self.encoder.adds_start
            if len(tokens.answer) > room:
                tokens = Encoded(tokens.prompt, tokens.answer[:room])
                answer = self.encoder.decode(tokens.answer)
        return Row(
            probe=self.probe,
            example=number,
            key=example.key,
            question_kind="question",
            answer_kind=kind,
            answer_index=index,
            question=question,
            answer=answer,
            num_question_tokens=self.encoder.adds_start + self.encoder.count(question),
            tokens=tokens,
            max_new_tokens=self._longest() if kind == "answer" else 0,
        )

    def _longest(self) -> int:
        if self.probe not in self.asked.generate:
            return 0
        longest = self.asked.max_new_tokens
        own = self.manner.max_new_tokens
        return longest if own is None else min(own, longest)


def measurements(
    point_id: str,
    rows: Sequence[Row],
    found: Sequence[Likelihood],
    written: Mapping[int, tuple[str, Sequence[float]]],
    norms: Mapping[int, float],
    classes: Sequence[Sequence[float] | np.ndarray | None] | None = None,
) -> pa.Table:
    """Return the measurements table of one point.

    Args:
        point_id: Goes into the rows.
        rows: What was asked.
        found: The likelihood of each.
        written: Text and log p of each token of the greedy answers, by number of row.
        norms: Gradient norms, by number of row.
        classes: Log p of every class of each row, of classifiers.
    """
    schema = tables.SCHEMAS["measurements"]
    nothing = (None, None)
    texts, logprobs = zip(*(written.get(n, nothing) for n in range(len(rows))), strict=True)
    moments = [known.moments for known in found]
    columns = {
        "point_id": pa.array([point_id] * len(rows)).dictionary_encode(),
        "probe": pa.array([row.probe for row in rows]).dictionary_encode(),
        "example": pa.array([row.example for row in rows], pa.int32()),
        "example_key": pa.array([row.key for row in rows]),
        "question_kind": pa.array([row.question_kind for row in rows]).dictionary_encode(),
        "answer_kind": pa.array([row.answer_kind for row in rows]).dictionary_encode(),
        "answer_index": pa.array([row.answer_index for row in rows], pa.int16()),
        "num_prompt_tokens": pa.array([len(row.tokens.prompt) for row in rows], pa.int32()),
        "num_question_tokens": pa.array([row.num_question_tokens for row in rows], pa.int32()),
        "logprobs": _lists([known.logprobs for known in found]),
        "hits": _lists([known.hits for known in found]),
        "stops": _lists([known.stops for known in found]),
        "mean_logprobs": _lists([None if pair is None else pair[0] for pair in moments]),
        "std_logprobs": _lists([None if pair is None else pair[1] for pair in moments]),
        "gradient_norm": pa.array([norms.get(n) for n in range(len(rows))], pa.float64()),
        "answer": pa.array([row.answer for row in rows]),
        "generation": pa.array(texts, pa.string()),
        "generation_logprobs": _lists(logprobs),
        "class_logprobs": _lists([None] * len(rows) if classes is None else classes),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _lists(values: Sequence[Sequence[float] | np.ndarray | None]) -> pa.ListArray:
    """Return a column of lists, of bool where the arrays are, else of float32."""
    offsets = np.cumsum([0, *(0 if value is None else len(value) for value in values)])
    there = [np.asarray(value) for value in values if value is not None]
    flat = np.concatenate(there) if there else np.zeros(0, np.float32)
    if flat.dtype != np.bool_:
        flat = flat.astype(np.float32)
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat), mask=missing)
