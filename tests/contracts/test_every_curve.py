"""What every curve family promises, whatever its shape; and every walk."""

import pytest
from pydantic import ValidationError

from raymcu.blend import Blend
from raymcu.curves._base import CURVES, WALKS

BENDS = (1, 2, 3, 7)
GRID = [step / 15 for step in range(16)]
LAYERS = [f"model.layers.{number}." for number in range(4)]


def _families():
    """Every family; with several numbers of bends where it can have them."""
    for entry in CURVES:
        has_option = "num_bends" in entry.component.model_fields
        for options in [{"num_bends": n} for n in BENDS] if has_option else [{}]:
            title = "-".join([entry.name, *map(str, options.values())])
            yield pytest.param(entry.component(**options), id=title)


each = pytest.mark.parametrize("family", list(_families()))
each_walk = pytest.mark.parametrize("walk", [pytest.param(e.component(), id=e.name) for e in WALKS])


@each
def test_one_coefficient_per_control_point(family):
    assert {len(family.coefficients(t)) for t in GRID} == {family.num_bends + 2}


@each
def test_coefficients_sum_to_one(family):
    assert [sum(family.coefficients(t)) for t in GRID] == pytest.approx([1.0] * 16, abs=1e-15)


@each
def test_ends_are_exactly_the_end_points(family):
    middle = (0.0,) * family.num_bends
    assert family.coefficients(0.0) == (1.0, *middle, 0.0)
    assert family.coefficients(1.0) == (0.0, *middle, 1.0)


@each
def test_swapping_the_ends_mirrors_the_curve(family):
    for t in GRID:
        mirrored = tuple(reversed(family.coefficients(1 - t)))
        assert family.coefficients(t) == pytest.approx(mirrored, abs=1e-15)


@each
def test_bends_at_equal_steps_on_the_chord_make_the_chord(family):
    """Where the training of bends begins: control point i at i/(n-1)."""
    last = family.num_bends + 1
    for t in GRID:
        place = sum(c * i / last for i, c in enumerate(family.coefficients(t)))
        assert place == pytest.approx(t, abs=1e-15)


@each
@pytest.mark.parametrize("t", [-1e-9, 1 + 1e-9, 2.0, float("nan"), float("inf")])
def test_t_outside_the_curve_raises(family, t):
    with pytest.raises(ValueError, match="must lie in"):
        family.coefficients(t)


@pytest.mark.parametrize("name", ["bezier", "polygon"])
@pytest.mark.parametrize("num_bends", [0, -1, 1.5])
def test_a_curve_with_an_option_has_a_bend(name, num_bends):
    with pytest.raises(ValidationError, match="num_bends"):
        CURVES[name](num_bends=num_bends)


@each_walk
def test_every_position_of_a_walk_is_a_labelled_blend(walk):
    """Of the original and the trained model, with coefficients that sum to 1."""
    positions = walk.positions(len(LAYERS))
    assert list(positions) == sorted(set(positions))
    labels = [walk.label(t, len(LAYERS)) for t in positions]
    assert len(set(labels)) == len(labels)
    for t in positions:
        blend = walk.blend(t, "original", Blend.of({"trained": 1.0}), LAYERS)
        assert set(blend.checkpoints) <= {"original", "trained"}
        for row in (blend.coefficients, *blend.layers.values()):
            assert sum(row) == pytest.approx(1.0, abs=1e-12)


@each_walk
def test_a_walk_between_equal_models_stands_still(walk):
    for t in walk.positions(len(LAYERS)):
        blend = walk.blend(t, "original", Blend.of({"original": 1.0}), LAYERS)
        assert blend.checkpoints == ("original",)
        assert {blend.coefficients, *blend.layers.values()} == {(1.0,)}
