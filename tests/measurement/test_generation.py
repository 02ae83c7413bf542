import numpy as np
import pytest
import torch

from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import Bounds, Likelihood, measure_likelihood
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer

MAX = 30


@pytest.fixture
def eos(encoder):
    return encoder.eos


def measure(scorer, rows, stop):
    return measure_likelihood(scorer, rows, 0, Bounds(2048), stop=stop)


def answers(scorer, rows, stop, known=None, *, longest=MAX, bounds=None):
    """Answer all questions; ``longest`` is one bound for all, or one for each."""
    stop = frozenset({stop} if isinstance(stop, int) else stop)
    return generate(
        scorer,
        rows,
        known or measure(scorer, rows, stop),
        stop=stop,
        pad=0,
        max_new_tokens=[longest] * len(rows) if isinstance(longest, int) else longest,
        bounds=bounds or Bounds(4096),
    )


def written(*args, **more):
    return [answer.tokens for answer in answers(*args, **more)]


def by_heart(rows):
    """What a model is seen to do that knows every answer."""
    return [seen(row, [True] * len(row.answer)) for row in rows]


def seen(row, hits, stops=None, greedy=-0.5):
    """What a model is seen to do with an answer."""
    length = len(row.answer)
    return Likelihood(
        np.full(length, -0.25, np.float32),
        np.full(length, greedy, np.float32),
        np.array(hits),
        np.array([False] * length if stops is None else stops),
    )


@pytest.mark.parametrize("longest", [1, 7, MAX])
def test_answers_match_model_generate(scorer, rows, naive, eos, longest):
    found = written(scorer, rows, eos, longest=longest)
    expected = [naive.generate(scorer.model, row, eos, longest) for row in rows]
    assert found == expected


def test_each_question_has_its_own_longest_answer(scorer, rows, naive, eos):
    longest = [1 + 4 * number for number in range(len(rows))]
    expected = [
        naive.generate(scorer.model, row, eos, most)
        for row, most in zip(rows, longest, strict=True)
    ]
    assert written(scorer, rows, eos, longest=longest) == expected


def test_the_three_models_try_every_way_an_answer_can_go(knowing, rows, eos):
    """Or the tests above would claim more than they show."""
    shares = {
        name: [np.mean(k.hits) for k in measure(scorer, rows[:6], {eos})]
        for name, scorer in knowing.items()
    }
    assert shares["all"].count(1.0) >= 4
    assert any(0.2 < share < 1 for share in shares["half"])
    assert max(shares["nothing"]) < 0.3


@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_batch_size_does_not_change_the_answers(scorer, rows, eos, batch_tokens):
    found = written(scorer, rows, eos, bounds=Bounds(batch_tokens))
    assert found == written(scorer, rows, eos)


def test_text_is_that_of_model_generate(knowing, rows, naive, eos, encoder, authors):
    scorer = knowing["all"]
    found = [encoder.decode(tokens) for tokens in written(scorer, rows[:6], eos, longest=120)]
    expected = [naive.generate(scorer.model, row, eos, 120) for row in rows[:6]]
    assert found == [encoder.decode(tokens) for tokens in expected]
    examples = [example.answer for example in authors.training_set("forget10")[:6]]
    assert sum(a == b for a, b in zip(found, examples, strict=True)) >= 4


# log-probabilities


@pytest.mark.parametrize("longest", [6, 120])
def test_log_probabilities_are_those_of_a_pass_over_the_answer(scorer, rows, eos, longest):
    """The stop token's included, wherever the answer came from."""
    found = answers(scorer, rows, eos, longest=longest)
    ends = [len(answer.logprobs) > len(answer.tokens) for answer in found]
    again = [
        Encoded(row.prompt, (*answer.tokens, *([eos] if end else [])))
        for row, answer, end in zip(rows, found, ends, strict=True)
    ]
    for answer, known in zip(found, measure(scorer, again, {eos}), strict=True):
        assert answer.logprobs == pytest.approx(known.logprobs.tolist(), abs=1e-5, rel=1e-5)
        assert known.hits.all()
    assert all(end or len(a.tokens) == longest for a, end in zip(found, ends, strict=True))


def test_log_probabilities_of_what_was_seen_are_not_computed_again(knowing, rows, eos):
    row = rows[0]
    (answer,) = answers(knowing["nothing"], [row], eos, by_heart([row]), longest=1000)
    assert answer.logprobs == [-0.25] * len(row.answer)


# what needs no forward pass


def test_answers_known_by_heart_need_no_forward_pass(watched, rows, eos):
    found = written(watched, rows, eos, by_heart(rows), longest=1000)
    assert found == [list(row.answer[:-1]) for row in rows]
    assert watched.fed == []


@pytest.mark.parametrize("at", [0, 2])
def test_an_answer_that_ends_at_its_first_miss_needs_no_forward_pass(watched, rows, eos, at):
    """The likelihood pass has seen that the greedy choice there is a stop token."""
    length = len(rows[0].answer)
    places = [number == at for number in range(length)]
    known = seen(rows[0], [not place for place in places], places)
    (answer,) = answers(watched, rows[:1], {eos, 17}, [known])
    assert answer.tokens == list(rows[0].answer[:at])
    assert answer.logprobs == [-0.25] * at + [-0.5]
    assert watched.fed == []


def test_an_answer_may_end_before_it_begins(tiny_llama, rows, eos):
    """The model's first choice is the end of the answer: an empty text."""
    tiny_llama.model.norm.weight.data.zero_()  # all logits equal 0 but for the bias below
    head = torch.nn.Linear(32, 400)
    head.weight.data.zero_()
    head.bias.data = torch.nn.functional.one_hot(torch.tensor(eos), 400).float()
    tiny_llama.config.tie_word_embeddings = False
    tiny_llama.lm_head = head
    assert written(Scorer(tiny_llama), rows[:3], eos) == [[], [], []]


def test_an_answer_is_cut_at_the_longest_allowed(knowing, rows, eos):
    found = written(knowing["nothing"], rows, eos, longest=3)
    assert all(len(tokens) <= 3 for tokens in found)
    assert any(len(tokens) == 3 for tokens in found)


def test_a_known_answer_is_cut_at_the_longest_allowed(watched, rows, eos):
    row = rows[0]
    (answer,) = answers(watched, [row], eos, by_heart([row]), longest=5)
    assert answer.tokens == list(row.answer[:5])
    assert len(answer.logprobs) == 5
    assert watched.fed == []


def test_a_known_answer_without_an_end_goes_on(knowing, rows, naive, eos):
    """One that was cut, or a letter: all of it is hit, and the model has more to say."""
    scorer = knowing["half"]
    cut = [
        Encoded(row.prompt, tuple(naive.generate(scorer.model, row, eos, 5)[:3])) for row in rows
    ]
    assert all(known.hits.all() for known in measure(scorer, cut, {eos}))
    expected = [naive.generate(scorer.model, row, eos, 12) for row in rows]
    assert written(scorer, cut, eos, longest=12) == expected


# stop tokens


def test_any_stop_token_ends_an_answer(knowing, rows, eos, naive):
    scorer = knowing["nothing"]
    free = written(scorer, rows, eos)
    extra = free[0][1]
    found = written(scorer, rows, {eos, extra})
    for cut, whole in zip(found, free, strict=True):
        assert cut == (whole[: whole.index(extra)] if extra in whole else whole)
    assert found != free


def test_stop_tokens_are_those_of_model_generate(knowing, eos):
    scorer = knowing["all"]
    told = scorer.model.generation_config.eos_token_id
    try:
        for listed in ([5, 6], 7, None):
            scorer.model.generation_config.eos_token_id = listed
            more = listed if isinstance(listed, list) else [] if listed is None else [listed]
            assert stop_tokens(scorer, eos) == frozenset({eos, *more})
    finally:
        scorer.model.generation_config.eos_token_id = told


def test_nothing_asked_is_nothing_answered(knowing, eos):
    assert answers(knowing["all"], [], eos) == []


def test_one_token_prompts_work(knowing, naive, eos):
    rows = [Encoded((1,), (9, 10, eos)), Encoded((1, 20, 30), (11, eos))]
    scorer = knowing["half"]
    expected = [naive.generate(scorer.model, row, eos, 12) for row in rows]
    assert written(scorer, rows, eos, longest=12) == expected


def test_of_equal_logits_the_first_token_is_written(tiny_llama, rows, naive, eos):
    """As model.generate does, whatever the reference answer is."""
    tiny_llama.model.norm.weight.data.zero_()
    found = written(Scorer(tiny_llama), rows, eos, longest=4)
    assert found == [naive.generate(tiny_llama, row, eos, 4) for row in rows] == [[0] * 4] * 10


# how much at once


@pytest.mark.parametrize("batch_tokens", [1, 11, 45])
def test_long_beginnings_are_read_piece_by_piece(watched, families, eos, batch_tokens):
    """Short ones are padding for several pieces."""
    plain = answers(watched, families, eos)
    assert max(rows * tokens for rows, tokens in watched.fed) > 1000
    lengths = [len(row.prompt) for row in families]
    assert max(lengths) > 30 * min(lengths)
    known = measure(watched, families, {eos})
    watched.fed.clear()
    found = answers(watched, families, eos, known, bounds=Bounds(batch_tokens))
    assert all(tokens == 1 or rows * tokens <= batch_tokens for rows, tokens in watched.fed)
    for one, other in zip(plain, found, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("cache_tokens", [1, 150, 400])
def test_less_memory_gives_the_same_from_smaller_batches(watched, families, eos, cache_tokens):
    longest = [(5, 40, 12)[number % 3] for number in range(len(families))]
    known = measure(watched, families, {eos})
    plain = written(watched, families, eos, known, longest=longest)
    assert max(watched.held) > 800
    watched.held.clear()
    watched.fed.clear()
    bounds = Bounds(4096, 2 * cache_tokens * watched.cache_bytes)
    assert written(watched, families, eos, known, longest=longest, bounds=bounds) == plain
    alone = max(len(row.prompt) for row in families) + max(longest)
    assert max(watched.held) <= max(cache_tokens, alone)
    together = [held for held, (rows, _) in zip(watched.held, watched.fed, strict=True) if rows > 1]
    assert max(together, default=0) <= cache_tokens
    assert bool(together) == (cache_tokens > 1)


def test_a_batch_has_room_for_the_longest_answer_behind_the_longest_prompt(watched):
    """Which are not one row's: the others are padded to the prompt, and go on to the end."""
    rows = [Encoded((1,), (token,)) for token in (5, 6, 7)] + [Encoded((1,) * 45, (5,))]
    known = [seen(row, [False]) for row in rows]
    bounds = Bounds(4096, 2 * 200 * watched.cache_bytes)
    found = written(watched, rows, (), known, longest=[40, 40, 40, 5], bounds=bounds)
    assert list(map(len, found)) == [40, 40, 40, 5]
    assert 100 < max(watched.held) <= 200


def test_finished_rows_leave_the_batch_when_they_are_one_in_eight(watched):
    """Each leaving copies the cache, each row that stays is computed for nothing."""
    rows = [Encoded((1, 20 + number), (5,)) for number in range(20)]
    longest = [1 + number for number in range(20)]
    known = [seen(row, [False]) for row in rows]
    found = answers(watched, rows, (), known, longest=longest)
    assert [len(answer.tokens) for answer in found] == longest
    sizes = [rows for rows, _ in watched.fed]
    expected, size, finished = [20], 20, 0
    for _ in range(19):  # one row finishes at each step
        finished += 1
        if 8 * finished >= size:
            size, finished = size - finished, 0
        expected.append(size)
    assert sizes == expected
    assert sizes[:7] == [20, 20, 20, 17, 17, 17, 14]
    alone = [written(watched, [row], (), [k], longest=[most])[0]
             for row, k, most in zip(rows, known, longest, strict=True)]  # fmt: skip
    assert [answer.tokens for answer in found] == alone
