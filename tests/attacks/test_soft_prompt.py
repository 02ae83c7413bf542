"""Soft prompts on tiny models: gradients against differences, and what comes of no steps."""

from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raymcu.attacks import ATTACKS, Inside
from raymcu.attacks.soft_prompt import _closed, _Fed, _random, _Search
from raymcu.errors import WorkError
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer

PLACES = pytest.mark.parametrize("place", ["behind", "front"])
NAMES = ("soft_prompt", "soft_prompt_logprob", "soft_prompt_steps", "soft_prompt_area")


class Given(Inside):
    """A model and rows."""

    def __init__(self, model, encoder, rows, batch_tokens=2048):
        self.scorer, self.encoder = Scorer(model), encoder
        self.bounds = Bounds(batch_tokens)
        self.of_probe = {"forget": rows, "retain": rows}

    def rows(self, probe):
        return self.of_probe[probe]

    def states(self, rows):
        raise NotImplementedError


def asked(*rows):
    return [
        SimpleNamespace(example=n, key=f"{n + 5:016x}", answer_kind="answer", tokens=row)
        for n, row in enumerate(rows)
    ]


@pytest.fixture
def some(encoder):
    """Questions and answers of unequal lengths."""
    pairs = [("Who?", "Ada."), ("Where was she born?", "In Oslo."), ("When?", "In 1901, she says.")]
    return asked(*(encoder.encode(*pair) for pair in pairs))


def read(inside, **options):
    table = ATTACKS["soft_prompt"](**options).read("p", inside)
    found = {name: [] for name in NAMES}
    for row in table.to_pylist():
        assert (row["point_id"], row["probe"], row["layer"]) == ("p", "forget", None)
        found[row["name"]].append((row["value"], row["control"]))
    return found


def search_of(inside, **options):
    return _Search(ATTACKS["soft_prompt"](**options), inside)


@pytest.fixture
def exact():
    """A random GPT-2 in float64 throughout; Llama's norm is computed in float32."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=400, n_positions=128, n_embd=32, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config).double().eval()


@PLACES
def test_the_slope_is_that_of_finite_differences(exact, encoder, some, place):
    """In float64, along a random direction and along one number of one token of one target."""
    inside = Given(exact, encoder, some)
    search = search_of(inside, tokens=3, place=place)
    fed = _Fed.of(search, [row.tokens for row in some])
    torch.manual_seed(0)
    soft = search.first + 0.1 * torch.randn(3, 3, 32, dtype=torch.float64)
    with _closed(inside.scorer):
        slope = fed.looked(soft, wants_slope=True)[2]
        one = torch.zeros_like(soft)
        one[1, 2, 5] = 1
        for direction in (torch.randn_like(soft), one):
            above, below = (
                sum(fed.looked(soft + step * direction, wants_slope=False)[0])
                for step in (1e-5, -1e-5)
            )
            expected = -(above - below) / 2e-5
            assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-6)


@PLACES
def test_no_steps_ask_with_the_tokens_as_they_begin(tiny_llama, encoder, some, place):
    """Soft tokens that never moved are the token "!": the likelihood is that of the text."""
    inside = Given(tiny_llama, encoder, some)
    found = read(inside, steps=0, tokens=4, place=place)
    (mark,) = encoder.tokenizer("!", add_special_tokens=False).input_ids
    assert some[0].tokens.prompt[0] == encoder.start
    marks = (mark,) * 4
    rows = [
        Encoded((*p, *marks), a) if place == "behind" else Encoded((p[0], *marks, *p[1:]), a)
        for p, a in ((row.tokens.prompt, row.tokens.answer) for row in some)
    ]
    likelihoods = measure_likelihood(inside.scorer, rows, encoder.pad, inside.bounds)
    expected = [float(one.logprobs.mean()) for one in likelihoods]
    assert [value for value, _ in found["soft_prompt_logprob"]] == pytest.approx(expected, abs=1e-5)


def test_a_tiny_model_is_made_to_say_a_token_it_never_learned(tiny_llama, encoder):
    """A random model gives it a p of about 1/400; soft tokens get it within 40 steps."""
    rows = asked(Encoded((1, 50, 51), (60,)), Encoded((1, 52), (61, 2)))
    inside = Given(tiny_llama, encoder, rows)
    none, many = read(inside, steps=0), read(inside, steps=40)
    assert [value for value, _ in none["soft_prompt"]] == [0.0, 0.0]
    assert many["soft_prompt"][0][0] == 1.0
    steps, area = many["soft_prompt_steps"][0][0], many["soft_prompt_area"][0][0]
    assert 0 < steps <= 40
    assert area == pytest.approx(1 - steps / 41)
    for (before, _), (after, _) in zip(
        none["soft_prompt_logprob"], many["soft_prompt_logprob"], strict=True
    ):
        assert after > before + 0.5


def test_what_is_given_at_once_takes_no_steps(tiny_llama, encoder):
    """The target is the model's own greedy answer behind the marks; the other is not."""
    inside = Given(tiny_llama, encoder, [])
    (mark,) = encoder.tokenizer("!", add_special_tokens=False).input_ids
    ids = [1, 50, 51, *[mark] * 20]
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(tiny_llama(torch.tensor([ids])).logits[0, -1].argmax()))
    inside.of_probe["forget"] = asked(Encoded((1, 50, 51), tuple(ids[-3:])))
    found = read(inside, steps=2)
    assert [found[name][0][0] for name in NAMES[0::2]] == [1.0, 0.0]
    assert found["soft_prompt_area"][0][0] == 1.0


def test_the_control_is_as_long_keeps_the_end_and_is_told_by_the_key(encoder, some):
    row = some[2]
    one, same = (_random(row, encoder, 0) for _ in range(2))
    assert one == same
    assert (one.prompt, len(one.answer)) == (row.tokens.prompt, len(row.tokens.answer))
    assert one.answer[-1] == encoder.eos == row.tokens.answer[-1]
    assert not set(one.answer[:-1]) & set(encoder.tokenizer.all_special_ids)
    assert one != _random(row, encoder, 1)
    row.key = f"{1:016x}"
    assert one != _random(row, encoder, 0)


def test_batches_do_not_change_what_is_found(tiny_llama, encoder, some):
    whole, alone = (
        read(Given(tiny_llama, encoder, some, size), steps=3, tokens=5) for size in (2048, 1)
    )
    for name in NAMES:
        for pairs in zip(whole[name], alone[name], strict=True):
            assert pairs[0] == pytest.approx(pairs[1], abs=1e-4, nan_ok=True)


def test_one_prompt_for_all_is_learned_from_kept_facts(tiny_llama, encoder, some):
    inside = Given(tiny_llama, encoder, some[:1])
    inside.of_probe["retain"] = some[1:]
    found = read(inside, universal=True, steps=8)
    assert [control for name in NAMES for _, control in found[name]] == [None] * 4
    assert found["soft_prompt_area"] == [(None, None)]
    search = search_of(inside, steps=8)
    with _closed(inside.scorer):
        shared = search.shared([row.tokens for row in some[1:]])
        before, after = (
            sum(one.logprob for one in search.tried([row.tokens for row in some[1:]], soft))
            for soft in (search.first, shared)
        )
        (tried,) = search.tried([some[0].tokens], shared)
    assert after > before
    assert found["soft_prompt_logprob"][0][0] == tried.logprob


def test_the_model_is_left_as_it_was(tiny_llama, encoder, some):
    model = tiny_llama.train()
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    model.model.norm.weight.requires_grad_(False)
    read(Given(model, encoder, some), steps=2)
    assert model.training
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name])
        assert weight.grad is None
        assert weight.requires_grad == (name != "model.norm.weight")


def test_steps_of_half_precision_are_kept_in_float32(tiny_llama, encoder, some):
    inside = Given(tiny_llama.bfloat16(), encoder, some)
    search = search_of(inside)
    assert search.first.dtype == torch.float32
    found = read(inside, steps=15, tokens=8)
    start = read(inside, steps=0, tokens=8)
    value, before = (sum(v for v, _ in x["soft_prompt_logprob"]) for x in (found, start))
    assert value > before


def test_a_step_is_relative_to_the_embeddings(tiny_llama, encoder):
    size = search_of(Given(tiny_llama, encoder, []), step_size=0.5).size
    weight = tiny_llama.get_input_embeddings().weight.detach()
    assert size == pytest.approx(0.5 * float(weight.square().mean()) ** 0.5)


def test_what_cannot_be_is_told(tiny_llama, encoder, some, monkeypatch):
    with pytest.raises(WorkError, match=r"probe 'forget' has no answers to search for"):
        read(Given(tiny_llama, encoder, []))
    inside = Given(tiny_llama, encoder, some)

    def tokens_only(input_ids, use_cache):
        raise AssertionError

    monkeypatch.setattr(tiny_llama.model, "forward", tokens_only)
    with pytest.raises(WorkError, match=r"LlamaForCausalLM takes tokens only") as told:
        read(inside, steps=1)
    assert told.value.reason == "no_embeddings"
