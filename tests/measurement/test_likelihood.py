import math
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from raymcu.measurement import likelihood
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer


def measure(scorer, rows, batch_tokens=512, **more):
    return measure_likelihood(scorer, rows, 0, Bounds(batch_tokens), **more)


def check(found, row, logprobs, stop=()):
    """Compare with the log p of every token at each position, all positions at once."""
    choices = logprobs.argmax(-1).tolist()
    own = logprobs[range(len(row.answer)), row.answer]
    assert found.logprobs.dtype == found.greedy_logprobs.dtype == np.float32
    assert found.logprobs == pytest.approx(own.tolist(), abs=1e-5, rel=1e-5)
    assert found.greedy_logprobs == pytest.approx(logprobs.amax(-1).tolist(), abs=1e-5, rel=1e-5)
    assert found.hits.dtype == found.stops.dtype == np.bool_
    assert found.hits.tolist() == [c == t for c, t in zip(choices, row.answer, strict=True)]
    assert found.stops.tolist() == [choice in stop for choice in choices]


def equal(one, other):
    """Compare two results of the same rows."""
    for a, b in zip(one, other, strict=True):
        for name in ("logprobs", "greedy_logprobs"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-5, rel=1e-5)
        assert (a.hits.tolist(), a.stops.tolist()) == (b.hits.tolist(), b.stops.tolist())
        assert (a.moments is None) == (b.moments is None)
        if a.moments is not None:
            assert a.moments == pytest.approx(b.moments, abs=1e-5, rel=1e-5)


def test_likelihood_matches_full_logits_row_by_row(scorer, rows, naive, encoder):
    found = measure(scorer, rows, stop={encoder.eos})
    assert len({len(row.answer) for row in rows}) > 3
    for row, known in zip(rows, found, strict=True):
        check(known, row, naive.every_logprob(scorer.model, row), {encoder.eos})
        assert known.moments is None


@pytest.mark.parametrize("batch_tokens", [1, 150, 4096])
def test_shared_beginnings_do_not_change_the_result(scorer, families, naive, encoder, batch_tokens):
    found = measure(scorer, families, batch_tokens, stop={encoder.eos})
    for row, known in zip(families, found, strict=True):
        check(known, row, naive.every_logprob(scorer.model, row), {encoder.eos})


def test_what_is_shared_is_fed_once(watched, families):
    """Or the test above would claim more than it shows."""
    measure(watched, families, 4096)
    assert sum(packs * tokens for packs, tokens in watched.trees) < 0.5 * sum(map(len, families))
    assert watched.alone == watched.fed == []


def test_logits_are_made_once_for_all_answers_with_the_same_beginning(watched, families):
    sharing = families[:12]
    measure(watched, sharing, 4096)
    states = {(*row.prompt, *row.answer[:n]) for row in sharing for n in range(len(row.answer))}
    assert sum(watched.positions) == len(states) < 0.9 * sum(len(row.answer) for row in sharing)


@pytest.mark.parametrize("batch_tokens", [1, 64, 300, 10**6])
def test_batch_size_does_not_change_the_result(scorer, rows, encoder, batch_tokens):
    more = {"stop": {encoder.eos}, "moments": rows[2:5]}
    equal(measure(scorer, rows, **more), measure(scorer, rows, batch_tokens, **more))


def test_padding_token_does_not_matter(knowing, families):
    one, other = (measure_likelihood(knowing["half"], families, pad, Bounds(512)) for pad in (0, 9))
    assert all(np.array_equal(a.logprobs, b.logprobs) for a, b in zip(one, other, strict=True))


def test_equal_rows_are_scored_alike_and_order_is_kept(knowing, rows):
    scorer = knowing["half"]
    asked = [rows[3], rows[0], rows[3]]
    found = measure(scorer, asked)
    alone = measure(scorer, [rows[3]])[0]
    assert found[0] is found[2]
    assert found[0].logprobs == pytest.approx(alone.logprobs, abs=2e-6)
    assert len(found[1].hits) == len(rows[0].answer)


def test_no_rows_have_no_likelihood(knowing):
    assert measure(knowing["half"], []) == []


# forced ties, stops


class Told(Scorer):
    """Has the same logits at every position."""

    def __init__(self, model, logits):
        super().__init__(model)
        self.told = torch.as_tensor(logits, dtype=torch.float32)

    def logits(self, hidden, head=None):
        return self.told.expand(len(hidden), -1).clone()


def told(model, high, height=0.0, low=0.0):
    """A model that gives some tokens one logit, all others another."""
    logits = torch.full((400,), low)
    logits[list(high)] = height
    return Told(model, logits)


def test_of_equal_logits_the_first_is_the_choice(tiny_llama, rows):
    """All tokens are as likely: a model that knows nothing must not seem to know every answer."""
    asked = [*rows, Encoded((1, 5), (0, 7, 0))]
    found = measure(told(tiny_llama, ()), asked, stop={2})
    for row, known in zip(asked, found, strict=True):
        assert known.logprobs == pytest.approx([-math.log(400)] * len(row.answer), rel=1e-6)
        assert known.hits.tolist() == [token == 0 for token in row.answer]
        assert not known.stops.any()
    assert found[-1].hits.tolist() == [True, False, True]


@pytest.mark.parametrize("height", [0.1, 5.0, 50.0, 1e4])
def test_of_two_likeliest_tokens_the_first_is_the_choice(tiny_llama, height):
    """With half of the probability each, or less."""
    row = Encoded((1, 5), (40, 41, 7))
    scorer = told(tiny_llama, (40, 41), height)
    (first,) = measure(scorer, [row], stop={40})
    (second,) = measure(scorer, [row], stop={41})
    assert first.hits.tolist() == second.hits.tolist() == [True, False, False]
    assert first.stops.tolist() == [True] * 3
    assert second.stops.tolist() == [False] * 3
    assert first.logprobs[0] == first.logprobs[1] == first.greedy_logprobs[2]


def test_a_head_without_weights_hits_what_argmax_hits(tiny_llama, rows):
    tiny_llama.config.tie_word_embeddings = False
    tiny_llama.lm_head = torch.nn.Linear(32, 400, bias=False)
    tiny_llama.lm_head.weight.data.zero_()
    for row, known in zip(rows, measure(Scorer(tiny_llama), rows), strict=True):
        assert known.hits.tolist() == [token == 0 for token in row.answer]


def test_stops_are_where_the_choice_is_any_stop_token(scorer, rows, naive):
    """Whatever the answer's own token is."""
    choices = [naive.logprobs(scorer.model, row)[1] for row in rows]
    often = [
        token for token, _ in Counter(token for row in choices for token in row).most_common(2)
    ]
    found = measure(scorer, rows, stop=often)
    assert [known.stops.tolist() for known in found] == [
        [choice in often for choice in row] for row in choices
    ]
    assert sum(known.stops.sum() for known in found) > 10
    assert not any(known.stops.any() for known in measure(scorer, rows))


# moments


def in_full(logprobs):
    """Return mean and deviation of log p under p from every log p, in float64."""
    logprobs = logprobs.double()
    mean = (logprobs.exp() * logprobs).sum(-1, keepdim=True)
    variance = (logprobs.exp() * (logprobs - mean).square()).sum(-1, keepdim=True)
    return torch.cat([mean, variance.sqrt()], dim=-1).T.numpy()


def test_moments_match_float64(scorer, families, naive):
    asked = families[::2]
    found = measure(scorer, families, moments=asked)
    for row, known in zip(families, found, strict=True):
        assert (known.moments is None) == (row not in asked)
        if known.moments is not None:
            assert known.moments.dtype == np.float32
            expected = in_full(naive.every_logprob(scorer.model, row))
            assert known.moments == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_moments_change_nothing_else(scorer, families):
    plain, asked = measure(scorer, families), measure(scorer, families, moments=families)
    for one, other in zip(plain, asked, strict=True):
        for name in ("logprobs", "greedy_logprobs", "hits", "stops"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("logits", "mean", "deviation"),
    [
        ([3.0, 3.0, 3.0, 3.0], -math.log(4), 0.0),  # constant logits
        ([math.log(3), 0.0], 0.75 * math.log(0.75) + 0.25 * math.log(0.25), None),
        ([1e4, 0.0, 0.0], 0.0, 0.0),  # a certain token; the others' log p is -10,000
        ([0.0, -1e30, 1e30], 0.0, 0.0),
        ([0.0, 0.0, -1e30], -math.log(2), 0.0),
        ([0.0, 0.0, -math.inf], -math.log(2), 0.0),  # tokens that are never said
        ([2.0, -math.inf, -math.inf], 0.0, 0.0),
        ([-3e38, 3e38], 0.0, 0.0),
    ],
)
def test_moments_by_hand(tiny_llama, logits, mean, deviation):
    """Of p = (3/4, 1/4) the deviation is |log p₁ - log p₂| · (3/16)^½ = log 3 · 3^½ / 4."""
    scorer = Told(tiny_llama, logits)
    scorer.model.lm_head = torch.nn.Linear(32, len(logits))
    row = Encoded((1, 5), (max(range(len(logits)), key=logits.__getitem__),) * 2)
    (known,) = measure(scorer, [row], moments=[row])
    expected = math.log(3) * math.sqrt(3) / 4 if deviation is None else deviation
    assert known.moments == pytest.approx(np.array([[mean] * 2, [expected] * 2]), abs=1e-6)
    assert np.isfinite(known.logprobs).all()


# how much at once


@pytest.mark.parametrize("memory", [1, 4 * 4 * 400 * 3, 4 * 4 * 400 * 50])
def test_less_memory_gives_the_same_from_fewer_logits_at_once(watched, families, encoder, memory):
    more = {"stop": {encoder.eos}, "moments": families[:4]}
    plain = measure(watched, families, **more)
    assert max(watched.positions) * 400 * 4 * 4 > memory
    watched.positions.clear()
    tight = measure_likelihood(watched, families, 0, Bounds(512, memory), **more)
    equal(plain, tight)
    most = max(watched.positions)
    assert most == 1 or 4 * most * 400 * 4 <= memory


def test_a_chunk_of_logits_fits_the_cache(watched, rows, monkeypatch):
    monkeypatch.setitem(likelihood._CHUNK_BYTES, "cpu", 4 * 400 * 7)
    monkeypatch.setattr(likelihood, "_CHUNK_POSITIONS", 1)
    found = measure(watched, rows, 10**6, stop={2})
    assert max(watched.positions) == 7
    assert sum(watched.positions) >= sum(len(row.answer) for row in rows)
    monkeypatch.undo()
    equal(found, measure(watched, rows, 10**6, stop={2}))


def test_a_chunk_of_logits_is_worth_reading_the_head(watched, rows, monkeypatch):
    monkeypatch.setitem(likelihood._CHUNK_BYTES, "cpu", 4 * 400 * 7)
    monkeypatch.setattr(likelihood, "_CHUNK_POSITIONS", 9)
    measure(watched, rows, 10**6)
    assert max(watched.positions) == 9


@pytest.mark.parametrize("batch_tokens", [100, 300, 600])
def test_packs_are_within_the_tokens_of_a_pass(watched, families, batch_tokens):
    measure(watched, families, batch_tokens)
    longest = max(map(len, families)) - 1
    assert len(watched.trees) > 1
    assert all(n * size <= max(batch_tokens, longest) for n, size in watched.trees)


def test_packs_are_those_that_cost_least():
    """Eight prompts 1 2 n, packs of 4, 8 or 16 tokens: tokens + the sum of squares / (6 width).

    By 4: 16 + 64 / 6w; by 8: 12 + 80 / 6w; all in one: 10 + 100 / 6w.
    """
    rows = tuple(Encoded((1, 2, n), (7,)) for n in range(8))
    found = {
        width: [len(pack) for pack in likelihood._arranged(rows, (4, 8, 16), width)]
        for width in (1, 2, 64)
    }
    assert found == {1: [8, 4], 2: [10], 64: [10]}
    assert [len(pack) for pack in likelihood._arranged(rows, (), 64)] == [3] * 8
    assert likelihood._arranged(rows, (4, 8), 64) is likelihood._arranged(rows, (4, 8), 64)


# when nothing is shared


@pytest.mark.parametrize("missing", [0, 1])
def test_a_memory_too_small_for_a_mask_turns_sharing_off(watched, families, missing):
    plain = measure(watched, families)
    watched.trees.clear()
    longest = max(map(len, families))
    memory = 16 * longest**2 - missing
    found = measure_likelihood(watched, families, 0, Bounds(512, memory))
    assert bool(watched.alone) == (missing == 1)
    assert bool(watched.trees) == (missing == 0)
    assert all(tokens <= longest for _, tokens in watched.trees)
    equal(plain, found)


def test_a_model_that_ignores_masks_is_fed_row_by_row(watched, families):
    plain = measure(watched, families)
    deaf = type(watched)(watched.model)
    deaf.tree_states = lambda ids, depth, end: Scorer.all_states(deaf, ids)
    wrong = measure(deaf, families)
    assert any(
        np.abs(a.logprobs - b.logprobs).max() > 0.1 for a, b in zip(plain, wrong, strict=True)
    )
    deaf.check()
    deaf.alone.clear()
    found = measure(deaf, families, 1)
    distinct = {row.prompt + row.answer[:-1] for row in families}
    assert sum(rows * tokens for rows, tokens in deaf.alone) == sum(map(len, distinct))
    equal(plain, found)
    equal(plain, measure(deaf, families))


@pytest.mark.parametrize(("window", "shares"), [(8, False), (80, True)])
def test_rows_longer_than_a_sliding_window_share_nothing(watched, naive, window, shares):
    config = MistralConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                           num_key_value_heads=2, intermediate_size=64, vocab_size=400,
                           sliding_window=window, initializer_range=0.5)  # fmt: skip
    torch.manual_seed(0)
    scorer = type(watched)(MistralForCausalLM(config).eval())
    beginning = tuple(range(10, 22))
    asked = [Encoded((*beginning, n), (40, k, 42)) for n in (5, 6) for k in (7, 8)]
    for row, known in zip(asked, measure(scorer, asked), strict=True):
        check(known, row, naive.every_logprob(scorer.model, row))
    assert (bool(scorer.trees), bool(scorer.alone)) == (shares, not shares)
