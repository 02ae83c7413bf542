"""A model that is left off is one that has no more layers."""

import copy

import pytest
import torch
from pydantic import ValidationError

from raymcu.attacks._parts import number_at
from raymcu.attacks.logit_lens import LogitLens
from raymcu.models.scorer import Scorer


@pytest.mark.parametrize(
    ("depth", "layers", "kept"),
    [(0.0625, 16, 1), (0.25, 16, 4), (0.1, 30, 3), (0.5, 3, 2), (0.01, 2, 1), (1.0, 7, 7)],
)
def test_depths_are_layers_rounded_up(depth, layers, kept):
    assert number_at(depth, layers) == kept


def test_every_layer_of_a_model_has_its_share():
    for layers in range(1, 130):
        assert [number_at(n / layers, layers) for n in range(1, layers + 1)] == list(
            range(1, layers + 1)
        )


@torch.no_grad()
@pytest.mark.parametrize(("depth", "kept"), [(0.5, 1), (1.0, 2)])
def test_final_norm_and_head_read_the_last_kept_layer(tiny_llama, depth, kept):
    shorter = copy.deepcopy(tiny_llama)
    shorter.model.layers = shorter.model.layers[:kept]
    ids = torch.arange(4, 24)[None]
    with LogitLens(depths=(depth,)).applied(Scorer(tiny_llama)):
        assert torch.equal(tiny_llama(input_ids=ids).logits, shorter(input_ids=ids).logits)
        written = [
            model.generate(input_ids=ids, do_sample=False, max_new_tokens=5, pad_token_id=0)
            for model in (tiny_llama, shorter)
        ]
    assert torch.equal(*written)


def test_nothing_is_left_hooked_even_after_an_error(tiny_llama):
    scorer = Scorer(tiny_llama)
    seen = []

    def ask():
        with LogitLens(depths=(0.5,)).applied(scorer):
            seen.extend(layer._forward_hooks for layer in scorer.layers if layer._forward_hooks)
            scorer.all_states("no tokens")

    with pytest.raises(TypeError, match="must be Tensor"):
        ask()
    assert seen
    assert not any(module._forward_hooks for module in scorer.modules())


@pytest.mark.parametrize("depths", [(0.0,), (1.5,), (-0.5,), ()])
def test_bad_depths_are_refused(depths):
    with pytest.raises(ValidationError, match="depths"):
        LogitLens(depths=depths)
