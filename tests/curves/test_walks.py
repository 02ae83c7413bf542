"""Walks from the original: their ends, their positions, and single weights by hand."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.blend import Blend
from raymcu.curves._base import WALKS
from raymcu.models.blending import write_blend

LAYERS = [f"model.layers.{number}." for number in range(12)]
"""As many as make 'model.layers.1' the beginning of three layers' names."""
OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
NAMES = [*OUTSIDE, *(f"{layer}mlp.up_proj.weight" for layer in LAYERS)]
ORIGINAL, TRAINED = (Blend.of({key: 1.0}) for key in ("o", "u"))


def at(name, t, layers=LAYERS, trained=TRAINED, **options):
    return WALKS[name](**options).blend(t, "o", trained, layers)


def terms(blend, name):
    """Coefficient by checkpoint of one weight, zeros left out."""
    found = zip(blend.checkpoints, blend.coefficients_of(name), strict=True)
    return {key: c for key, c in found if c}


def from_trained(blend):
    """Which weights are the trained model's; the others are the original's."""
    found = {name: terms(blend, name) for name in NAMES}
    assert all(one in ({"o": 1.0}, {"u": 1.0}) for one in found.values())
    return {name for name, one in found.items() if one == {"u": 1.0}}


def of_layers(*numbers):
    return {f"model.layers.{number}.mlp.up_proj.weight" for number in numbers}


@pytest.mark.parametrize("name", ["mixing", "extrapolation"])
def test_no_step_is_the_original(name):
    assert at(name, 0.0) == ORIGINAL


def test_the_other_ends_are_the_trained_model():
    assert at("mixing", 1.0) == TRAINED
    assert at("extrapolation", -1.0) == TRAINED


def test_between_and_beyond_have_the_known_coefficients():
    assert at("mixing", 0.25).terms == {"o": 0.75, "u": 0.25}
    assert at("extrapolation", 4.0).terms == {"o": 5.0, "u": -4.0}
    assert at("extrapolation", -0.25).terms == {"o": 0.75, "u": 0.25}


def test_mixing_up_to_an_extrapolated_model_is_a_shorter_extrapolation():
    """alpha · a along the way to (1+a)·o - a·m; and a task vector's negation is the same."""
    unlearner = at("extrapolation", 4.0)
    assert at("mixing", 0.5, trained=unlearner) == at("extrapolation", 2.0)
    assert at("mixing", 0.0, trained=unlearner) == ORIGINAL


def test_known_weights():
    """o = (1, 2), u = (3, 1): half way (2, 1.5), alpha = 1.5 away (-2, 3.5)."""
    sources = {"o": {"w": torch.tensor([1.0, 2.0])}, "u": {"w": torch.tensor([3.0, 1.0])}}
    weights = {"w": torch.empty(2)}
    for blend, expected in (
        (at("mixing", 0.5), [2.0, 1.5]),
        (at("extrapolation", 1.5), [-2.0, 3.5]),
        (at("extrapolation", -1.0), [3.0, 1.0]),
    ):
        write_blend(weights, blend, sources)
        assert weights["w"].tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_are_in_order():
    assert WALKS["mixing"]().positions(2) == tuple(step / 20 for step in range(21))
    assert WALKS["extrapolation"](at=(2.0, -1.0, 0.0)).positions(2) == (-1.0, 0.0, 2.0)
    assert WALKS["layers"]().positions(3) == (0.0, 1.0, 2.0)


@pytest.mark.parametrize("beyond", [-0.1, 1.1])
def test_mixing_goes_no_further_than_the_unlearner(beyond):
    with pytest.raises(ValidationError, match="extrapolation"):
        WALKS["mixing"](at=(0.0, beyond))


def test_each_layer_is_put_in_alone():
    for number in range(12):
        assert from_trained(at("layers", float(number))) == of_layers(number)


def test_each_layer_is_restored_alone():
    for number in range(12):
        found = from_trained(at("layers", float(number), direction="restore"))
        assert found == set(NAMES) - of_layers(number)


def test_thirds_are_shallow_middle_and_deep():
    walk = WALKS["layer_groups"]()
    assert [walk.label(t, 12) for t in walk.positions(12)] == [
        "shallow",
        "middle",
        "deep",
        "all layers",
    ]
    for t, numbers in enumerate([range(4), range(4, 8), range(8, 12)]):
        assert from_trained(at("layer_groups", float(t))) == of_layers(*numbers)
    assert at("layer_groups", 3.0) == TRAINED


def test_a_model_of_two_layers_has_no_empty_third():
    walk = WALKS["layer_groups"]()
    positions = walk.positions(2)
    assert [walk.label(t, 2) for t in positions] == ["shallow", "deep", "all layers"]
    found = [from_trained(at("layer_groups", t, LAYERS[:2])) for t in positions]
    assert found == [of_layers(0), of_layers(1), set(NAMES)]


def test_putting_layers_in_is_restoring_the_others():
    """But for embeddings, final norm and head, which are of the model they are put into."""
    for t in range(3):
        put_in = from_trained(at("layer_groups", float(t)))
        restored = from_trained(at("layer_groups", float(t), direction="restore"))
        assert put_in | restored == set(NAMES)
        assert put_in & restored == set()


def test_the_two_directions_swap_the_models():
    swapped = {"o": "u", "u": "o"}
    for t in range(4):
        one, other = (at("layer_groups", float(t), direction=d) for d in ("put_in", "restore"))
        for name in NAMES:
            assert {swapped[key]: c for key, c in terms(one, name).items()} == terms(other, name)


def test_no_layer_and_all_layers_are_the_two_ends():
    everything = range(len(LAYERS))
    for one, other in ((ORIGINAL, TRAINED), (TRAINED, ORIGINAL)):
        assert one.with_layers(other, [], LAYERS) == one
        assert one.with_layers(other, everything, LAYERS) == other
        # short of one layer, embeddings, norm and head stay
        found = from_trained(one.with_layers(other, everything[1:], LAYERS))
        assert found & set(OUTSIDE) == (set(OUTSIDE) if one is TRAINED else set())


def test_layers_of_a_blend_are_blended():
    """An unlearner that is (1+a)·o - a·m itself: its layers are such blends, the rest is o."""
    blend = at("layers", 1.0, trained=at("extrapolation", 0.5))
    assert terms(blend, "model.layers.1.mlp.up_proj.weight") == {"o": 1.5, "u": -0.5}
    assert terms(blend, "model.layers.10.mlp.up_proj.weight") == {"o": 1.0}
    assert terms(blend, OUTSIDE[0]) == {"o": 1.0}


@pytest.mark.parametrize("number", [-1.0, 0.5, 12.0])
def test_there_is_no_layer_between_or_beyond(number):
    with pytest.raises(ValueError, match="a whole number from 0 to 11"):
        at("layers", number)
