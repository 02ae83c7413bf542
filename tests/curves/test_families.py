"""Coefficients against Bernstein's polynomials and hat functions (reference sheet D)."""

import pytest

from raymcu.curves._base import CURVES


@pytest.mark.parametrize(
    ("name", "options", "t", "expected"),
    [
        ("linear", {}, 0.25, (0.75, 0.25)),
        ("quadratic", {}, 0.25, (0.5625, 0.375, 0.0625)),
        ("quadratic", {}, 0.5, (0.25, 0.5, 0.25)),
        ("bezier", {"num_bends": 1}, 0.25, (0.5625, 0.375, 0.0625)),
        ("bezier", {}, 0.5, (0.125, 0.375, 0.375, 0.125)),
        ("bezier", {}, 0.25, (27 / 64, 27 / 64, 9 / 64, 1 / 64)),
        ("bezier", {"num_bends": 3}, 0.25, (81 / 256, 108 / 256, 54 / 256, 12 / 256, 1 / 256)),
        ("polygon", {}, 0.25, (0.5, 0.5, 0.0)),
        ("polygon", {}, 0.5, (0.0, 1.0, 0.0)),
        ("polygon", {"num_bends": 3}, 0.375, (0.0, 0.5, 0.5, 0.0, 0.0)),
        ("polygon", {"num_bends": 3}, 0.8125, (0.0, 0.0, 0.0, 0.75, 0.25)),
    ],
)
def test_coefficients_have_the_known_values(name, options, t, expected):
    assert CURVES[name](**options).coefficients(t) == expected


@pytest.mark.parametrize("num_bends", [1, 2, 5])
def test_a_chain_goes_through_its_bends(num_bends):
    family = CURVES["polygon"](num_bends=num_bends)
    for number in range(num_bends + 2):
        found = family.coefficients(number / (num_bends + 1))
        assert found[number] == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("t", [step / 30 for step in range(31)])
def test_a_bezier_curve_with_one_bend_is_the_quadratic_one_to_the_bit(t):
    one = CURVES["bezier"](num_bends=1)
    assert one.coefficients(t) == CURVES["quadratic"]().coefficients(t)
