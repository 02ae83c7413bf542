"""Which tokens are fed: by hand, and on random rows."""

import random

import pytest

from raymcu.measurement.sharing import batches, packs
from raymcu.models.encoding import Encoded

LONG = tuple(range(100, 140))
"""A context of 40 tokens."""


def random_rows(seed):
    """Rows with every kind of sharing, with answers of 1 to 9 tokens; some of them twice."""
    draw = random.Random(seed)
    beginnings = [(), (1,), (1, 2, 3), LONG, (*LONG, 7), tuple(range(50))]
    rows = []
    for _ in range(60):
        prompt = (*draw.choice(beginnings), *draw.choices(range(3), k=draw.randint(1, 4)))
        for _ in range(draw.randint(1, 4)):
            rows.append(Encoded(prompt, tuple(draw.choices(range(5), k=draw.choice((1, 1, 5, 9))))))
    return rows


def fed(row):
    """Return what a row is fed: all but its last token."""
    return row.prompt + row.answer[:-1]


def beginning(pack, at):
    """Return the places that are seen from one."""
    return [place for place in range(at + 1) if at < pack.end[place]]


def read(pack, at):
    """Return the tokens that are seen from a place."""
    return tuple(pack.tokens[beginning(pack, at)].tolist())


def one_pack(*rows):
    """Return the only pack of a few rows."""
    (pack,) = packs([Encoded(*row) for row in rows], 1000)
    return pack


# packs


def test_packs_by_hand():
    """1 2 7 8 and 1 2 7 and 1 3 are fed as 1 2 7 8 3."""
    pack = one_pack(((1, 2), (7, 8, 9)), ((1, 3), (4,)), ((1, 2), (7, 5)))
    assert pack.tokens.tolist() == [1, 2, 7, 8, 3]
    assert pack.depth.tolist() == [0, 1, 2, 3, 1]
    assert pack.end.tolist() == [5, 4, 4, 4, 5]
    places = {row: places.tolist() for row, places in pack.rows}
    assert places == {
        Encoded((1, 2), (7, 8, 9)): [1, 2, 3],
        Encoded((1, 2), (7, 5)): [1, 2],
        Encoded((1, 3), (4,)): [4],
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0, 1, 30, 60, 300, 10**6])
def test_every_row_is_predicted_from_its_own_tokens(seed, size):
    rows = random_rows(seed)
    assert len(set(rows)) < len(rows)
    found = [(pack, *one) for pack in packs(rows, size) for one in pack.rows]
    assert len(found) == len(set(rows))
    assert {row for _, row, _ in found} == set(rows)
    for pack, row, places in found:
        expected = [row.prompt + row.answer[:known] for known in range(len(row.answer))]
        assert [read(pack, at) for at in places] == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 30, 60, 300, 10**6])
def test_a_pack_has_every_beginning_once_and_nothing_else(seed, size):
    for pack in packs(random_rows(seed), size):
        held = [read(pack, at) for at in range(len(pack))]
        inputs = [fed(row) for row, _ in pack.rows]
        needed = {tokens[:length] for tokens in inputs for length in range(1, len(tokens) + 1)}
        assert len(held) == len(needed)
        assert set(held) == needed
        assert pack.depth.tolist() == [len(tokens) - 1 for tokens in held]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 30, 60, 300, 10**6])
def test_a_pack_is_within_its_size_unless_it_is_one_input(seed, size):
    made = list(packs(random_rows(seed), size))
    assert (len(made) == 1) == (size == 10**6)
    for pack, following in zip(made, [*made[1:], None], strict=True):
        assert len(pack) <= size or len({fed(row) for row, _ in pack.rows}) == 1
        if following:  # and its first row did not fit
            tokens = fed(following.rows[0][0])
            held = {read(pack, at) for at in range(len(pack))}
            new = [n for n in range(1, len(tokens) + 1) if tokens[:n] not in held]
            assert len(pack) + len(new) > size


@pytest.mark.parametrize("seed", range(3))
def test_a_pack_of_no_size_is_one_input(seed):
    rows = random_rows(seed)
    made = list(packs(rows, 0))
    assert len(made) == len({fed(row) for row in rows})
    for pack in made:
        length = len(pack)
        assert pack.depth.tolist() == list(range(length))
        assert pack.end.tolist() == [length] * length
        for row, places in pack.rows:
            assert tuple(pack.tokens.tolist()) == fed(row)
            assert places.tolist() == list(range(len(row.prompt) - 1, length))


def test_no_rows_make_no_pack():
    assert list(packs([], 100)) == []


def test_a_row_alone_is_fed_but_for_its_last_token():
    pack = one_pack(((1, 2, 3), (7, 8, 9)))
    assert pack.tokens.tolist() == [1, 2, 3, 7, 8]
    assert pack.rows[0][1].tolist() == [2, 3, 4]


def test_equal_rows_are_fed_once():
    row = ((1, 2, 3), (7, 8))
    assert len(one_pack(row, row, row).rows) == 1


def test_answers_of_one_token_are_one_input():
    """The letters of a multiple-choice question: one state predicts them all."""
    pack = one_pack(*(((1, 2, 3), (letter,)) for letter in (7, 8, 9, 10)))
    assert pack.tokens.tolist() == [1, 2, 3]
    assert [places.tolist() for _, places in pack.rows] == [[2]] * 4


def test_answers_that_differ_in_the_last_token_alone_are_one_input():
    pack = one_pack(((1, 2), (7, 8, 9)), ((1, 2), (7, 8, 2)))
    assert pack.tokens.tolist() == [1, 2, 7, 8]


def test_answers_share_their_own_beginning():
    pack = one_pack(((1, 2), (7, 8, 9, 4)), ((1, 2), (7, 8, 5, 4)))
    assert pack.tokens.tolist() == [1, 2, 7, 8, 5, 9]
    assert [places.tolist() for _, places in pack.rows] == [[1, 2, 3, 4], [1, 2, 3, 5]]


def test_equal_tokens_are_one_input_wherever_the_answer_begins():
    pack = one_pack(((1, 2), (3, 4, 5)), ((1, 2, 3), (4, 5)))
    assert pack.tokens.tolist() == [1, 2, 3, 4]
    assert [places.tolist() for _, places in pack.rows] == [[1, 2, 3], [2, 3]]


def test_a_row_that_begins_another_adds_nothing():
    pack = one_pack(((1, 2, 3, 4), (5, 6)), ((1, 2), (3, 9)), ((1,), (2,)))
    assert pack.tokens.tolist() == [1, 2, 3, 4, 5]
    assert {row.prompt: places.tolist() for row, places in pack.rows} == {
        (1, 2, 3, 4): [3, 4],
        (1, 2): [1, 2],
        (1,): [0],
    }


def test_prompts_of_one_token_are_shared():
    pack = one_pack(((1,), (7, 8)), ((1,), (9, 8)), ((1,), (5,)), ((2,), (7, 8)))
    assert pack.tokens.tolist() == [1, 7, 9, 2, 7]
    assert pack.end.tolist() == [3, 2, 3, 5, 5]


def test_a_context_is_shared_by_the_questions_behind_it():
    rows = [((*LONG, 1, n), (7, 8)) for n in (1, 2)] + [
        ((*LONG, 5), (letter,)) for letter in (7, 8)
    ]
    pack = one_pack(*rows)
    assert pack.tokens.tolist() == [*LONG, 1, 1, 7, 2, 7, 5]
    assert pack.depth.tolist() == [*range(40), 40, 41, 42, 41, 42, 40]


def test_two_contexts_are_shared_each_by_its_own():
    pack = one_pack(*(((*start, *LONG, n), (7,)) for start in ((1,), (2,)) for n in (1, 2)))
    assert pack.tokens.tolist() == [1, *LONG, 1, 2, 2, *LONG, 1, 2]


def test_a_beginning_is_fed_again_in_another_pack():
    rows = [Encoded((1, 2, n), (7,)) for n in range(3, 8)]
    made = list(packs(rows, 4))
    assert [pack.tokens.tolist() for pack in made] == [[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 7]]


# batches


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_tokens", [1, 60, 200, 10**6])
def test_every_pack_is_in_one_batch_and_batches_are_within_the_bound(seed, batch_tokens):
    made = list(packs(random_rows(seed), 50))
    seen = []
    for batch in batches(made, batch_tokens):
        longest = max(map(len, batch))
        assert len(batch[0]) == longest
        assert len(batch) == 1 or len(batch) * longest <= batch_tokens
        seen += batch
    assert sorted(map(id, seen)) == sorted(map(id, made))


def test_batches_are_as_large_as_they_may_be():
    rows = [Encoded((n, 2, 3), (7, 8, 9)) for n in range(10)]
    made = list(packs(rows, 0))  # five tokens each
    assert [len(batch) for batch in batches(made, 20)] == [4, 4, 2]
    assert [len(batch) for batch in batches(made, 19)] == [3, 3, 3, 1]
    assert [len(batch) for batch in batches(made, 4)] == [1] * 10
    assert list(batches([], 20)) == []


def test_packs_of_like_length_are_in_one_batch():
    lengths = (3, 9, 3, 8, 3, 3)
    made = list(packs([Encoded((n,) * length, (7,)) for n, length in enumerate(lengths)], 0))
    found = [[len(pack) for pack in batch] for batch in batches(made, 18)]
    assert found == [[9, 8], [3, 3, 3, 3]]
