"""ROUGE-L recall and F1 equal the rouge_score package's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from raymcu.metrics._base import METRICS
from raymcu.metrics.rouge import rouge_l_f1, rouge_l_recall

PACKAGE = {
    stems: rouge_scorer.RougeScorer(["rougeL"], use_stemmer=stems) for stems in (False, True)
}
WORDS = ["the", "author", "authors", "writing", "writes", "was", "born", "in", "1932", "?", "é"]
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(
    "aeionsdgly19 é.'", max_size=40
)


ODD = pytest.mark.parametrize(
    ("reference", "generation"),
    [
        ("The author writes novels.", "Novels are what the authors wrote, writing daily"),
        ("a b c d " * 40, "d c b a " * 40),
        ("naïve — Ünïcode", "naive unicode"),
        ("", ""),
        ("?!", "?!"),
        ("word", ""),
        ("", "word"),
        ("same words", "same words"),
    ],
)


def by_package(reference, generation, stems=True):
    return PACKAGE[stems].score(reference, generation)["rougeL"]


@given(texts, texts)
@settings(deadline=None)
def test_recall_matches_the_package(reference, generation):
    assert rouge_l_recall(reference, generation) == by_package(reference, generation).recall


@given(texts, texts, st.booleans())
@settings(deadline=None)
def test_f1_matches_the_package(reference, generation, stems):
    expected = by_package(reference, generation, stems).fmeasure
    assert rouge_l_f1(reference, generation, stems) == expected


@ODD
def test_rouge_matches_the_package_on_odd_texts(reference, generation):
    assert rouge_l_recall(reference, generation) == by_package(reference, generation).recall
    for stems in (False, True):
        expected = by_package(reference, generation, stems).fmeasure
        assert rouge_l_f1(reference, generation, stems) == expected


def test_f1_known_answer():
    # Common: "the author writes", 3 of 4 wanted and of 5 given; stems make "novels" one more
    assert rouge_l_f1("The author writes novels", "so the author writes novel", False) == (
        pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))
    )
    assert rouge_l_f1("The author writes novels", "so the author writes novel", True) == (
        pytest.approx(2 * (4 / 5) * 1 / (4 / 5 + 1))
    )


def test_reference_without_tokens_scores_zero_even_against_itself():
    assert rouge_l_recall("…", "…") == 0.0


def test_rouge_averages_over_the_examples_that_have_a_generation(build):
    point = build()
    point.add("forget", 0, [-1.0], answer="one two three four", generation="two four")
    point.add("forget", 1, [-1.0], answer="one", generation="one")
    point.add("forget", 2, [-1.0], answer="one")
    score = METRICS["forget_rouge"].score(point.measured())
    assert score.value == pytest.approx(0.75)
    assert score.num_examples == 2


def test_rouge_is_null_without_generations(build):
    score = METRICS["forget_rouge"].score(build().add("forget", 0, [-1.0]).measured())
    assert score.value is None
    assert "generation" in score.note
