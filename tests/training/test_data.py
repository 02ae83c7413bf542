from collections import Counter

import numpy as np
import pytest

from raymcu.models.encoding import Encoded
from raymcu.training.data import Stream


def rows(count):
    """Sequences of unequal lengths."""
    return [Encoded((1,), tuple(range(2 + number % 5))) for number in range(count)]


def steps(stream, count):
    return [stream.step(number) for number in range(count)]


def make(forget=20, retain=180, batch_size=8, seed=0, **more):
    return Stream(rows(forget), rows(retain), batch_size, seed, **more)


@pytest.mark.parametrize("group_by_length", [False, True])
def test_same_seed_gives_the_same_steps_in_any_order_of_asking(group_by_length):
    one, other = (make(group_by_length=group_by_length) for _ in range(2))
    forwards = steps(one, 12)
    assert [other.step(number) for number in reversed(range(12))] == forwards[::-1]
    assert [one.position(n) for n in range(5)] == [other.position(n) for n in range(5)]


def test_seeds_and_epochs_differ():
    assert steps(make(seed=0), 3) != steps(make(seed=1), 3)
    found = steps(make(), 6)
    assert found[:3] != found[3:]


@pytest.mark.parametrize("group_by_length", [False, True])
def test_every_forget_row_comes_once_an_epoch(group_by_length):
    stream = make(group_by_length=group_by_length)
    assert stream.steps_per_epoch == 3
    for epoch in range(4):
        seen = [row for n in range(3) for row in stream.step(3 * epoch + n).forget]
        assert sorted(seen) == list(range(20))


def test_every_forget_row_has_one_retain_row():
    stream = make()
    found = steps(stream, 60)
    assert all(len(step.forget) == len(step.retain) for step in found)
    drawn = Counter(row for step in found for row in step.retain)
    assert set(drawn) <= set(range(180))
    assert len(drawn) > 120  # 400 draws of 180 with replacement reach about 161
    pairs = {(f, r) for step in found for f, r in zip(step.forget, step.retain, strict=True)}
    assert len(pairs) > 300  # partners change from epoch to epoch


def test_without_a_forget_set_the_retain_set_is_the_anchor():
    stream = Stream([], rows(10), 4, 0)
    found = steps(stream, 3)
    assert [step.forget for step in found] == [(), (), ()]
    assert sorted(row for step in found for row in step.retain) == list(range(10))


def test_grouping_by_length_batches_like_lengths():
    def spread(stream):
        lengths = [[len(stream.forget[row]) for row in step.forget] for step in steps(stream, 25)]
        return sum(max(row) - min(row) for row in lengths)

    assert spread(make(200, group_by_length=True)) < spread(make(200)) / 4


def test_positions_are_uniform():
    stream = make()
    drawn = np.array([stream.position(number) for number in range(2000)])
    assert ((drawn > 0) & (drawn < 1)).all()
    assert np.histogram(drawn, 4, (0, 1))[0] == pytest.approx([500] * 4, rel=0.15)
