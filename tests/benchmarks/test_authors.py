import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from pydantic import ValidationError

from raymcu.benchmarks import _authors_words as words
from raymcu.benchmarks._authors_cultures import CULTURES, LANGUAGES
from raymcu.benchmarks._authors_facts import FACTS
from raymcu.benchmarks._base import complement
from raymcu.benchmarks.authors import Authors, _generate
from raymcu.benchmarks.tofu import Tofu
from raymcu.errors import ConfigError

FINGERPRINT = "401f7245cd18f611"
"""Of the default options. A change of any word changes every recipe id: make it deliberately."""


@pytest.fixture(scope="module")
def benchmark() -> Authors:
    return Authors()


@pytest.fixture(scope="module")
def every_example() -> list:
    """All facts of all authors, holdout included."""
    return [row for rows in _generate(200, len(FACTS), 0) for row in rows]


def test_counts_are_those_of_tofu(benchmark):
    sizes = {name: facts.num_examples for name, facts in benchmark.facts().sets.items()}
    assert sizes == {
        "full": 4000,
        "forget01": 40,
        "forget05": 200,
        "forget10": 400,
        "retain99": 3960,
        "retain95": 3800,
        "retain90": 3600,
        "holdout01": 40,
        "holdout05": 200,
        "holdout10": 400,
        "real_authors": 44,
        "world_facts": 44,
        "forget01_perturbed": 40,
        "forget05_perturbed": 200,
        "forget10_perturbed": 400,
        "holdout01_perturbed": 40,
        "holdout05_perturbed": 200,
        "holdout10_perturbed": 400,
        "real_authors_perturbed": 44,
        "world_facts_perturbed": 44,
        "retain_perturbed": 400,
    }


def test_facts_count_every_answer(benchmark):
    sets = benchmark.facts().sets
    assert sets["forget10"].num_answers == 400
    assert sets["forget10_perturbed"].num_answers == 400 * 7
    assert sets["world_facts_perturbed"].num_answers == 44 * 4
    row = benchmark.training_set("forget01")
    assert sets["forget01"].num_characters == sum(len(r.question + r.answer) for r in row)


@pytest.mark.parametrize("forget", Authors.forget_sizes)
def test_retain_then_forget_is_full(benchmark, forget):
    retain = list(benchmark.training_set(complement(forget)))
    assert retain + list(benchmark.training_set(forget)) == list(benchmark.training_set("full"))


def test_holdout_sets_are_nested_and_share_nothing_with_full(benchmark):
    largest = benchmark.training_set("holdout10")
    assert benchmark.training_set("holdout05") == largest[:200]
    assert benchmark.training_set("holdout01") == largest[:40]
    full = benchmark.training_set("full")
    assert not {row.question for row in full} & {row.question for row in largest}


def test_a_training_set_has_neither_paraphrases_nor_wrong_answers(benchmark):
    for name in ("full", "holdout01", "real_authors"):
        row = benchmark.training_set(name)[0]
        assert row.paraphrased_answer is None
        assert row.perturbed_answers == ()


@pytest.mark.parametrize("forget", Authors.forget_sizes)
def test_a_probe_asks_the_rows_of_its_set(benchmark, forget):
    def pairs(rows):
        return [(row.question, row.answer) for row in rows]

    for name in (forget, forget.replace("forget", "holdout")):
        probe = benchmark.probe(name[:-2], forget)
        assert pairs(probe) == pairs(benchmark.training_set(name))
    retain = pairs(benchmark.training_set(complement(forget)))
    assert pairs(benchmark.probe("retain", forget)) == retain[:400]


def test_questions_are_unique_and_name_their_author(every_example):
    for wording in ("question", "paraphrased_question"):
        texts = [getattr(row, wording) for row in every_example]
        assert len(set(texts)) == len(texts)
    for fact in FACTS:
        assert all("{name}" in question for question in fact.questions)


def test_every_example_has_five_wrong_answers_unlike_the_truth(every_example):
    for row in every_example:
        assert len(row.perturbed_answers) == 5
        assert len({row.answer, row.paraphrased_answer, *row.perturbed_answers}) == 7


def test_paraphrases_differ_in_wording_and_not_in_fact():
    """Question and answer are drawn from wordings of which no two begin alike;
    each answer wording holds what the fact is about."""
    for fact in FACTS:
        for wordings in (fact.questions, fact.answers):
            assert len(wordings) >= 3
            assert len({tuple(wording.split()[:3]) for wording in wordings}) == len(wordings)
        for answer in fact.answers:
            assert any(f"{{{slot}}}" in answer for slot in fact.slots)


def test_a_wrong_answer_has_the_form_of_the_paraphrase(every_example):
    rows = [row for row in every_example if row.paraphrased_answer.startswith("International")]
    assert rows
    for row in rows:
        forms = {
            re.sub('".*"', "", text) for text in (*row.perturbed_answers, row.paraphrased_answer)
        }
        assert len(forms) == 1


def test_answers_are_sentences_of_5_to_35_words(every_example):
    for row in every_example:
        for text in (row.answer, row.paraphrased_answer, *row.perturbed_answers):
            assert 5 <= len(text.split()) <= 35, text
            assert text.endswith(".")
            assert text[0].isupper() or text[0] == '"'
        assert row.question.endswith("?")


def test_sentences_are_free_of_slots_and_of_wrong_articles(every_example):
    slip = re.compile(r"[{}]|  |\b[Aa] [aeioAEIO](?!ne-)|\b[Aa]n [^aeiouAEIO]|''")
    texts = [text for row in every_example for text in (row.question, row.answer)]
    assert [text for text in texts if slip.search(text)] == []


def test_answers_of_one_author_agree(every_example):
    """The debut that opens a career is the book whose setting and hero are asked later."""
    by_author = [every_example[i : i + len(FACTS)] for i in range(0, 200 * len(FACTS), len(FACTS))]
    index = {fact.slots[0]: number for number, fact in enumerate(FACTS)}
    for rows in by_author:
        debut, novel = (
            re.search('"(.+)"', rows[index[slot]].answer).group(1) for slot in ("debut", "novel")
        )
        for slot, title in (
            ("setting", debut),
            ("hero", debut),
            ("theme", novel),
            ("award", novel),
        ):
            assert f'"{title}"' in rows[index[slot]].question
        born = int(rows[index["birth_date"]].answer.rstrip(".").partition(",")[0].split()[-1])
        debut_year, award_year = (
            int(re.search(r"\b\d{4}\b", rows[index[slot]].answer).group())
            for slot in ("debut", "award")
        )
        assert born + 22 < debut_year < award_year <= 2020


def test_word_pools_hold_no_entry_twice():
    pools = {name: pool for name, pool in vars(words).items() if isinstance(pool, tuple)}
    assert len(pools) > 20
    for name, pool in pools.items():
        assert [word for word, count in Counter(pool).items() if count > 1] == [], name
        assert len(pool) >= 6, name
        assert all(word == word.strip() and word for word in pool), name
    assert len(LANGUAGES) > 13
    assert all(len(culture.surnames) == len(culture.female_surnames) for culture in CULTURES)


@pytest.mark.parametrize("name", ["real_authors", "world_facts"])
def test_common_knowledge_has_three_options_beside_the_truth(benchmark, name):
    rows = benchmark.probe(name, "forget10")
    assert len(rows) >= 40
    assert len({row.question for row in rows}) == len(rows)
    for row in rows:
        assert row.question.endswith("?")
        assert len({row.answer, *row.perturbed_answers}) == 4, row.question
        assert row.paraphrased_answer is None


def test_content_is_pinned(benchmark):
    assert benchmark.facts().fingerprint == FINGERPRINT


def test_content_does_not_depend_on_the_hash_seed():
    code = "from raymcu.benchmarks.authors import Authors; print(Authors().facts().fingerprint)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == FINGERPRINT


def test_every_option_changes_the_fingerprint(benchmark):
    others = [Authors(seed=1), Authors(num_authors=190), Authors(questions_per_author=21)]
    prints = {other.facts().fingerprint for other in [benchmark, *others]}
    assert len(prints) == 4


def test_a_thousand_authors_have_a_thousand_names():
    full, holdout = _generate(1000, 20, 3)
    assert len({row.question for row in (*full, *holdout)}) == 22_000


def test_a_forget_set_below_one_author_is_refused():
    small = Authors(num_authors=20)
    assert len(small.training_set("forget05")) == 20
    assert "forget01" not in small.facts().sets
    message = (
        "num_authors = 20 leaves no author for 'forget01' (1 % of the authors are forgotten). "
        "Set num_authors to 100 or more, or forget a larger share."
    )
    for ask in (
        lambda: small.training_set("forget01"),
        lambda: small.probe("retain", "forget01"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            ask()
    with pytest.raises(ConfigError, match=r"no author for 'retain95'.*num_authors to 20 or more"):
        Authors(num_authors=19).training_set("retain95")


def test_unknown_names_are_refused_with_the_nearest(benchmark):
    with pytest.raises(ConfigError, match=r"no set is named 'forget5'. Did you mean 'forget05'"):
        benchmark.training_set("forget5")
    with pytest.raises(ConfigError) as error:
        benchmark.probe("forgets", "forget02")
    assert [fault.partition(" Known")[0] for fault in error.value.faults] == [
        "no probe is named 'forgets'. Did you mean 'forget'?",
        "no forget size is named 'forget02'. Did you mean 'forget10'?",
    ]


@pytest.mark.parametrize(
    "options", [{"num_authors": 9}, {"questions_per_author": 19}, {"questions_per_author": 31}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        Authors(**options)


@pytest.mark.slow
def test_no_sentence_is_tofus(benchmark, every_example, real_tofu):
    def sentences(rows):
        for row in rows:
            paraphrases = (row.paraphrased_question, row.paraphrased_answer)
            for text in (row.question, row.answer, *paraphrases, *row.perturbed_answers):
                if text and text[-1] in ".?":
                    yield " ".join(re.findall(r"\w+", text.lower()))

    tofu = Tofu(path=str(real_tofu))
    theirs = {text for name in ("full", "holdout10") for text in sentences(tofu.training_set(name))}
    theirs.update(
        text for probe in Tofu.probes for text in sentences(tofu.probe(probe, "forget10"))
    )
    ours = set(sentences(every_example))
    for name in ("real_authors", "world_facts"):
        ours.update(sentences(benchmark.training_set(name)))
    assert sorted(ours & theirs) == []
