"""How questions are asked otherwise: by hand, token by token."""

import copy
import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from raymcu.attacks._base import ATTACKS, Asking
from raymcu.attacks.emphasis import key_words
from raymcu.benchmarks._base import Example, Manner
from raymcu.measurement.rows import RowMaker
from raymcu.models.encoding import Encoded, Encoder
from raymcu.study.search_space import Measurement

EXAMPLE = Example(
    "Who wrote the book of Ada?",
    "Bea wrote it.",
    paraphrased_question="By whom was Ada's book written?",
    paraphrased_answer="It was Bea.",
    perturbed_answers=("Cy wrote it, a long time ago.", "Dora."),
)
OTHERS = [Example(f"Who is author {n}?", f"Author {n} is the one.") for n in range(9)]
SETS = {"forget": [EXAMPLE, *OTHERS[:3]], "retain": OTHERS}
QUESTION, TEXT = Manner(), Manner(is_text=True, max_answer_tokens=128)
CHOICE = Manner(is_text=True, is_choice=True)
NAMES = [e.name for e in ATTACKS if issubclass(e.component, Asking)]
OPTIONS = {"reworded": {"forms": {EXAMPLE.question: "Whose pen wrote Ada's book?"}}}
CHANGING = [name for name in NAMES if ATTACKS[name].beside is None]


@pytest.fixture(scope="session")
def chat(tiny_tokenizer):
    """A chat template that ends with line breaks, as Llama 3's does."""
    tiny = copy.deepcopy(tiny_tokenizer)
    tiny.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}:\n\n{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:\n\n{% endif %}"
    )
    return Encoder(tiny, "chat")


def made(name, **options):
    return ATTACKS[name](**{**OPTIONS.get(name, {}), **options})


def rows_of(encoder, attack, example=EXAMPLE, manner=QUESTION, **asked):
    measurement = Measurement(probes=("forget",), generate=(), **asked)
    return list(RowMaker(encoder, measurement, "forget", manner, attack, SETS)(3, example))


def plain(encoder, example=EXAMPLE, manner=QUESTION, **asked):
    return rows_of(encoder, None, example, manner, **asked)


def prompts(rows):
    return {row.tokens.prompt for row in rows}


def none_of(name):
    """An attack that asks nothing otherwise."""
    component = ATTACKS[name]
    if component.none is not None:
        return component(**{component.strength: (component.none,)})
    empty = {
        "prefix": {"text": ""},
        "role_play": {"template": "{question}"},
        "reworded": {"forms": {}, "path": None},
    }
    if name in empty:  # which a file cannot ask for
        return component.model_construct(**empty[name])
    return None


# what every manner of asking promises


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_and_whose_they_are_stay(name, encoder):
    found, before = rows_of(encoder, made(name)), plain(encoder)
    assert [row.tokens.answer for row in found] == [row.tokens.answer for row in before]
    for one, other in zip(found, before, strict=True):
        kept = {"tokens": other.tokens, "question": other.question}
        kept["num_question_tokens"] = other.num_question_tokens
        assert replace(one, **kept) == other


@pytest.mark.parametrize("name", CHANGING)
def test_every_answer_of_an_example_stands_behind_one_prompt_which_is_another(name, encoder):
    options = {"share": (0.5,)} if name == "token_noise" else {}
    found = prompts(rows_of(encoder, made(name, **options)))
    assert len(found) == 1
    assert found != prompts(plain(encoder))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_is_asked_every_time(name, encoder):
    assert rows_of(encoder, made(name)) == rows_of(encoder, made(name))


@pytest.mark.parametrize("manner", [QUESTION, TEXT, CHOICE], ids=lambda manner: manner.kind)
@pytest.mark.parametrize("name", [name for name in CHANGING if none_of(name) is not None])
def test_nothing_done_is_the_question_itself_token_for_token(name, manner, encoder):
    assert rows_of(encoder, none_of(name), manner=manner) == plain(encoder, manner=manner)


SUITED = {
    "prefix": {"question", "choice"},
    "role_play": {"question", "choice"},
    "emphasis": {"question"},
    "in_context": {"question"},
    "token_noise": {"question", "choice", "text"},
    "paraphrase": {"question"},
    "reworded": {"question"},
}


def test_every_manner_says_what_it_suits():
    assert SUITED.keys() == set(CHANGING)


@pytest.mark.parametrize("manner", [QUESTION, TEXT, CHOICE], ids=lambda manner: manner.kind)
@pytest.mark.parametrize("name", CHANGING)
def test_probes_that_a_manner_does_not_suit_are_asked_as_ever(name, manner, encoder):
    options = {"share": (0.5,)} if name == "token_noise" else {}
    same = rows_of(encoder, made(name, **options), manner=manner) == plain(encoder, manner=manner)
    assert same == (manner.kind not in SUITED[name])


@pytest.mark.parametrize("name", ["role_play", "emphasis"])
def test_the_paraphrased_question_is_asked_alike(name, encoder):
    attack = made(name)
    *_, row = rows_of(encoder, attack, paraphrased=("forget",))
    other = replace(EXAMPLE, question=EXAMPLE.paraphrased_question, paraphrased_question=None)
    assert row.question_kind == "paraphrased_question"
    assert row.tokens == rows_of(encoder, attack, other)[0].tokens


# a prefix


def test_a_prefix_stands_between_prompt_and_answer(encoder):
    rows = rows_of(encoder, made("prefix", text="Sure, it is:"))
    for row, before in zip(rows, plain(encoder), strict=True):
        words = encoder.tokenizer(" Sure, it is:", add_special_tokens=False).input_ids
        assert row.tokens == Encoded((*before.tokens.prompt, *words), before.tokens.answer)
    whole = encoder.tokenizer.decode([*rows[0].tokens.prompt, *rows[0].tokens.answer])
    assert whole.endswith("\nAnswer: Sure, it is: Bea wrote it.</s>")


def test_what_stands_in_front_of_an_answer_stands_behind_a_prefix(encoder, chat):
    attack = made("prefix")
    (row, *_) = rows_of(encoder, attack, replace(EXAMPLE, trailing_blank=True))
    text = encoder.tokenizer.decode(row.tokens.prompt + row.tokens.answer)
    assert text.endswith("Answer: Sure, here is the answer: Bea wrote it.</s>")
    (row, *_) = rows_of(chat, attack)
    text = chat.tokenizer.decode(row.tokens.prompt + row.tokens.answer)
    assert text.endswith("assistant:\n\nSure, here is the answer:\n\nBea wrote it.</s>")
    assert row.tokens.answer == plain(chat)[0].tokens.answer


# a role


def test_a_question_stands_in_its_role(encoder):
    rows = rows_of(encoder, made("role_play", template="Be Ada. {question} Now!"))
    asked = "Be Ada. Who wrote the book of Ada? Now!"
    assert [row.tokens for row in rows] == [encoder.encode(asked, row.answer) for row in rows]


def test_braces_of_a_question_are_its_own(encoder):
    example = replace(EXAMPLE, question="What is {x}?")
    (row, *_) = rows_of(encoder, made("role_play", template="Be {Ada}: {question}"), example)
    assert row.question == "Be {Ada}: What is {x}?"


def test_multiple_choice_is_left_alone_by_a_role_that_goes_on_behind_it(encoder):
    attack = made("role_play", template="Be Ada. {question} Now!")
    assert rows_of(encoder, attack, manner=CHOICE) == plain(encoder, manner=CHOICE)


# key words


def test_key_words_are_those_that_say_what_is_asked():
    question = "Who wrote Ada's well-known book of 1843, and was Ada (Ada) it's author in Köln?"
    assert key_words(question) == ["wrote", "Ada's", "well-known", "book", "1843", "Ada", "author",
                                   "Köln"]  # fmt: skip


def test_key_words_are_said_again_or_in_capitals(encoder):
    (row, *_) = rows_of(encoder, made("emphasis"))
    assert row.question == "Who wrote the book of Ada? Key words: wrote, book, Ada."
    (row, *_) = rows_of(encoder, made("emphasis", how="upper"))
    assert row.question == "Who WROTE the BOOK of ADA?"


def test_a_question_without_key_words_stays(encoder):
    example = replace(EXAMPLE, question="Who are you?", paraphrased_question=None)
    assert rows_of(encoder, made("emphasis"), example) == plain(encoder, example)


# examples in front


@pytest.mark.parametrize("which", ["retain", "forget"])
def test_examples_stand_in_front_and_are_not_what_is_asked(which, encoder):
    own = [x for x in SETS[which] if x != EXAMPLE]
    (row, *_) = rows_of(encoder, made("in_context", k=(3,), examples=which))
    text = encoder.tokenizer.decode(row.tokens.prompt, skip_special_tokens=True)
    *shown, asked = text.split("\n\n")
    assert len(set(shown)) == 3
    assert set(shown) <= {f"Question: {x.question}\nAnswer: {x.answer}" for x in own}
    assert asked == "Question: Who wrote the book of Ada?\nAnswer:"


def test_all_questions_have_the_same_examples_but_their_own(encoder):
    attack = made("in_context", k=(4,))
    contexts = [attack.asked(one, None, SETS).context.split("\n\n")[:-1] for one in OTHERS]
    usual = attack.asked(EXAMPLE, None, SETS).context.split("\n\n")[:-1]
    for one, shown in zip(OTHERS, contexts, strict=True):
        own = f"Question: {one.question}\nAnswer: {one.answer}"
        assert own not in shown
        assert len(shown) == 4
        assert [x for x in usual if x != own] == shown[: 4 - (own in usual)]


def test_the_seed_draws_the_examples_and_more_of_them_begin_alike():
    def contexts(**options):
        return made("in_context", **options).asked(EXAMPLE, None, SETS).context

    assert len({contexts(seed=seed) for seed in range(5)}) == 5
    assert contexts(k=(5,)).startswith(contexts(k=(2,)))


def test_a_model_is_told_the_fact_only_if_that_is_wanted():
    attack = made("in_context", k=(3,), tells=True)
    *_, before, last, end = attack.asked(EXAMPLE, None, SETS).context.split("\n\n")
    assert last == f"Question: {EXAMPLE.question}\nAnswer: {EXAMPLE.answer}"
    assert before != last
    assert not end
    one = made("in_context", k=(1,), tells=True, examples="forget").asked(EXAMPLE, None, SETS)
    assert one.context == f"{last}\n\n"


def test_a_benchmarks_own_examples_stay_behind(encoder):
    example = replace(EXAMPLE, context="Question: Mine?\nAnswer: Yes.\n\n")
    asked = made("in_context", k=(1,)).asked(example, None, SETS)
    assert asked.context.endswith("\n\nQuestion: Mine?\nAnswer: Yes.\n\n")
    assert asked.context.count("Question:") == 2


def test_examples_are_part_of_the_users_turn_in_a_chat(chat):
    (row, *_) = rows_of(chat, made("in_context", k=(1,)))
    text = chat.tokenizer.decode(row.tokens.prompt)
    assert text.startswith("<s>user:\n\nQuestion: Who is author")
    assert text.endswith("Question: Who wrote the book of Ada?\nAnswer:\nassistant:\n\n")


def test_sets_that_cannot_give_examples_are_refused():
    def faults(sets, **options):
        return list(made("in_context", **options).faults([], sets))

    texts = {"forget": [Example("", "A text.")], "retain": [Example("", "Another.")]}
    (fault,) = faults(texts)
    assert "the retain set holds plain texts" in fault
    (fault,) = faults(SETS, k=(2, 9))
    assert fault == "k = 9 is more than the 8 examples of the retain set"
    assert not faults(SETS, k=(2, 8))
    assert not faults(SETS, k=(9,), tells=True)
    (fault,) = faults(SETS, k=(5,), examples="forget")
    assert "k = 5 is more than the 3 examples of the forget set" in fault


# noise


def changed(attack, encoder, example=EXAMPLE, manner=QUESTION):
    """Where a prompt is hit, and the prompt's length."""
    new, old = (rows_of(encoder, how, example, manner)[0].tokens.prompt for how in (attack, None))
    assert len(new) == len(old)
    return {n for n, pair in enumerate(zip(new, old, strict=True)) if pair[0] != pair[1]}, len(old)


def test_all_of_the_question_and_nothing_else_can_be_hit(encoder, chat):
    attack = made("token_noise", share=(1.0,))
    before = len(encoder.tokenizer("Question:").input_ids)
    behind = len(encoder.tokenizer("\nAnswer:", add_special_tokens=False).input_ids)
    hit, length = changed(attack, encoder)
    assert hit == set(range(before, length - behind))
    hit, length = changed(attack, encoder, replace(EXAMPLE, trailing_blank=True))
    assert hit == set(range(before, length - behind - 1))
    hit, length = changed(attack, chat)
    assert hit == set(
        range(
            len(chat.tokenizer("user:\n\n").input_ids),
            length - len(chat.tokenizer("\nassistant:\n\n", add_special_tokens=False).input_ids),
        )
    )


def test_of_a_text_all_but_special_tokens_can_be_hit(encoder):
    hit, length = changed(made("token_noise", share=(1.0,)), encoder, manner=TEXT)
    assert hit == set(range(1, length))  # BOS
    whole = replace(EXAMPLE, question="")
    assert changed(made("token_noise", share=(1.0,)), encoder, whole, TEXT) == (set(), 1)


def test_the_share_is_kept_on_average_and_smaller_ones_hit_less(encoder):
    questions = [replace(EXAMPLE, question=f"Who wrote book {n} of the {n}?") for n in range(200)]
    counts = {}
    for share in (0.1, 0.5):
        hits = [changed(made("token_noise", share=(share,)), encoder, x)[0] for x in questions]
        counts[share] = hits
    length = sum(len(encoder.prompt(x.question)) for x in questions)
    frame = len(encoder.prompt("a b")) - encoder.count(" a b")
    asked = length - frame * len(questions)
    for share, hits in counts.items():
        deviation = (share * (1 - share) / asked) ** 0.5
        assert abs(sum(map(len, hits)) / asked - share) < 5 * deviation
    assert all(few <= many for few, many in zip(counts[0.1], counts[0.5], strict=True))


def test_new_tokens_are_other_tokens_that_are_not_special(encoder):
    attack = made("token_noise", share=(1.0,))
    special = set(encoder.tokenizer.all_special_ids)
    found = set()
    for n in range(300):
        question = replace(EXAMPLE, question=f"Who wrote book {n} of the long list of books?")
        new = rows_of(encoder, attack, question)[0].tokens.prompt
        old = plain(encoder, question)[0].tokens.prompt
        found |= {a for a, b in zip(new, old, strict=True) if a != b}
    assert not found & special
    assert len(found) > 0.98 * (len(encoder.tokenizer) - len(special))  # each alike


def test_noise_depends_on_seed_and_question_alone(encoder):
    seeds = [changed(made("token_noise", share=(0.5,), seed=s), encoder)[0] for s in range(4)]
    assert len(set(map(frozenset, seeds))) == 4
    later = list(
        RowMaker(
            encoder, Measurement(probes=("retain",), generate=()), "retain", QUESTION,
            made("token_noise", share=(0.5,)),
        )(99, EXAMPLE)
    )  # fmt: skip
    assert prompts(later) == prompts(rows_of(encoder, made("token_noise", share=(0.5,))))


# other words


def test_the_paraphrased_question_is_asked_where_there_is_one(encoder):
    rows = rows_of(encoder, made("paraphrase"))
    other = EXAMPLE.paraphrased_question
    assert [row.tokens for row in rows] == [encoder.encode(other, row.answer) for row in rows]
    without = replace(EXAMPLE, paraphrased_question=None)
    assert rows_of(encoder, made("paraphrase"), without) == plain(encoder, without)
    assert not list(made("paraphrase").faults([without, EXAMPLE], {}))
    (fault,) = made("paraphrase").faults([without, without], {})
    assert fault.startswith("none of the 2 questions has a paraphrased one")


@pytest.fixture
def forms(tmp_path):
    def write(*lines):
        file = tmp_path / "forms.jsonl"
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def form(question, asked_as):
    return {"question": question, "asked_as": asked_as, "note": "of no meaning"}


def test_questions_of_a_file_are_asked_in_its_words(forms, encoder):
    path = forms(form(EXAMPLE.question, "¿Quién?"), "", form(OTHERS[0].question, "He is"))
    attack = made("reworded", path=path, forms={})
    rows = rows_of(encoder, attack)
    assert [row.tokens for row in rows] == [encoder.encode("¿Quién?", r.answer) for r in rows]
    assert rows_of(encoder, attack, OTHERS[1]) == plain(encoder, OTHERS[1])


def test_what_a_file_says_is_the_option_and_where_it_lies_is_not(forms, tmp_path):
    first = made("reworded", path=forms(form("A?", "a?"), form("B?", "b?")), forms={})
    (tmp_path / "forms.jsonl").rename(tmp_path / "kept.jsonl")
    again = made("reworded", path=str(tmp_path / "kept.jsonl"), forms={})
    other = made("reworded", path=forms(form("A?", "a?"), form("B?", "c?")), forms={})
    assert first.model_dump() == {"path": None, "forms": {"A?": "a?", "B?": "b?"}}
    assert again == first
    assert other != first
    told = ATTACKS["reworded"].model_validate_json(json.dumps(first.model_dump()))
    assert told == first  # as a measuring process is told, which has no such file


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "there is no line in it"),
        (["{"], 'line 1 is not of the form {"question": "…", "asked_as": "…"}'),
        ([form("A?", "a?"), {"question": "B?"}], "line 2 is not of the form"),
        ([["A?", "a?"]], "line 1 is not of the form"),
        ([form("A?", "")], "line 1 is not of the form"),
        ([form("A?", "a?"), form("A?", "b?")], "line 2 has the question of line 1 again"),
        (["{", form("A?", 1)], "line 1 is not of the form .*; line 2 is not of the form"),
        (["{"] * 7, "line 5 .*; and 2 more faults"),
    ],
)
def test_every_fault_of_a_file_is_told(forms, lines, said):
    with pytest.raises(ValidationError, match=said):
        made("reworded", path=forms(*lines), forms={})


def test_a_file_that_is_not_there_and_questions_nobody_asks_are_told(tmp_path):
    with pytest.raises(ValidationError, match=r"none\.jsonl' cannot be read"):
        made("reworded", path=str(tmp_path / "none.jsonl"), forms={})
    with pytest.raises(ValidationError, match="needs either path"):
        ATTACKS["reworded"]()
    forms = {f"Who {n}?": "x" for n in range(7)}
    (fault,) = made("reworded", forms=forms).faults([EXAMPLE, Example("Who 0?", "a")], {})
    assert fault.startswith("no probe that is measured has the question 'Who 1?', 'Who 2?'")
    assert " and 1 more." in fault
    assert not list(made("reworded").faults([EXAMPLE], {}))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prefix", {"text": ""}),
        ("prefix", {"text": " Sure:"}),
        ("role_play", {"template": "Be Ada."}),
        ("role_play", {"template": "{question} {question}"}),
        ("role_play", {"template": "{question}"}),
        ("emphasis", {"how": "loud"}),
        ("in_context", {"k": (-1,)}),
        ("in_context", {"k": ()}),
        ("in_context", {"examples": "test"}),
        ("token_noise", {"share": (1.1,)}),
        ("token_noise", {"share": (float("nan"),)}),
        ("token_noise", {"share": ()}),
    ],
)
def test_options_that_mean_nothing_are_refused(name, options):
    with pytest.raises(ValidationError):
        made(name, **options)
