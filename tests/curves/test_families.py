"""Coefficients against Bernstein's polynomials (reference sheet D)."""

import pytest

from raymcu.curves._base import CURVES


@pytest.mark.parametrize(
    ("name", "t", "expected"),
    [
        ("linear", 0.25, (0.75, 0.25)),
        ("quadratic", 0.25, (0.5625, 0.375, 0.0625)),
        ("quadratic", 0.5, (0.25, 0.5, 0.25)),
    ],
)
def test_coefficients_have_the_known_values(name, t, expected):
    assert CURVES[name]().coefficients(t) == expected
