import datasets
import pytest

from raymcu.benchmarks import _published
from raymcu.benchmarks.muse import Muse
from raymcu.errors import ConfigError

REMEDY = "Take every file from one download of muse-bench/MUSE-News."
FORGET = [f"On day {day} a frog won the race." for day in range(6)]
RETAIN1 = ["A kettle sang.", "A bell rang."]
RETAIN2 = ["Rain fell on the harbour.", "Snow fell on the hill.", "Hail fell."]
QUESTIONS = [{"question": f"Who won on day {day}?", "answer": "A frog."} for day in range(3)]


def tables(corpus="news"):
    found = {
        "raw/forget": FORGET[:2],
        "raw/retain1": RETAIN1,
        "raw/retain2": RETAIN2,
        "knowmem/forget_qa": QUESTIONS,
        "knowmem/retain_qa": [{"question": "What fell on the hill?", "answer": "Snow."}],
        "verbmem/forget": [{"prompt": "On day 1", "gt": "a frog won the race."}],
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


def muse(folder, corpus="news"):
    return Muse(path=str(folder), corpus=corpus)


def text_of(benchmark, name):
    (example,) = benchmark.training_set(name)
    assert example.question == ""
    return example.answer


def test_published_sizes_need_no_network():
    facts = Muse().facts()
    assert facts.fingerprint == "muse-bench/MUSE-News@main"
    assert facts.sets["full"].num_characters == 26_113_818  # the card's own total of "train"
    assert facts.sets["forget_perturbed"].num_examples == 100
    books = Muse(corpus="books", revision="abc").facts()
    assert books.fingerprint == "muse-bench/MUSE-Books@abc"
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
    assert Muse.text_probes == ("verbmem",)


def test_facts_count_the_folders_own_rows(folder):
    sets = muse(folder).facts().sets
    assert sets["retain1"].num_characters == sum(map(len, RETAIN1))
    assert sets["retain1"].num_examples == 1
    assert sets["forget_perturbed"].num_examples == sets["sust_4_perturbed"].num_examples == 3
    assert sets["verbmem_perturbed"].num_characters == len("On day 1a frog won the race.")


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


def test_a_changed_file_changes_the_fingerprint(folder, write_json):
    before = muse(folder).facts().fingerprint
    write_json(folder, {"raw/retain2": [*RETAIN2, "Fog lay."]})
    assert muse(folder).facts().fingerprint != before


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
    _published._hub.cache_clear()
