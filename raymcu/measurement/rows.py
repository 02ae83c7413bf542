"""What is asked of a model: every answer of every example of a probe, as text and as tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from raymcu.benchmarks._base import Example, Manner
from raymcu.models import Encoded, Encoder
from raymcu.search_space import Measurement


@dataclass(frozen=True)
class Row:
    """One answer behind one form of a question; the columns of table ``measurements``."""

    probe: str
    example: int
    key: str
    question_kind: str
    answer_kind: str
    answer_index: int
    answer: str
    num_question_tokens: int
    tokens: Encoded
    max_new_tokens: int
    """Longest greedy answer to the question; 0 asks for none."""


@dataclass(frozen=True)
class RowMaker:
    """Turns the examples of one probe into rows."""

    encoder: Encoder
    asked: Measurement
    probe: str
    manner: Manner

    def __call__(self, number: int, example: Example) -> Iterator[Row]:
        """Yield the rows of an example: its answers, and its answer to the paraphrased question."""
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
            answer=answer,
            num_question_tokens=self.encoder.count(question),
            tokens=tokens,
            max_new_tokens=self._longest() if kind == "answer" else 0,
        )

    def _longest(self) -> int:
        if self.probe not in self.asked.generate:
            return 0
        longest = self.asked.max_new_tokens
        own = self.manner.max_new_tokens
        return longest if own is None else min(own, longest)
