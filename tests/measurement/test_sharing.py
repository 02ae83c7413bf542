"""Which tokens are fed: by hand, and on random rows."""

import random

import pytest

from raymcu.measurement.sharing import groups, inputs_of
from raymcu.models import Encoded

LONG = tuple(range(100, 140))
"""A context of 40 tokens."""


def one_input(prompt, answer, rows):
    return inputs_of(rows)[Encoded(tuple(prompt), tuple(answer))]


def random_rows(seed):
    """Rows with every kind of sharing, with answers of 1 to 9 tokens."""
    draw = random.Random(seed)
    beginnings = [(), (1,), (1, 2, 3), LONG, (*LONG, 7), tuple(range(50))]
    rows = []
    for _ in range(60):
        prompt = (*draw.choice(beginnings), *draw.choices(range(3), k=draw.randint(1, 4)))
        for _ in range(draw.randint(1, 4)):
            rows.append(Encoded(prompt, tuple(draw.choices(range(5), k=draw.choice((1, 1, 5, 9))))))
    return rows


# inputs


def test_a_row_alone_is_fed_but_for_its_last_token():
    row = Encoded((1, 2, 3), (7, 8, 9))
    found = inputs_of([row])[row]
    assert (found.tokens, found.start, found.prefix) == ((1, 2, 3, 7, 8), 3, 0)
    assert found.tail == found.tokens
    assert found.num_states == len(row.answer)


def test_answers_of_one_token_are_one_input():
    """The letters of a multiple-choice question: its state predicts them all."""
    rows = [Encoded((1, 2, 3), (letter,)) for letter in (7, 8, 9, 10)]
    found = list(inputs_of([*rows, rows[0]]).values())
    assert len(found) == 4
    assert all(one is found[0] for one in found)
    assert (found[0].tokens, found[0].prefix, found[0].num_states) == ((1, 2, 3), 0, 1)


def test_answers_that_differ_in_the_last_token_alone_are_one_input():
    rows = [Encoded((1, 2), (7, 8, 9)), Encoded((1, 2), (7, 8, 2))]
    assert len(set(inputs_of(rows).values())) == 1


def test_equal_tokens_are_two_inputs_where_the_answer_begins_elsewhere():
    rows = [Encoded((1, 2), (3, 4, 5)), Encoded((1, 2, 3), (4, 5))]
    found = inputs_of(rows)
    assert [found[row].tokens for row in rows] == [(1, 2, 3, 4)] * 2
    assert [found[row].num_states for row in rows] == [3, 2]


def test_a_prompt_is_shared_by_its_answers_but_for_its_last_token():
    rows = [Encoded((1, 2, 3), (7, 8)), Encoded((1, 2, 3), (9, 8, 7)), Encoded((1, 2, 4), (7, 8))]
    found = inputs_of(rows)
    assert [found[row].prefix for row in rows] == [2, 2, 0]
    assert [found[row].tail for row in rows] == [(3, 7), (3, 9, 8), (1, 2, 4, 7)]


def test_prompts_of_one_token_share_nothing():
    found = inputs_of([Encoded((1,), (7, 8)), Encoded((1,), (9, 8)), Encoded((1,), (5,))])
    assert {one.prefix for one in found.values()} == {0}


def test_a_long_context_is_shared_by_the_prompts_behind_it():
    rows = [Encoded((*LONG, 1, 2, n), (7, 8)) for n in (1, 2)] + [Encoded((*LONG, 5), (7,))]
    assert {one.prefix for one in inputs_of(rows).values()} == {40}


def test_a_context_with_letters_to_choose_from_is_shared():
    prompts = [(*LONG, 1, 2), (*LONG, 3, 4, 5)]
    found = inputs_of([Encoded(prompt, (letter,)) for prompt in prompts for letter in (7, 8, 9)])
    assert {(one.tokens, one.prefix) for one in found.values()} == {(p, 40) for p in prompts}


def test_a_prompt_that_another_begins_with_keeps_its_last_token():
    rows = [Encoded(LONG, (7, 8)), Encoded((*LONG, 5, 6), (7, 8))]
    found = inputs_of(rows)
    assert [found[row].prefix for row in rows] == [39, 39]
    assert [found[row].num_states for row in rows] == [2, 2]


@pytest.mark.parametrize(("length", "prefix"), [(31, 0), (32, 32)])
def test_a_turn_of_phrase_is_not_a_context(length, prefix):
    rows = [Encoded((*LONG[:length], n, n, n), (7, 8)) for n in (1, 2)]
    assert {one.prefix for one in inputs_of(rows).values()} == {prefix}


def test_two_contexts_are_shared_each_by_its_own():
    other = (99, *LONG, 98)
    prompts = [(*context, n) for context in (LONG, other) for n in (1, 2)]
    found = inputs_of([Encoded(prompt, (7, 8)) for prompt in prompts])
    assert [one.prefix for one in found.values()] == [40, 40, 42, 42]


# groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bounds", [(1, 1), (60, 10**6), (10**6, 200), (300, 300), (10**6, 10**6)])
def test_every_input_is_in_one_batch_and_batches_are_within_the_bounds(seed, bounds):
    batch_tokens, cache_tokens = bounds
    of_row = inputs_of(random_rows(seed))
    inputs = set(of_row.values())
    assert len(inputs) < len(of_row)
    assert len({one.prefix for one in inputs}) > 4
    seen = []
    for group in groups(of_row.values(), batch_tokens, cache_tokens):
        members = [one for batch in group.batches for one in batch]
        seen += members
        (length,) = {one.prefix for one in members}
        prefixes = {one.tokens[:length] for one in members} if length else set()
        assert sorted(group.prefixes) == sorted(prefixes)
        if len(group.prefixes) > 1:
            assert len(group.prefixes) * length <= min(bounds)
        for batch in group.batches:
            longest = max(len(one.tail) for one in batch)
            assert len(batch[0].tail) == longest
            if len(batch) > 1:
                assert len(batch) * longest <= batch_tokens
                assert not length or len(batch) * (length + longest) <= cache_tokens
    assert len(seen) == len(inputs)
    assert set(seen) == inputs


def test_prompts_of_one_length_are_in_one_group():
    rows = [Encoded((1, n, 3), (7, k, 9)) for n in range(4) for k in range(3)]
    rows += [Encoded((1, 2), (7, k, 9)) for k in range(3)] + [Encoded((5, 5, 5), (1, 2))]
    found = list(groups(inputs_of(rows).values(), 100, 10**6))
    assert [(len(g.prefixes), sum(map(len, g.batches))) for g in found] == [(4, 12), (1, 3), (0, 1)]
    assert [len(g.batches) for g in found] == [1, 1, 1]


def test_batches_are_as_large_as_they_may_be():
    rows = [Encoded((n, 2, 3), (7, 8, 9)) for n in range(10)]
    (group,) = groups(inputs_of(rows).values(), 20, 1)  # five tokens each; no cache is needed
    assert [len(batch) for batch in group.batches] == [4, 4, 2]
    shared = [Encoded((1, 2, 3), (7, n, 9)) for n in range(10)]
    (group,) = groups(inputs_of(shared).values(), 10**6, 20)  # five tokens each in the cache
    assert [len(batch) for batch in group.batches] == [4, 4, 2]
