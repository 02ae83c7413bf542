import numpy as np
import pytest
import torch

from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import Likelihood, measure_likelihood
from raymcu.models import Encoded, Scorer

MAX = 30


@pytest.fixture
def eos(encoder):
    return encoder.eos


def answers(scorer, rows, eos, known=None, **more):
    known = known or measure_likelihood(scorer, rows, 0, 2048)
    bounds = {"max_new_tokens": MAX, "batch_tokens": 4096, **more}
    return generate(scorer, rows, known, stop=frozenset({eos}), pad=0, **bounds)


@pytest.mark.parametrize("max_new_tokens", [1, 7, MAX])
def test_answers_match_model_generate(scorer, rows, naive, eos, max_new_tokens):
    found = answers(scorer, rows, eos, max_new_tokens=max_new_tokens)
    expected = [naive.generate(scorer.model, row, eos, max_new_tokens) for row in rows]
    assert found == expected


def test_the_three_models_try_every_way_an_answer_can_go(knowing, rows):
    """Or the test above would claim more than it shows."""
    shares = {
        name: [np.mean(k.hits) for k in measure_likelihood(scorer, rows[:6], 0, 2048)]
        for name, scorer in knowing.items()
    }
    assert shares["all"].count(1.0) >= 4
    assert any(0.2 < share < 1 for share in shares["half"])
    assert max(shares["nothing"]) < 0.3


@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_batch_size_does_not_change_the_answers(scorer, rows, eos, batch_tokens):
    assert answers(scorer, rows, eos, batch_tokens=batch_tokens) == answers(scorer, rows, eos)


def test_text_is_that_of_model_generate(knowing, rows, naive, eos, encoder, authors):
    scorer = knowing["all"]
    found = [
        encoder.decode(tokens) for tokens in answers(scorer, rows[:6], eos, max_new_tokens=120)
    ]
    expected = [naive.generate(scorer.model, row, eos, 120) for row in rows[:6]]
    assert found == [encoder.decode(tokens) for tokens in expected]
    written = [example.answer for example in authors.training_set("forget10")[:6]]
    assert sum(a == b for a, b in zip(found, written, strict=True)) >= 4


def test_answers_known_by_heart_need_no_forward_pass(knowing, rows, eos):
    scorer = knowing["nothing"]
    calls = []
    handle = scorer.model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    known = [
        Likelihood(np.zeros(len(r.answer)), np.array(r.answer), np.ones(len(r.answer), bool))
        for r in rows
    ]
    found = answers(scorer, rows, eos, known, max_new_tokens=1000)
    handle.remove()
    assert found == [list(row.answer[:-1]) for row in rows]
    assert calls == []


def test_an_answer_may_end_before_it_begins(tiny_llama, rows, eos):
    """The model's first choice is the end of the answer: an empty text."""
    tiny_llama.model.norm.weight.data.zero_()  # all logits equal 0 but for the bias below
    head = torch.nn.Linear(32, 400)
    head.weight.data.zero_()
    head.bias.data = torch.nn.functional.one_hot(torch.tensor(eos), 400).float()
    tiny_llama.config.tie_word_embeddings = False
    tiny_llama.lm_head = head
    assert answers(Scorer(tiny_llama), rows[:3], eos) == [[], [], []]


def test_an_answer_is_cut_at_the_longest_allowed(knowing, rows, eos):
    found = answers(knowing["nothing"], rows, eos, max_new_tokens=3)
    assert all(len(tokens) <= 3 for tokens in found)
    assert any(len(tokens) == 3 for tokens in found)


def test_a_known_answer_is_cut_at_the_longest_allowed(knowing, rows, eos):
    row = rows[0]
    length = len(row.answer)
    known = Likelihood(np.zeros(length), np.array(row.answer), np.ones(length, bool))
    found = answers(knowing["all"], [row], eos, [known], max_new_tokens=5)
    assert found == [list(row.answer[:5])]


def test_any_stop_token_ends_an_answer(knowing, rows, eos, naive):
    scorer = knowing["nothing"]
    free = answers(scorer, rows, eos)
    extra = free[0][1]
    known = measure_likelihood(scorer, rows, 0, 2048)
    found = generate(
        scorer,
        rows,
        known,
        stop=frozenset({eos, extra}),
        pad=0,
        max_new_tokens=MAX,
        batch_tokens=4096,
    )
    for cut, whole in zip(found, free, strict=True):
        assert cut == whole[: whole.index(extra)] if extra in whole else cut == whole


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
    assert (
        generate(
            knowing["all"], [], [], stop=frozenset({eos}), pad=0, max_new_tokens=5, batch_tokens=64
        )
        == []
    )


def test_one_token_prompts_work(knowing, naive, eos):
    rows = [Encoded((1,), (9, 10, eos)), Encoded((1, 20, 30), (11, eos))]
    scorer = knowing["half"]
    expected = [naive.generate(scorer.model, row, eos, 12) for row in rows]
    assert answers(scorer, rows, eos, max_new_tokens=12) == expected
