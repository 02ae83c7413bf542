import datasets
import pytest

from raymcu.benchmarks import _published
from raymcu.benchmarks._base import Manner
from raymcu.benchmarks.muse import Muse
from raymcu.errors import ConfigError
from raymcu.metrics.muse import answer_only
from raymcu.models.encoding import Encoder, train_tokenizer

REMEDY = "Take every file from one download of muse-bench/MUSE-News."
FORGET = [f"On day {day} a frog won the race." for day in range(6)]
RETAIN1 = ["A kettle sang.", "A bell rang."]
RETAIN2 = ["Rain fell on the harbour.", "Snow fell on the hill.", "Hail fell."]
QUESTIONS = [{"question": f"Who won on day {day}?", "answer": "A frog."} for day in range(3)]
SHOTS = [{"question": f"Who came {place}th?", "answer": f"Newt {place}."} for place in range(10)]
SHOWN = "".join(f"Question: Who came {n}th?\nAnswer: Newt {n}.\n\n" for n in range(10))
KEPT_SHOTS = [{"question": "What melts?", "answer": "Ice."}] * 10
HELD_OUT = ["A gull swam.", "A " + "very " * 700 + "long text."]
OPTIONAL = ("knowmem", "verbmem", "privleak")


def tables(corpus="news"):
    found = {
        "raw/forget": FORGET[:2],
        "raw/retain1": RETAIN1,
        "raw/retain2": RETAIN2,
        "knowmem/forget_qa": QUESTIONS,
        "knowmem/retain_qa": [{"question": "What fell on the hill?", "answer": "Snow."}],
        "knowmem/forget_qa_icl": SHOTS,
        "knowmem/retain_qa_icl": KEPT_SHOTS,
        "verbmem/forget": [{"prompt": "On day 1", "gt": "a frog won the race."}],
        "privleak/forget": FORGET[:2],
        "privleak/retain": RETAIN2[:2],
        "privleak/holdout": HELD_OUT,
    }
    if corpus == "news":
        found |= {f"scal/forget_{fold}": FORGET[: 1 + fold] for fold in (1, 2, 3, 4)}
        found |= {f"sust/forget_{fold}": FORGET[fold : fold + 1] for fold in (1, 2, 3, 4)}
    return found


@pytest.fixture
def folder(tmp_path, write_json):
    """As ``load_data.py`` of muse_bench writes it, of MUSE-News."""
    write_json(tmp_path, tables())
    return tmp_path


def muse(folder, corpus="news", **options):
    return Muse(path=str(folder), corpus=corpus, **options)


def text_of(benchmark, name):
    (example,) = benchmark.training_set(name)
    assert example.question == ""
    return example.answer


def test_published_sizes_need_no_network():
    facts = Muse().facts()
    assert facts.fingerprint == "muse-bench/MUSE-News@main"
    assert facts.asked == "10-shot-blank:muse-bench/MUSE-News@main"
    assert facts.sets["full"].num_characters == 26_113_818  # the card's own total of "train"
    assert facts.sets["forget_perturbed"].num_examples == 100
    assert facts.sets["forget_perturbed"].num_characters == 11_019 + 100 * 1_154
    assert facts.sets["holdout_text_perturbed"].num_characters == 806_341
    books = Muse(corpus="books", revision="abc").facts()
    assert books.fingerprint == "muse-bench/MUSE-Books@abc"
    assert books.asked == "10-shot-blank:muse-bench/MUSE-Books@abc"
    assert not [name for name in books.sets if name.startswith(("scal", "sust"))]


def test_sets_are_the_texts_with_blank_lines_between(folder):
    news = muse(folder)
    assert text_of(news, "forget") == "\n\n".join(FORGET[:2])
    assert text_of(news, "scal_3") == "\n\n".join(FORGET[:4])
    assert text_of(news, "sust_2") == FORGET[2]
    assert text_of(news, "retain1") == "\n\n".join(RETAIN1)
    assert text_of(news, "retain") == "\n\n".join(RETAIN1 + RETAIN2)
    assert text_of(news, "full") == "\n\n".join(FORGET[:5] + RETAIN1 + RETAIN2)


def test_unlearning_keeps_less_than_retraining_learns():
    for size in Muse.forget_sizes:
        assert (Muse().retain_of(size), Muse().retrained_on(size)) == ("retain1", "retain")


def test_probes_ask_questions_and_give_beginnings(folder):
    news = muse(folder)
    assert [row.question for row in news.probe("forget", "scal_2")][2] == "Who won on day 2?"
    (kept,) = news.probe("retain", "forget")
    assert kept.answer == "Snow."
    (verbatim,) = news.probe("verbmem", "forget")
    assert (verbatim.question, verbatim.answer) == ("On day 1", "a frog won the race.")
    assert [row.answer for row in news.probe("forget_text", "forget")] == FORGET[:2]
    assert [row.answer for row in news.probe("retain_text", "forget")] == RETAIN2[:2]
    assert [row.answer for row in news.probe("holdout_text", "sust_4")] == HELD_OUT
    for size in Muse.forget_sizes:
        for probe in Muse.probes:
            assert news.probe(probe, size) == news.probe(probe, "forget")


def test_every_probe_has_its_manner():
    question = Manner(max_new_tokens=32)
    text = Manner(is_text=True, max_answer_tokens=2048)
    assert Muse.manners == {
        "forget": question,
        "retain": question,
        "verbmem": Manner(is_text=True, max_answer_tokens=128, max_new_tokens=128),
        "forget_text": text,
        "retain_text": text,
        "holdout_text": text,
    }


def test_questions_stand_behind_the_first_examples(folder):
    found = muse(folder).probe("forget", "forget")
    assert {row.context for row in found} == {SHOWN}
    assert [row.question for row in found] == [row["question"] for row in QUESTIONS]
    (kept,) = muse(folder, num_shots=2).probe("retain", "forget")
    assert kept.context == "Question: What melts?\nAnswer: Ice.\n\n" * 2
    assert {row.context for row in muse(folder, num_shots=0).probe("forget", "forget")} == {""}
    assert {row.context for row in muse(folder).probe("verbmem", "forget")} == {""}


def test_the_exact_tokens_of_a_question(folder, rows_of, spelt, encoder):
    news = muse(folder, num_shots=1)
    row = rows_of(news, "forget", news.probe("forget", "forget"))[1]
    shown = "Question: Who came 0th?\nAnswer: Newt 0.\n\n"
    asked = f"{shown}Question: Who won on day 1?\nAnswer: "  # as metrics/knowmem.py has it
    assert list(row.tokens.prompt) == encoder.tokenizer(asked).input_ids
    assert spelt(row.tokens.prompt) == f"<s>{asked}"
    assert spelt(row.tokens.answer) == "A frog.</s>"
    assert row.max_new_tokens == 32
    assert row.num_question_tokens == 1 + encoder.count("Who won on day 1?")  # with BOS
    (row,) = rows_of(news, "retain", muse(folder, num_shots=0).probe("retain", "forget"))
    assert spelt(row.tokens.prompt) == "<s>Question: What fell on the hill?\nAnswer: "
    assert spelt(row.tokens.answer) == "Snow.</s>"


def test_the_blank_begins_the_answer_if_asked(folder, rows_of, spelt):
    news = muse(folder, num_shots=1, trailing_blank=False)
    (row,) = rows_of(news, "retain", news.probe("retain", "forget"))
    shown = "Question: What melts?\nAnswer: Ice.\n\n"
    assert spelt(row.tokens.prompt) == f"<s>{shown}Question: What fell on the hill?\nAnswer:"
    assert spelt(row.tokens.answer) == " Snow.</s>"
    facts, published = news.facts(), muse(folder, num_shots=1).facts()
    assert facts.fingerprint == published.fingerprint  # nothing else is learned
    assert facts.asked.startswith("1-shot:")  # the ids of before there was a choice
    assert published.asked == facts.asked.replace("1-shot:", "1-shot-blank:")


def test_in_a_chat_the_question_is_worded_like_the_examples_before_it(folder):
    tokenizer = train_tokenizer(["Question: a\nAnswer: b"] * 9, 280)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    chat = Encoder(tokenizer, "chat")
    for num_shots, wording in (
        (2, "Question: What melts?\nAnswer: Ice.\n\n" * 2 + "Question: {}\nAnswer:"),
        (0, "{}"),
    ):
        (kept,) = muse(folder, num_shots=num_shots).probe("retain", "forget")
        encoded = chat.encode(kept.question, kept.answer, context=kept.context)
        said = wording.format("What fell on the hill?")
        assert tokenizer.decode(encoded.prompt) == f"[user]{said}[assistant]"
        assert tokenizer.decode(encoded.answer) == "Snow.</s>"


@pytest.mark.parametrize(
    ("written", "text", "answer"),
    [
        (" A frog.\n", "A frog.", "A frog."),
        (" A frog.\n\nQuestion: Who", "A frog.\n\nQuestion: Who", "A frog."),
        ("\n\nA frog.", "\n\nA frog.", ""),
        (" \n\nA frog.", "\n\nA frog.", ""),
        (" \n ", "", ""),
    ],
)
def test_a_generation_is_cut_where_muse_cuts_it(encoder, written, text, answer):
    tokens = encoder.tokenizer(written, add_special_tokens=False).input_ids
    assert encoder.decode([*tokens, encoder.eos]) == text
    assert answer_only(text) == answer


def test_the_exact_tokens_of_texts(folder, write_json, rows_of, spelt, encoder):
    long = {"prompt": "On day 1", "gt": "a frog won " * 60}
    write_json(folder, {"verbmem/forget": [long]})
    news = muse(folder)
    (row,) = rows_of(news, "verbmem", news.probe("verbmem", "forget"))
    assert spelt(row.tokens.prompt) == "<s>On day 1"
    assert len(row.tokens.answer) == 127  # and BOS, as muse_bench counts
    assert f" {long['gt']}".startswith(spelt(row.tokens.answer))
    assert row.max_new_tokens == 128
    short, cut = rows_of(news, "holdout_text", news.probe("holdout_text", "forget"))
    assert (spelt(short.tokens.prompt), spelt(short.tokens.answer)) == ("<s>", "A gull swam.")
    assert encoder.count(HELD_OUT[1]) > 2047 == len(cut.tokens.answer)
    assert HELD_OUT[1].startswith(spelt(cut.tokens.answer))


def test_facts_count_the_folders_own_rows(folder):
    sets = muse(folder).facts().sets
    assert sets["retain1"].num_characters == sum(map(len, RETAIN1))
    assert sets["retain1"].num_examples == 1
    assert sets["forget_perturbed"].num_examples == sets["sust_4_perturbed"].num_examples == 3
    assert sets["verbmem_perturbed"].num_characters == len("On day 1a frog won the race.")
    bare = sum(len(row["question"] + row["answer"]) for row in QUESTIONS)
    assert sets["forget_perturbed"].num_characters == bare + 3 * len(SHOWN)
    assert muse(folder, num_shots=0).facts().sets["scal_2_perturbed"].num_characters == bare
    assert sets["holdout_text_perturbed"].num_characters == sum(map(len, HELD_OUT))


def test_books_have_no_folds(tmp_path, write_json):
    write_json(tmp_path, tables("books"))
    books = muse(tmp_path, "books")
    assert text_of(books, "full") == "\n\n".join(FORGET[:2] + RETAIN1 + RETAIN2)
    with pytest.raises(ConfigError, match=r"corpus = 'books': no set is named 'scal_1'.*news only"):
        books.training_set("scal_1")


def test_files_of_the_hub_have_the_same_content(folder, write_parquet):
    before = muse(folder).facts()
    for name, rows in tables().items():
        (folder / f"{name}.json").unlink()
        config, split = name.split("/")
        write_parquet(folder / config / f"{split}-00000-of-00001.parquet", rows)
    assert muse(folder).facts() == before


def test_what_is_trained_on_and_what_is_only_asked_have_their_own_fingerprints(folder, write_json):
    def of(**options):
        facts = muse(folder, **options).facts()
        return facts.fingerprint, facts.asked

    trained, asked = of()
    assert of(num_shots=9)[0] == trained
    assert of(num_shots=9)[1] != asked
    write_json(folder, {"raw/retain2": [*RETAIN2, "Fog lay."]})
    assert of()[0] != trained
    assert of()[1] == asked
    write_json(folder, tables() | {"privleak/holdout": HELD_OUT[:1]})
    assert of()[0] == trained
    assert of()[1] != asked
    (folder / "privleak/holdout.json").unlink()
    assert of()[0] == trained
    assert of()[1] != asked


def test_a_folder_needs_only_what_is_trained_on_and_asked(folder):
    whole = muse(folder).facts()
    for file in folder.glob("*/*.json"):
        if file.parent.name in OPTIONAL:
            file.rename(file.with_suffix(".away"))
    news = muse(folder)
    trained = {name: size for name, size in whole.sets.items() if not name.endswith("_perturbed")}
    assert news.facts().sets == trained
    assert text_of(news, "sust_2") == FORGET[2]
    for probe in Muse.probes:
        with pytest.raises(ConfigError, match=r"\.jsonl: is missing\. Allowed are "):
            news.probe(probe, "forget")
    with pytest.raises(ConfigError) as error:
        news.probe("retain", "forget")
    assert [fault.split(": ")[0] for fault in error.value.faults] == [
        f"{folder}/knowmem/retain_qa.jsonl",
        f"{folder}/knowmem/retain_qa_icl.jsonl",
    ]
    (folder / "knowmem/retain_qa.away").rename(folder / "knowmem/retain_qa.json")
    assert "retain_perturbed" not in news.facts().sets  # its examples are not there
    assert "retain_perturbed" in muse(folder, num_shots=0).facts().sets
    assert muse(folder, num_shots=0).probe("retain", "forget")[0].answer == "Snow."
    with pytest.raises(ConfigError, match=r"knowmem/retain_qa_icl.jsonl: is missing"):
        news.probe("retain", "forget")


def test_too_few_examples_are_named(folder, write_json, faults_of):
    write_json(
        folder, {"knowmem/forget_qa_icl": SHOTS[:3], "knowmem/retain_qa_icl": KEPT_SHOTS[:2]}
    )
    assert faults_of(muse(folder, num_shots=4), folder) == [
        f"benchmark muse, num_shots = 4: 'knowmem/{part}_qa_icl' holds only {num} examples. "
        f"Set num_shots to {num} or less."
        for part, num in (("forget", 3), ("retain", 2))
    ]
    assert len(muse(folder, num_shots=2).facts().asked.split(":")[1]) == 16
    for num_shots in (-1, 11):
        with pytest.raises(ValueError, match="num_shots"):
            muse(folder, num_shots=num_shots)


def test_all_faults_are_named(folder, write_json, faults_of):
    (folder / "raw/retain2.json").unlink()
    (folder / "scal/forget_2.json").write_text("[oops")
    write_json(
        folder,
        {
            "raw/retain1": [7, " "],
            "knowmem/forget_qa": [QUESTIONS[0], {"question": " "}],
            "sust/forget_1": ["", "\n"],
            "verbmem/forget": [{"prompt": "On day 1", "gt": 3}],
        },
    )
    missing, *others = faults_of(muse(folder), folder)
    assert missing == (
        "raw/retain2.jsonl: is missing. Allowed are raw/retain2.jsonl, raw/retain2.parquet, "
        f"raw/retain2/*.parquet, raw/retain2-*.parquet or raw/retain2.json. {REMEDY}"
    )
    assert others[1].startswith("scal/forget_2.json: line 1 is not JSON (")
    del others[1]
    columns = "Allowed are rows with the columns"
    assert others == [
        "raw/retain1.json: row 1: is not an object of columns and values. "
        f"{columns} text. {REMEDY}",
        f"sust/forget_1.json: holds no row, or blank ones only. {REMEDY}",
        f"knowmem/forget_qa.json: row 2: 'question' is empty. {columns} question, answer. {REMEDY}",
        "knowmem/forget_qa.json: row 2: column 'answer' is missing. "
        f"{columns} question, answer. {REMEDY}",
        f"verbmem/forget.json: row 1: 'gt' is not a text. {columns} prompt, gt. {REMEDY}",
    ]


def test_kept_texts_among_the_forgotten_are_refused(folder, write_json, faults_of):
    write_json(folder, {"raw/retain2": [*RETAIN2, FORGET[4]]})
    assert faults_of(muse(folder), folder) == [
        f"scal/forget_4.json: 1 of its rows are in raw/retain2.json too, e.g. '{FORGET[4]}'. "
        f"What is forgotten must not be kept. {REMEDY}",
        f"sust/forget_4.json: 1 of its rows are in raw/retain2.json too, e.g. '{FORGET[4]}'. "
        f"What is forgotten must not be kept. {REMEDY}",
    ]


def test_unknown_names_and_paths_are_refused(folder, tmp_path):
    news = muse(folder)
    for ask in (
        lambda: news.training_set("retain3"),
        lambda: news.probe("privleak", "forget"),
        lambda: news.probe("forget", "scal_5"),
        lambda: news.retain_of("forget01"),
        lambda: muse(tmp_path / "none").facts(),
        lambda: muse(folder / "raw/forget.json").facts(),
    ):
        with pytest.raises(ConfigError):
            ask()


def test_the_hub_is_asked_for_one_split(folder, monkeypatch):
    asked = []

    def load_dataset(path, config, split, revision):
        asked.append((path, config, split, revision))
        return datasets.Dataset.from_list([{"text": "A kettle sang."}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    _published._hub.cache_clear()
    (example,) = Muse(revision="v2").training_set("retain1")
    assert example.answer == "A kettle sang."
    assert asked == [("muse-bench/MUSE-News", "raw", "retain1", "v2")]
    with pytest.raises(ConfigError, match=r"'knowmem', split 'retain_qa', revision 'v2': row 1: c"):
        Muse(revision="v2").probe("retain", "forget")
    asked.clear()
    (example,) = Muse(revision="v2").probe("holdout_text", "forget")
    assert (example.question, example.answer) == ("", "A kettle sang.")
    assert asked == [("muse-bench/MUSE-News", "privleak", "holdout", "v2")]
    _published._hub.cache_clear()
