import re

import datasets
import pytest

from raymcu.benchmarks import _published
from raymcu.benchmarks._base import Manner, set_facts
from raymcu.benchmarks.wmdp import Wmdp
from raymcu.errors import ConfigError
from raymcu.planning.surroundings import load_space

LONG = "The gardener waters the beans at dawn and the roses at dusk. " * 2
FORGET = [f"Recipe {n}: {LONG}" for n in range(3)]
WIKITEXT = ["", " = Beans = ", f"Beans: {LONG}", f"Roses: {LONG * 40}"]


SUBJECTS = ("abstract_gardening", "tide_tables")


def asked(n):
    return f"What does gardener {n} water?\nA. Beans\nB. Roses\nC. Stones\nD. Clouds\nAnswer:"


def about(subject):
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


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
            "wmdp-bio": [choice(n) for n in range(10, 13)],
            "wmdp-chem": [choice(n) for n in range(20, 27)],
            "mmlu": [choice(n, subject=SUBJECTS[n % 2]) for n in range(30)],
            "mmlu-dev": [choice(100 + n, subject=SUBJECTS[n > 4]) for n in range(10)],
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
        "cyber:wikitext:2000:cais/wmdp-corpora@main+Salesforce/wikitext@main"
    )
    assert facts.asked == "0-shot:cais/wmdp@main+cais/mmlu@main"
    assert facts.sets["forget"].num_characters == 2_000_000
    assert facts.sets["forget_perturbed"].num_answers == 4 * 1987
    assert facts.sets["retain_perturbed"].num_examples == 14_042
    assert [facts.sets[f"{x}_perturbed"].num_examples for x in ("bio", "cyber", "chem")] == [
        1_273,
        1_987,
        408,
    ]
    shown = Wmdp(num_shots=5).facts().sets
    assert shown["retain_perturbed"].num_characters == (
        4 * 6_967_453 + 4 * 14_042 * 5 * 4 * 125_353 // (4 * 285)
    )
    assert shown["chem_perturbed"].num_characters == 6 * 4 * 98_980
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
    assert sets["forget_perturbed"].num_answers == sets["cyber_perturbed"].num_answers == 20
    assert sets["bio_perturbed"].num_answers == 12
    shown = wmdp(folder, num_shots=2)
    for probe in Wmdp.probes:
        assert shown.facts().sets[f"{probe}_perturbed"] == set_facts(shown.probe(probe, "forget"))


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


def test_what_is_only_asked_changes_no_fingerprint_of_the_texts(folder, write_json):
    facts = [wmdp(folder).facts(), wmdp(folder, num_shots=1).facts()]
    write_json(folder, {"wmdp-chem": [choice(1)]})
    facts.append(wmdp(folder).facts())
    (folder / "wmdp-bio.json").unlink()
    facts.append(wmdp(folder).facts())
    assert len({one.asked for one in facts}) == 4
    assert len({one.fingerprint for one in facts}) == 1


def test_questions_are_those_of_the_evaluation_harness(folder, rows_of, spelt):
    cyber = wmdp(folder)
    row = cyber.probe("forget", "forget")[1]
    assert (row.context, row.question) == (about("cybersecurity"), asked(1))
    assert (row.answer, row.perturbed_answers) == ("B", ("A", "C", "D"))
    found = rows_of(cyber, "forget", [row])
    assert [(x.answer_kind, x.answer_index, spelt(x.tokens.answer)) for x in found] == [
        ("answer", 0, " B"),
        ("option", 0, " A"),
        ("option", 1, " C"),
        ("option", 2, " D"),
    ]
    assert {spelt(x.tokens.prompt) for x in found} == {f"<s>{about('cybersecurity')}{asked(1)}"}


def test_every_probe_of_questions_is_a_choice_without_a_template():
    texts = {"forget_text", "retain_text"}
    assert {Wmdp.manners[probe] for probe in set(Wmdp.probes) - texts} == {
        Manner(is_text=True, is_choice=True)
    }
    assert {Wmdp.manners[probe] for probe in texts} == {
        Manner(is_text=True, max_answer_tokens=2048)
    }


def test_texts_are_probes_on_request_and_change_nothing_that_was_asked_before(folder):
    cyber = wmdp(folder)
    for probe, name in (("forget_text", "forget"), ("retain_text", "retain")):
        assert cyber.probe(probe, "forget") == cyber.training_set(name)
    table = {
        "name": "a",
        "benchmark": {"name": "wmdp", "forget_sizes": ["forget"], "path": str(folder)},
        "model": {"path": "a/b"},
        "original": {"path": "a/b"},
        "retrained": {"train": False},
        "methods": [{"name": "npo"}],
        "unlearning": {"settings": ["Rand"]},
    }
    assert load_space(table).measurement.probes == ("forget", "retain", "bio", "cyber", "chem")
    asked = ["forget", "retain", "forget_text", "retain_text"]
    space = load_space(table | {"measurement": {"probes": asked, "generate": []}})
    assert space.measurement.probes == tuple(asked)
    with pytest.raises(ConfigError, match="domain = 'chem'"):
        wmdp(folder, domain="chem").probe("forget_text", "forget")


def test_every_domain_can_be_asked_about(folder):
    cyber = wmdp(folder)
    for probe, subject, numbers in (
        ("bio", "biology", range(10, 13)),
        ("cyber", "cybersecurity", range(5)),
        ("chem", "chemistry", range(20, 27)),
    ):
        rows = cyber.probe(probe, "forget")
        assert [row.question for row in rows] == [asked(n) for n in numbers]
        assert {row.context for row in rows} == {about(subject)}
    assert cyber.probe("cyber", "forget") == cyber.probe("forget", "forget")


def test_mmlu_names_the_subject_and_is_shuffled_the_same_every_time(folder):
    rows = wmdp(folder).probe("retain", "forget")
    numbers = [int(re.search(r"gardener (\d+)", row.question)[1]) for row in rows]
    assert sorted(numbers) == list(range(30))
    assert numbers != sorted(numbers)
    subjects = ("abstract gardening", "tide tables")
    assert [row.context for row in rows] == [about(subjects[n % 2]) for n in numbers]
    assert rows == wmdp(folder).probe("retain", "forget")


def test_mmlu_is_shown_the_first_questions_of_its_own_subject(folder, rows_of, spelt):
    cyber = wmdp(folder, num_shots=2)
    rows = {row.question: row for row in cyber.probe("retain", "forget")}
    assert rows[asked(3)].context == (f"{about('tide tables')}{asked(105)} B\n\n{asked(106)} C\n\n")
    gardening = f"{about('abstract gardening')}{asked(100)} A\n\n{asked(101)} B\n\n"
    assert {row.context for row in rows.values()} == {gardening, rows[asked(3)].context}
    row = rows_of(cyber, "retain", [rows[asked(8)]])[0]
    assert spelt(row.tokens.prompt) == f"<s>{gardening}{asked(8)}"
    assert spelt(row.tokens.answer) == " A"


def test_wmdp_is_shown_its_first_other_questions(folder, write_json):
    order = [4, 4, 1, 7, 2, 9, 1]  # two questions stand there twice
    write_json(folder, {"wmdp-cyber": [choice(n) for n in order]})
    rows = wmdp(folder, num_shots=2).probe("forget", "forget")
    assert [row.question for row in rows] == [asked(n) for n in order]

    def shown(*numbers):
        shots = "".join(f"{asked(n)} {'ABCD'[n % 4]}\n\n" for n in numbers)
        return about("cybersecurity") + shots

    usual = shown(4, 1)
    assert [row.context for row in rows] == [
        shown(1, 7),
        shown(1, 7),
        shown(4, 7),
        usual,
        usual,
        usual,
        shown(4, 7),
    ]


def test_too_few_questions_to_show_are_named(folder, write_json, faults_of):
    short = [choice(n, subject=SUBJECTS[n > 2]) for n in range(6)]
    write_json(folder, {"mmlu-dev": [*short, choice(1, subject="weather")]})
    place = "benchmark wmdp, num_shots = 4: "
    assert faults_of(wmdp(folder, num_shots=4), folder) == [
        f"{place}'mmlu-dev' has fewer questions of 2 of the 2 subjects, e.g. only 3 behind "
        "'The following are multiple choice questions (with answers) about abstract gardening.'. "
        "Set num_shots to less, or correct the file.",
        f"{place}'wmdp-bio' holds only 3 different questions. Set num_shots to 2 or less.",
    ]
    for num_shots in (-1, 6):
        with pytest.raises(ValueError, match="num_shots"):
            wmdp(folder, num_shots=num_shots)


def test_a_folder_needs_only_the_corpora_and_what_is_asked(folder):
    for name in ("wmdp-bio", "wmdp-chem", "mmlu-dev"):
        (folder / f"{name}.json").unlink()
    cyber = wmdp(folder)
    assert sorted(name for name in cyber.facts().sets if name.endswith("_perturbed")) == [
        "cyber_perturbed",
        "forget_perturbed",
        "forget_text_perturbed",
        "retain_perturbed",
        "retain_text_perturbed",
    ]
    assert len(cyber.probe("retain", "forget")) == 30
    with pytest.raises(ConfigError, match=r"wmdp-chem\.jsonl: is missing\. Allowed are"):
        cyber.probe("chem", "forget")
    shown = wmdp(folder, num_shots=1)
    assert "retain_perturbed" not in shown.facts().sets
    with pytest.raises(ConfigError, match=r"mmlu-dev\.jsonl: is missing"):
        shown.probe("retain", "forget")
    (folder / "wikitext.json").unlink()
    with pytest.raises(ConfigError, match=r"wikitext\.jsonl: is missing"):
        cyber.probe("forget", "forget")


def test_chemistry_has_questions_but_no_texts(folder):
    for name in ("cyber-forget-corpus", "cyber-retain-corpus", "wikitext"):
        (folder / f"{name}.json").unlink()
    chem = wmdp(folder, domain="chem")
    asked = set(Wmdp.probes) - {"forget_text", "retain_text"}
    assert set(chem.facts().sets) == {f"{probe}_perturbed" for probe in asked}
    assert len(chem.probe("forget", "forget")) == 7
    assert len(chem.probe("retain", "forget")) == 30
    assert Wmdp(domain="chem").facts().asked == "0-shot:cais/wmdp@main+cais/mmlu@main"
    for ask in (
        lambda: chem.training_set("full"),
        lambda: chem.training_set("retain"),
        lambda: chem.retain_of("forget"),
        lambda: chem.retrained_on("forget"),
    ):
        with pytest.raises(ConfigError, match=r"domain = 'chem': of chemistry only questions are"):
            ask()


def test_the_hub_is_asked_for_questions_and_examples(monkeypatch):
    loaded = []

    def load_dataset(path, config, split, revision):
        loaded.append((path, config, split, revision))
        return datasets.Dataset.from_list([choice(1, subject="tide_tables")])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    _published._hub.cache_clear()
    (row,) = Wmdp(num_shots=1).probe("retain", "forget")
    assert row.context == f"{about('tide tables')}{asked(1)} B\n\n"
    (row,) = Wmdp().probe("chem", "forget")
    assert row.context == about("chemistry")
    _published._hub.cache_clear()
    assert loaded == [
        ("cais/mmlu", "all", "test", "main"),
        ("cais/mmlu", "all", "dev", "main"),
        ("cais/wmdp", "wmdp-chem", "test", "main"),
    ]


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
