"""States are shaken by as much as is said, the same however a token comes to be read."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.attacks.activation_noise import ActivationNoise, drawn
from raymcu.models.scorer import Scorer

IDS = torch.arange(4, 24)[None]


def test_what_is_drawn_is_standard_normal():
    places = torch.arange(400).view(4, 100)
    found = drawn(places, 5, 64)
    assert found.shape == (4, 100, 64)
    assert abs(float(found.mean())) < 0.02
    assert float(found.std()) == pytest.approx(1, abs=0.02)
    assert float(found.pow(4).mean()) == pytest.approx(3, abs=0.1)
    assert float((found.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.01)
    flat = found.view(400, 64)
    alike = torch.corrcoef(flat) - torch.eye(400)
    assert float(alike.abs().mean()) == pytest.approx((2 / torch.pi / 64) ** 0.5, rel=0.05)
    assert float((flat[:-1] * flat[1:]).mean()) == pytest.approx(0, abs=0.02)
    assert float((found * drawn(places, 6, 64)).mean()) == pytest.approx(0, abs=0.02)


def states(scorer, layer, **options):
    row, column = torch.zeros(20, dtype=torch.long), torch.arange(20)
    with torch.no_grad(), ActivationNoise(**options).applied(scorer):
        return scorer.states(IDS, row, column, layer)


def test_noise_is_a_share_of_each_state_behind_the_layer_that_is_meant(tiny_llama):
    scorer = Scorer(tiny_llama)
    plain, plain_last = (states(scorer, layer, scales=(0.0,)) for layer in (0, 1))
    noise = states(scorer, 0, scales=(0.1,)) - plain
    shares = noise.norm(dim=-1) / plain.norm(dim=-1)
    assert float(shares.mean()) == pytest.approx(0.1, rel=0.1)
    assert float(shares.std()) < 0.03
    only_last = {"scales": (0.1,), "depth": 1.0}
    assert torch.equal(states(scorer, 0, **only_last), plain)
    moved = states(scorer, 1, **only_last) - plain_last
    assert float((moved.norm(dim=-1) / plain_last.norm(dim=-1)).mean()) == pytest.approx(
        0.1, rel=0.1
    )
    assert torch.equal(
        states(scorer, 0, scales=(0.1,), depth=0.5), states(scorer, 0, scales=(0.1,))
    )
    other = states(scorer, 0, scales=(0.1,), seed=1) - plain
    assert abs(float(torch.cosine_similarity(noise.flatten(), other.flatten(), 0))) < 0.2


@torch.no_grad()
def test_a_token_is_shaken_alike_however_it_is_read(tiny_llama):
    """In one pass, in a tree, behind a cache in pieces, and padded on the left."""
    scorer = Scorer(tiny_llama)
    with ActivationNoise(scales=(0.3,)).applied(scorer):
        alone = scorer.all_states(IDS)
        branch = scorer.all_states(torch.cat([IDS[:, :8], IDS[:, 12:16]], 1))
        batch = scorer.all_states(torch.cat([IDS.flip(1), IDS]))[1:]
        at = torch.arange(20)
        depth = torch.where(at < 12, at, at - 4)[None, :16]
        end = torch.where(at < 8, 16, torch.where(at < 12, 12, 16))[None, :16]
        tree = scorer.tree_states(IDS[:, :16], depth, end)
        cache = scorer.new_cache()
        pieces = torch.cat([scorer.extend(part, cache) for part in IDS.split(7, 1)], 1)
        mask = torch.ones(2, 20, dtype=torch.long)
        mask[0, :5] = 0
        position = (mask.cumsum(1) - 1).clamp(min=0)
        padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), IDS[:, :15]], 1)
        cache = scorer.new_cache()
        both = torch.cat([padded, IDS])
        first = scorer.extend(both[:, :12], cache, mask[:, :12], position[:, :12])
        second = scorer.extend(both[:, 12:], cache, mask, position[:, 12:])
    together = torch.cat([first, second], 1)
    for found, expected in (
        (batch, alone),
        (tree[:, :12], alone[:, :12]),
        (tree[:, 12:], branch[:, 8:]),
        (pieces, alone),
        (together[:1, 5:], alone[:, :15]),
        (together[1:], alone),
    ):
        assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(alone, scorer.all_states(IDS), atol=1e-2)


@pytest.mark.parametrize(
    "options", [{"scales": (-0.1,)}, {"scales": ()}, {"depth": 0.0}, {"depth": 1.1}, {"seed": -1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        ActivationNoise(**options)
