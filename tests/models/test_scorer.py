import copy
import functools
import random
import warnings

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.cache_utils import DynamicLayer

from raymcu.errors import ConfigError
from raymcu.models import causal_lm
from raymcu.models.caches import RoomyLayer, cache_name
from raymcu.models.encoding import collate
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import ScratchModel

CPU = torch.device("cpu")


def test_scorer_gives_the_models_own_logits(tiny_llama, encoder):
    rows = [encoder.encode("Who?", "Ada."), encoder.encode("Who wrote the book?", "It was Bea.")]
    batch = collate(rows, 0, CPU)
    scorer = Scorer(tiny_llama)
    scorer.check()
    own = scorer(batch.inputs, batch.row, batch.column)
    theirs = tiny_llama(input_ids=batch.inputs).logits[batch.row, batch.column]
    assert torch.allclose(own, theirs, atol=1e-6)


class Louder(LlamaForCausalLM):
    """An architecture that does something to its logits."""

    factor = 1.02

    def forward(self, *args, **more):
        out = super().forward(*args, **more)
        out.logits = out.logits * self.factor
        return out


@pytest.mark.parametrize("factor", [1.02, 0.5, float("nan")])
def test_scorer_refuses_an_architecture_with_other_logits(tiny_llama, factor):
    tiny_llama.__class__ = Louder
    tiny_llama.factor = factor
    with pytest.raises(ConfigError, match="Louder changes its logits"):
        Scorer(tiny_llama).check()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scorer_check_passes_in_both_precisions(tiny_tokenizer, dtype):
    shape = ScratchModel(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64)
    Scorer(causal_lm.create(shape, tiny_tokenizer, 0, dtype)).check()


# trees of beginnings


def branches(parents):
    """Return the places of each token's beginning, itself included, by the place before it."""
    found = []
    for place, parent in enumerate(parents):
        found.append([*(found[parent] if parent is not None else []), place])
    return found


# In the order of a walk: 0 1 2 3 and 0 1 4, 0 1 4 5; beside them 6 7, of a tree of its own.
PARENTS = (None, 0, 1, 2, 1, 4, None, 6)
DEPTH = [0, 1, 2, 3, 2, 3, 0, 1]
END = [6, 6, 4, 4, 6, 6, 8, 8]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_states_in_a_tree_are_those_of_its_branches(tiny_tokenizer, dtype):
    shape = ScratchModel(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    scorer = Scorer(causal_lm.create(shape, tiny_tokenizer, 0, dtype).eval())
    ids = torch.tensor([[4, 5, 6, 7, 8, 9, 10, 11], [9, 4, 4, 9, 5, 9, 9, 9]])
    depth, end = (torch.tensor([values] * 2) for values in (DEPTH, END))
    with torch.no_grad():
        found = scorer.tree_states(ids, depth, end)
        assert found.dtype == getattr(torch, dtype)
        for branch in branches(PARENTS):
            alone = scorer.all_states(ids[:, branch])
            close = 1e-5 if dtype == "float32" else 5e-2
            assert torch.allclose(found[:, branch], alone, atol=close)


def test_a_tree_of_one_branch_is_a_sequence(tiny_llama):
    scorer = Scorer(tiny_llama)
    ids = torch.arange(4, 13).repeat(2, 1)
    found = scorer.tree_states(ids, torch.arange(9).repeat(2, 1), torch.full((2, 9), 9))
    assert torch.allclose(found, scorer.all_states(ids), atol=1e-5)


class Deaf(Scorer):
    """A model that takes trees otherwise than they are meant."""

    ignores: str

    def tree_states(self, input_ids, depth, end):
        if self.ignores == "everything":
            return self.all_states(input_ids)
        if self.ignores == "nothing, it raises":
            raise ValueError("attention_mask must have 2 dimensions")
        at = torch.arange(input_ids.shape[1])[None]
        depth = at if self.ignores == "depth" else depth
        end = torch.full_like(end, at.shape[1]) if self.ignores == "end" else end
        return super().tree_states(input_ids, depth, end)


@pytest.mark.parametrize("ignores", ["everything", "depth", "end", "nothing, it raises"])
def test_a_model_that_does_not_take_trees_is_given_none(tiny_llama, ignores):
    for layer in tiny_llama.model.layers:  # a random model hardly looks at positions
        layer.self_attn.q_proj.weight.data *= 30
        layer.self_attn.k_proj.weight.data *= 30
    scorer = Deaf(tiny_llama)
    scorer.ignores = ignores
    assert scorer.longest_shared == float("inf")
    scorer.check()
    assert scorer.longest_shared == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_check_leaves_a_model_that_takes_trees_alone(tiny_tokenizer, dtype):
    shape = ScratchModel(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    scorer = Scorer(causal_lm.create(shape, tiny_tokenizer, 0, dtype))
    scorer.check()
    assert scorer.longest_shared == float("inf")


def test_rows_longer_than_a_sliding_window_share_nothing():
    config = MistralConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                           num_key_value_heads=2, intermediate_size=64, vocab_size=50,
                           sliding_window=8)  # fmt: skip
    scorer = Scorer(MistralForCausalLM(config).eval())
    scorer.check()
    assert scorer.longest_shared == 8


# caches


@pytest.mark.parametrize("lengths", [(9,), (4, 5), (1, 1, 6, 1), (1,) * 9])
def test_states_behind_a_cache_are_those_of_one_pass(tiny_llama, lengths):
    scorer = Scorer(tiny_llama)
    ids = torch.arange(27).reshape(3, 9)
    expected = tiny_llama.get_decoder()(input_ids=ids).last_hidden_state
    cache = scorer.new_cache()
    pieces = [scorer.extend(part, cache) for part in ids.split(lengths, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), expected, atol=1e-5)
    assert cache.get_seq_length() == 9


def test_padding_on_the_left_is_not_seen(tiny_llama):
    scorer = Scorer(tiny_llama)
    ids = torch.arange(4, 13)[None]
    expected = tiny_llama.get_decoder()(input_ids=ids).last_hidden_state
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], dim=1)
    mask = (padded > 0).long()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache = scorer.new_cache()
    for end in range(2, 15, 2):  # the first two pieces are padding alone
        piece = slice(end - 2, end)
        states = scorer.extend(padded[:, piece], cache, mask[:, :end], position[:, piece])
    assert torch.allclose(states, expected[:, -2:], atol=1e-5)


@pytest.mark.parametrize(("heads", "width"), [(2, None), (1, None), (2, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_of_a_cache_are_counted(heads, width, dtype):
    config = LlamaConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
                         num_key_value_heads=heads, head_dim=width, intermediate_size=64,
                         vocab_size=50)  # fmt: skip
    scorer = Scorer(LlamaForCausalLM(config).to(dtype).eval())
    cache = scorer.new_cache()
    scorer.extend(torch.arange(12).reshape(2, 6), cache)
    held = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    assert sum(part.numel() * part.element_size() for part in held) == 12 * scorer.cache_bytes


def before(input_ids, past_key_values=None, **more):
    """A forward as transformers below 5.24 has it."""


def since(input_ids, cache=None, **more):
    """A forward as transformers 5.24 has it."""


def hidden(forward):
    """Wrap it as transformers' decorators and accelerate's hooks do."""
    return functools.update_wrapper(functools.partial(lambda *_, **more: forward(**more)), forward)


def test_a_cache_goes_by_the_name_that_the_model_takes(tiny_llama):
    own = cache_name(tiny_llama.get_decoder().forward)
    assert cache_name(hidden(before)) == cache_name(before) == "past_key_values"
    assert cache_name(hidden(since)) == cache_name(since) == "cache"
    assert cache_name(lambda **passed_on: tiny_llama(**passed_on)) == own


class PassingOn(torch.nn.Module):
    """A decoder that names nothing of what it passes on."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.get_input_embeddings = inner.get_input_embeddings

    def forward(self, **more):
        return self.inner(**more)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cache_is_filled_without_a_warning(tiny_llama, wrapped):
    ids = torch.arange(4, 10)[None]
    whole = Scorer(tiny_llama).all_states(ids)
    if wrapped:
        tiny_llama.model = PassingOn(tiny_llama.model)
        tiny_llama.get_decoder = lambda: tiny_llama.model
    scorer = Scorer(tiny_llama)
    cache = scorer.new_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = [scorer.extend(part, cache) for part in ids.split(3, 1)]
    assert cache.get_seq_length() == 6
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(6))
def test_a_roomy_layer_holds_what_transformers_own_holds(seed, dtype):
    """Tokens added, rows dropped, repeated and put in order, copies that go their own way."""
    draw = random.Random(seed)
    pairs = [(RoomyLayer(), DynamicLayer())]
    batches = [3]
    for _ in range(60):
        which = draw.randrange(len(pairs))
        own, other = pairs[which]
        what = draw.choice(("update", "update", "update", "select", "copy", "crop"))
        if what == "update" or not other.is_initialized:
            shape = (batches[which], 2, draw.choice((1, 1, 1, 5, 40)), 4)
            new = [torch.randn(shape).to(dtype) for _ in range(2)]
            told = own.update(*new), other.update(*new)
            assert all(torch.equal(a, b) for a, b in zip(*told, strict=True))
        elif what == "select":
            kept = torch.tensor(draw.choices(range(batches[which]), k=draw.randint(1, 4)))
            batches[which] = len(kept)
            for layer in (own, other):
                layer.batch_select_indices(kept)
        elif what == "copy" and len(pairs) < 4:
            pairs.append((copy.deepcopy(own), copy.deepcopy(other)))
            batches.append(batches[which])
        elif what == "crop" and other.get_seq_length() > 1:
            count = -draw.randrange(1, other.get_seq_length())  # 0 once meant all, then none
            for layer in (own, other):
                layer.crop(count)
        for a, b in pairs:  # no copy sees what another was told
            if b.is_initialized:
                assert a.keys.dtype == dtype
                assert torch.equal(a.keys, b.keys)
                assert torch.equal(a.values, b.values)
                assert a.get_seq_length() == b.get_seq_length()
    assert len(pairs) > 2


def test_a_roomy_layer_seldom_copies_what_it_holds():
    layer = RoomyLayer()
    places = set()
    for number in range(100):
        layer.update(torch.full((2, 2, 1, 4), number), torch.full((2, 2, 1, 4), -number))
        places.add(layer.keys.data_ptr())
    assert len(places) <= 5
    assert layer.keys[1, 0, :, 2].tolist() == list(range(100))
    assert layer.values[0, 1, :, 3].tolist() == [-number for number in range(100)]
