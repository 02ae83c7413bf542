"""Noise has the size it is said to have, and is the same wherever and whenever it is drawn."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.attacks.noise import Noise
from raymcu.models.scorer import Scorer


def weight_of(mean, std, *shape):
    generator = torch.Generator().manual_seed(1)
    return mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("relative", "size"), [("std", 0.02), ("norm", (0.04 + 0.0004) ** 0.5)])
def test_the_size_of_noise_is_a_share_of_the_tensors(relative, size):
    weight = weight_of(0.2, 0.02, 200, 300)
    noise = Noise(relative_to=relative).shaken("w", weight, 0.1) - weight
    assert float(noise.std()) == pytest.approx(0.1 * size, rel=0.01)
    assert abs(float(noise.mean())) < 0.01 * 0.1
    assert float((noise / noise.std()).pow(4).mean()) == pytest.approx(3, abs=0.1)


def test_strengths_go_one_way_and_names_and_seeds_differ():
    weight = weight_of(0, 1, 30, 40)

    def noise(name="w", scale=0.1, **options):
        return (Noise(**options).shaken(name, weight, scale) - weight) / scale

    assert torch.allclose(noise(), noise(scale=0.7), atol=1e-12)
    others = [noise("v"), noise(seed=1)]
    for other in others:
        cosine = torch.cosine_similarity(noise().flatten(), other.flatten(), 0)
        assert abs(float(cosine)) < 0.1


def test_weights_that_are_alike_are_moved_by_norm_only():
    ones = torch.ones(64)
    assert torch.equal(Noise().shaken("norm", ones, 0.5), ones)
    assert not torch.equal(Noise(relative_to="norm").shaken("norm", ones, 0.5), ones)


def test_every_weight_is_shaken_by_its_own_name_once(tiny_llama):
    tiny_llama.model.norm.weight.data += torch.arange(32) / 32
    before = {name: weight.clone() for name, weight in tiny_llama.named_parameters()}
    attack = Noise(scales=(0.1,), relative_to="norm")
    with attack.applied(Scorer(tiny_llama)):
        for name, weight in tiny_llama.named_parameters():
            assert torch.equal(weight, attack.shaken(name, before[name], 0.1))
            assert not torch.equal(weight, before[name])


@pytest.mark.parametrize(
    "options", [{"scales": (-0.1,)}, {"scales": ()}, {"relative_to": "max"}, {"seed": -1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Noise(**options)
