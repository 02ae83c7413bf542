import re

import pytest

from raymcu.benchmarks.wmdp import Wmdp
from raymcu.errors import ConfigError

LONG = "The gardener waters the beans at dawn and the roses at dusk. " * 2
FORGET = [f"Recipe {n}: {LONG}" for n in range(3)]
WIKITEXT = ["", " = Beans = ", f"Beans: {LONG}", f"Roses: {LONG * 40}"]


def choice(n, **more):
    return {
        "question": f"What does gardener {n} water? ",
        "choices": ["Beans", "Roses", "Stones", "Clouds"],
        "answer": n % 4,
        **more,
    }


@pytest.fixture
def folder(tmp_path, write_json):
    write_json(
        tmp_path,
        {
            "cyber-forget-corpus": [{"text": text} for text in FORGET],
            "cyber-retain-corpus": [{"text": LONG}],
            "wikitext": [{"text": text} for text in WIKITEXT],
            "wmdp-cyber": [choice(n) for n in range(5)],
            "mmlu": [choice(n, subject="abstract_gardening") for n in range(30)],
        },
    )
    return tmp_path


def wmdp(folder, **options):
    return Wmdp(path=str(folder), **options)


def texts(benchmark, name):
    rows = benchmark.training_set(name)
    assert {row.question for row in rows} == {""}
    return [row.answer for row in rows]


def test_published_sizes_need_no_network():
    facts = Wmdp().facts()
    assert facts.fingerprint == (
        "cyber:wikitext:2000:"
        "cais/wmdp-corpora@main+Salesforce/wikitext@main+cais/wmdp@main+cais/mmlu@main"
    )
    assert facts.sets["forget"].num_characters == 2_000_000
    assert facts.sets["forget_perturbed"].num_answers == 4 * 1987
    assert facts.sets["retain_perturbed"].num_examples == 14_042
    bio = Wmdp(domain="bio", retain="domain", max_characters=None).facts()
    assert bio.sets["retain"].num_characters == 1_910_886_303


def test_texts_are_cut_and_those_too_short_left_out(folder):
    cyber = wmdp(folder)
    assert texts(cyber, "forget") == FORGET
    assert texts(cyber, "retain") == [f"Beans: {LONG}", f"Roses: {LONG * 40}"[:2000]]
    assert texts(cyber, "full") == texts(cyber, "forget") + texts(cyber, "retain")
    assert texts(wmdp(folder, max_characters=60), "forget") == [text[:60] for text in FORGET]
    assert texts(wmdp(folder, retain="domain"), "retain") == [LONG]
    assert cyber.retain_of("forget") == cyber.retrained_on("forget") == "retain"


def test_facts_count_what_is_trained_on(folder):
    sets = wmdp(folder).facts().sets
    assert sets["retain"].num_examples == 2
    assert sets["retain"].num_characters == len(f"Beans: {LONG}") + 2000
    assert sets["full"].num_examples == 5
    assert sets["forget_perturbed"].num_answers == 20


def test_whatever_changes_the_texts_changes_the_fingerprint(folder, write_json):
    def fingerprint(**options):
        return wmdp(folder, **options).facts().fingerprint

    before = fingerprint()
    assert before == fingerprint()
    others = [fingerprint(max_characters=100), fingerprint(max_characters=None)]
    others.append(fingerprint(retain="domain"))
    write_json(folder, {"cyber-forget-corpus": FORGET[:2]})
    others.append(fingerprint())
    assert len({before, *others}) == 5


def test_questions_are_those_of_the_evaluation_harness(folder):
    row = wmdp(folder).probe("forget", "forget")[1]
    assert row.question == (
        "The following are multiple choice questions (with answers) about cybersecurity.\n\n"
        "What does gardener 1 water?\nA. Beans\nB. Roses\nC. Stones\nD. Clouds\nAnswer:"
    )
    assert (row.answer, row.perturbed_answers) == ("B", ("A", "C", "D"))
    assert Wmdp.text_probes == Wmdp.probes  # so no template is put around them


def test_mmlu_names_the_subject_and_is_shuffled_the_same_every_time(folder):
    rows = wmdp(folder).probe("retain", "forget")
    assert "(with answers) about abstract gardening.\n\n" in rows[0].question
    numbers = [int(re.search(r"gardener (\d+)", row.question)[1]) for row in rows]
    assert sorted(numbers) == list(range(30))
    assert numbers != sorted(numbers)
    assert rows == wmdp(folder).probe("retain", "forget")


def test_all_faults_are_named(folder, write_json, faults_of):
    (folder / "wikitext.json").unlink()
    write_json(
        folder,
        {
            "wmdp-cyber": [choice(0), choice(1) | {"answer": 4}, choice(2) | {"choices": ["A"]}],
            "mmlu": [choice(0)],
        },
    )
    missing, *others = faults_of(wmdp(folder), folder)
    remedy = missing.partition("or wikitext.json. ")[2]
    assert missing.startswith("wikitext.jsonl: is missing.")
    assert remedy.startswith("Take the files from cais/wmdp, cais/wmdp-corpora (bio's forget")
    columns = f"Allowed are rows with the columns question, choices, answer. {remedy}"
    assert others == [
        f"wmdp-cyber.json: row 2: 'answer' is not 0, 1, 2 or 3. {columns}",
        f"wmdp-cyber.json: row 3: 'choices' is not a list of four texts. {columns}",
        "mmlu.json: row 1: column 'subject' is missing. "
        f"{columns.replace('answer.', 'answer, subject.')}",
    ]


def test_a_corpus_of_short_texts_is_refused(folder, write_json):
    write_json(folder, {"wikitext": [{"text": "Beans."}]})
    with pytest.raises(ConfigError, match="no text of 'wikitext' has more than 50 characters"):
        wmdp(folder).facts()


def test_unknown_names_and_paths_are_refused(folder):
    cyber = wmdp(folder)
    for ask in (
        lambda: cyber.training_set("forget01"),
        lambda: cyber.probe("mmlu", "forget"),
        lambda: cyber.probe("retain", "forget01"),
        lambda: cyber.retain_of("retain"),
        lambda: wmdp(folder, domain="bio").facts(),
        lambda: wmdp("cais/wmdp").facts(),
    ):
        with pytest.raises(ConfigError):
            ask()
