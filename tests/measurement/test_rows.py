"""Examples become rows: which answers are scored, behind which question, as which tokens."""

import numpy as np
import pytest
from tokenizers import processors

from raymcu.benchmarks._base import Example, Manner
from raymcu.measurement.likelihood import Likelihood
from raymcu.measurement.rows import Row, RowMaker, measurements
from raymcu.models.encoding import Encoded, Encoder, train_tokenizer
from raymcu.study.search_space import Measurement

EXAMPLE = Example(
    "Who wrote the book?",
    "Ada wrote it.",
    paraphrased_question="By whom was the book written?",
    paraphrased_answer="It was written by Ada.",
    perturbed_answers=("Bea wrote it.", "Cy did."),
)
CHOICE = Example(
    "Who wrote it?\nA. Ada\nB. Bea\nC. Cy\nAnswer:",
    "B",
    perturbed_answers=("A", "C"),
    context="The following are questions.\n\n",
)


def rows_of(encoder, example, manner=Manner(), **asked):  # noqa: B008 - frozen
    asked = Measurement(probes=("forget",), **{"generate": ("forget",), **asked})
    return list(RowMaker(encoder, asked, "forget", manner)(7, example))


def test_every_answer_is_a_row(encoder):
    found = rows_of(encoder, EXAMPLE, max_new_tokens=50)
    assert [(row.answer_kind, row.answer_index, row.answer) for row in found] == [
        ("answer", 0, "Ada wrote it."),
        ("paraphrased_answer", 0, "It was written by Ada."),
        ("perturbed_answer", 0, "Bea wrote it."),
        ("perturbed_answer", 1, "Cy did."),
    ]
    assert {(row.probe, row.example, row.key) for row in found} == {("forget", 7, EXAMPLE.key)}
    assert {row.question_kind for row in found} == {"question"}
    assert [row.tokens for row in found] == [
        encoder.encode("Who wrote the book?", row.answer) for row in found
    ]
    assert [row.max_new_tokens for row in found] == [50, 0, 0, 0]
    assert [row.wants(["forget"]) for row in found] == [True, False, False, False]
    assert not found[0].wants(["retain"])


def test_an_answer_behind_the_paraphrased_question_is_a_row_where_asked(encoder):
    *plain, other = rows_of(encoder, EXAMPLE, paraphrased=("forget",))
    assert plain == rows_of(encoder, EXAMPLE)
    assert (other.question_kind, other.answer_kind) == ("paraphrased_question", "answer")
    assert other.tokens == encoder.encode("By whom was the book written?", "Ada wrote it.")
    assert other.num_question_tokens == encoder.adds_start + encoder.count(
        "By whom was the book written?"
    )
    assert other.key == EXAMPLE.key  # one example, asked in two ways
    assert other.max_new_tokens == 0
    assert not other.wants(["forget"])


def test_an_example_without_a_paraphrased_question_has_no_such_row(encoder):
    bare = Example("Who?", "Ada.")
    assert len(rows_of(encoder, bare, paraphrased=("forget",))) == 1


def test_options_are_letters_without_an_end(encoder):
    found = rows_of(encoder, CHOICE, Manner(is_text=True, is_choice=True))
    assert [(row.answer_kind, row.answer_index, row.answer) for row in found] == [
        ("answer", 0, "B"),
        ("option", 0, "A"),
        ("option", 1, "C"),
    ]
    prompt = encoder.tokenizer(CHOICE.context + CHOICE.question).input_ids
    for row in found:
        assert row.tokens.prompt == tuple(prompt)
        assert encoder.tokenizer.decode(row.tokens.answer) == f" {row.answer}"


@pytest.mark.parametrize("is_text", [False, True])
def test_a_context_is_part_of_the_prompt_and_not_of_the_question(encoder, is_text):
    (row,) = rows_of(encoder, Example("Who?", "Ada.", context="Question: a\nAnswer: b\n\n"),
                     Manner(is_text=is_text))  # fmt: skip
    asked = "Who?" if is_text else "Question: Who?\nAnswer:"
    assert encoder.tokenizer.decode(row.tokens.prompt) == f"<s>Question: a\nAnswer: b\n\n{asked}"
    assert row.num_question_tokens == len(encoder.tokenizer("Who?").input_ids)
    assert len(row.tokens.prompt) > row.num_question_tokens


def test_the_tokens_of_a_question_have_a_bos_where_its_tokenizer_adds_one(authors):
    tokenizer = train_tokenizer([x.answer for x in authors.training_set("full")], 400)
    (row,) = rows_of(Encoder(tokenizer, "plain"), Example("Who?", "Ada."))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", special_tokens=[]
    )
    (bare,) = rows_of(Encoder(tokenizer, "plain"), Example("Who?", "Ada."))
    assert bare.num_question_tokens == len(tokenizer("Who?").input_ids)
    assert row.num_question_tokens == bare.num_question_tokens + 1


# cut answers


@pytest.mark.parametrize("question", ["Ada wrote", ""])
def test_a_long_answer_is_cut_with_bos_counted(encoder, question):
    example = Example(question, "a book that Bea read twice in the rain of May.")
    whole = encoder.encode(question, example.answer, is_text=True)
    (row,) = rows_of(encoder, example, Manner(is_text=True, max_answer_tokens=6))
    assert row.tokens == Encoded(whole.prompt, whole.answer[:5])
    assert row.answer == encoder.decode(whole.answer[:5])
    assert example.answer.startswith(row.answer)


def test_an_answer_that_fits_is_kept_without_its_end(encoder):
    example = Example("Ada wrote", "a book.")
    whole = encoder.encode("Ada wrote", "a book.", is_text=True)
    room = len(whole.answer) - 1 + encoder.adds_start
    (row,) = rows_of(encoder, example, Manner(is_text=True, max_answer_tokens=room))
    assert row.tokens == Encoded(whole.prompt, whole.answer[:-1])
    assert row.answer == "a book."
    (cut,) = rows_of(encoder, example, Manner(is_text=True, max_answer_tokens=room - 1))
    assert cut.tokens == Encoded(whole.prompt, whole.answer[:-2])


# how long a generated answer may be


@pytest.mark.parametrize(
    ("generate", "own", "longest"),
    [
        ((), None, 0),
        ((), 9, 0),
        (("forget",), None, 20),
        (("forget",), 9, 9),
        (("forget",), 99, 20),
    ],
)
def test_the_longest_generated_answer_is_the_shorter_of_both_bounds(
    encoder, generate, own, longest
):
    found = rows_of(encoder, EXAMPLE, Manner(max_new_tokens=own), generate=generate,
                    max_new_tokens=20)  # fmt: skip
    assert [row.max_new_tokens for row in found] == [longest, 0, 0, 0]


def test_log_p_of_every_class_is_in_the_table_and_null_of_questions():
    row = Row("forget", 0, "0" * 16, "input", "label", 0, "cat", 0, Encoded((), (1,)), 0)
    log, yes = np.log(np.array([0.75], np.float32)), np.array([True])
    found = Likelihood(logprobs=log, greedy_logprobs=log, hits=yes, stops=yes)
    said = {0: ("cat", log)}
    classes = [np.log(np.array([0.25, 0.75], np.float32))]
    table = measurements("p", [row], [found], said, {}, classes)
    assert table["class_logprobs"].to_pylist() == [classes[0].tolist()]
    assert measurements("p", [row], [found], said, {})["class_logprobs"].to_pylist() == [None]
    none = [None]
    assert measurements("p", [row], [found], said, {}, none)["class_logprobs"].null_count == 1
