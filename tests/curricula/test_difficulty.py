"""Order and pacing of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raymcu.curricula._base import CURRICULA

Difficulty = CURRICULA["difficulty"]


def random():
    return np.random.default_rng(0)


def test_rows_are_ordered_and_equals_keep_their_place():
    difficulty = np.array([3.0, 1.0, 2.0, 1.0, 3.0])
    assert Difficulty().order(difficulty).tolist() == [1, 3, 2, 0, 4]
    assert Difficulty(direction="descending").order(difficulty).tolist() == [0, 4, 2, 1, 3]


def test_lengths_are_ordered_as_numbers_are():
    lengths = np.array([7, 200, 30], dtype=np.uint8)
    assert Difficulty(direction="descending").order(lengths).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0, 20), (0.125, 40), (0.25, 60), (0.4999, 100), (0.5, 100), (1, 100)],
)
def test_the_pool_grows_linearly(progress, expected):
    assert Difficulty(start=0.2, reach=0.5).available(progress, 100) == expected


def test_all_rows_are_available_by_default_and_with_nothing_to_reach():
    assert Difficulty().available(0, 7) == 7
    assert Difficulty(start=0.1, reach=0).available(0, 7) == 7


def test_some_row_is_always_available():
    assert Difficulty(start=0.01).available(0, 3) == 1


@given(
    start=st.floats(0.001, 1),
    reach=st.floats(0, 1),
    count=st.integers(1, 5000),
    steps=st.lists(st.floats(0, 1), min_size=2).map(sorted),
)
def test_the_pool_never_shrinks_and_is_whole_in_time(start, reach, count, steps):
    curriculum = Difficulty(start=start, reach=reach)
    found = [curriculum.available(progress, count) for progress in steps]
    assert found == sorted(found)
    assert all(1 <= number <= count for number in found)
    assert curriculum.available(reach, count) == count


def test_an_epoch_of_all_rows_is_their_order():
    ordered = np.array([4, 2, 0, 1, 3])
    assert Difficulty().epoch(ordered, 0.0, 5, random()).tolist() == ordered.tolist()


def test_a_small_pool_is_passed_over_in_order_until_the_epoch_is_full():
    ordered = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    curriculum = Difficulty(start=0.3)
    assert curriculum.epoch(ordered, 0.0, 9, random()).tolist() == [9, 8, 7] * 3
    found = curriculum.epoch(ordered, 0.0, 11, random()).tolist()
    assert found[:9] == [9, 8, 7] * 3
    assert found[9:] in ([9, 8], [9, 7], [8, 7])


def test_an_unfinished_pass_is_drawn_from_the_whole_pool():
    ordered = np.arange(10)
    generator = random()
    drawn = {row for _ in range(100) for row in Difficulty().epoch(ordered, 1.0, 3, generator)}
    assert drawn == set(range(10))
    same = [Difficulty().epoch(ordered, 1.0, 13, random()).tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert same[0][10:] == sorted(same[0][10:])


@pytest.mark.parametrize("fault", [{"start": 0}, {"start": 1.1}, {"reach": -0.1}, {"by": "words"}])
def test_values_out_of_range_are_refused(fault):
    with pytest.raises(ValidationError):
        Difficulty(**fault)
