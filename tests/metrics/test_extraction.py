"""Extraction strength and exact memorisation from hits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymcu.metrics._base import METRICS
from raymcu.metrics.extraction import (
    exact_memorization,
    extraction_strengths,
    extraction_strengths_ou,
)

patterns = st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def rows(request):
    """Return a function from hit patterns to rows of the forget probe."""
    builder = request.getfixturevalue("build")
    return lambda *hits: _rows(builder, hits)


def _rows(builder, patterns):
    made = builder()
    for example, hits in enumerate(patterns):
        made.add("forget", example, [-1.0] * len(hits), hits=hits)
    return made.measured().rows("forget")


def strength_by_open_unlearning(hits):
    """evals/metrics/memorization.py at d3d7cf9, transcribed: the last label goes first."""
    hits = hits[:-1]
    for k in range(len(hits)):
        if all(hits[k:]):
            break
    return 1 - k / len(hits) if hits else 0


def strength_by_definition(hits):
    shortest = next(k for k in range(len(hits) + 1) if all(hits[k:]))
    return 1 - shortest / len(hits) if hits else 0.0


@pytest.mark.parametrize(
    ("hits", "strength"),
    [([0, 1, 0, 1, 1], 0.4), ([0] * 5, 0.0), ([1] * 5, 1.0), ([1, 1, 1, 1, 0], 0.0), ([], 0.0)],
)
def test_strength_by_definition_known_answers(rows, hits, strength):
    assert extraction_strengths(rows(hits)).tolist() == pytest.approx([strength])


@pytest.mark.parametrize(
    ("hits", "strength"),
    [([0, 1, 0, 1, 1], 0.4), ([0] * 5, 0.2), ([1] * 5, 1.0), ([0, 0, 0, 0, 1], 0.2), ([], 0.0)],
)
@pytest.mark.parametrize("last", [0, 1])
def test_strength_of_open_unlearning_known_answers(rows, hits, strength, last):
    # reference.md E.2; the last label is dropped whatever it is, so these have one token more
    assert extraction_strengths_ou(rows([*hits, last])).tolist() == pytest.approx([strength])


@given(patterns)
def test_strengths_match_the_loops_they_replace(rows, patterns):
    found = rows(*patterns)
    definition = [strength_by_definition(hits) for hits in patterns]
    assert extraction_strengths(found).tolist() == pytest.approx(definition)
    variant = [strength_by_open_unlearning(hits) for hits in patterns]
    assert extraction_strengths_ou(found).tolist() == pytest.approx(variant)


@given(patterns)
def test_strength_never_exceeds_memorization_and_both_are_one_together(rows, patterns):
    found = rows(*patterns)
    strength, memorized = extraction_strengths(found), exact_memorization(found)
    assert (strength <= memorized + 1e-12).all()
    assert ((strength == 1.0) == (memorized == 1.0)).all()


def test_memorization_averages_answers_not_tokens(build):
    point = build().add("retain", 0, [-1.0] * 4, hits=[1, 0, 0, 0])
    point.add("retain", 1, [-1.0], hits=[1])
    assert METRICS["retain_em"].compute(point.measured(), None).value == pytest.approx(0.625)
