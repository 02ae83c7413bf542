"""What every curve family promises, whatever its shape."""

import pytest

from raymcu.curves._base import CURVES

NAMES = [entry.name for entry in CURVES]
GRID = [step / 15 for step in range(16)]
each = pytest.mark.parametrize("name", NAMES)


@each
def test_one_coefficient_per_control_point(name):
    family = CURVES[name]()
    assert {len(family.coefficients(t)) for t in GRID} == {family.num_bends + 2}


@each
def test_coefficients_sum_to_one(name):
    family = CURVES[name]()
    assert [sum(family.coefficients(t)) for t in GRID] == pytest.approx([1.0] * 16, abs=1e-15)


@each
def test_ends_are_exactly_the_end_points(name):
    family = CURVES[name]()
    middle = (0.0,) * family.num_bends
    assert family.coefficients(0.0) == (1.0, *middle, 0.0)
    assert family.coefficients(1.0) == (0.0, *middle, 1.0)


@each
def test_swapping_the_ends_mirrors_the_curve(name):
    family = CURVES[name]()
    for t in GRID:
        mirrored = tuple(reversed(family.coefficients(1 - t)))
        assert family.coefficients(t) == pytest.approx(mirrored, abs=1e-15)


@each
@pytest.mark.parametrize("t", [-1e-9, 1 + 1e-9, 2.0, float("nan"), float("inf")])
def test_t_outside_the_curve_raises(name, t):
    with pytest.raises(ValueError, match="must lie in"):
        CURVES[name]().coefficients(t)
