"""Lengths of curves, distances of bends and both averages of a loss, against known answers."""

import math

import numpy as np
import pyarrow as pa
import pytest

from raymcu.analysis.geometry import Products, bend_distance, lengths, mean_along
from raymcu.curves._base import CURVES
from raymcu.store import tables

FIRST, BEND, SECOND = (0.0, 0.0), (1.0, 1.0), (2.0, 0.0)
QUADRATIC = CURVES["quadratic"]().coefficients
DENSE = np.linspace(0, 1, 20_001)


def products(*points):
    """Return inner products of what leads from the first point to each."""
    ways = np.array(points) - points[0]
    return ways @ ways.T


def test_the_plane_example_has_its_length_and_both_averages():
    """Ends (0, 0) and (2, 0), bend (1, 1), loss y²: length, 2/15, and the arc-length average."""
    around = products(FIRST, BEND, SECOND)
    passed = lengths(QUADRATIC, around, DENSE)
    assert passed[-1] == pytest.approx(math.sqrt(2) + math.log(1 + math.sqrt(2)), rel=1e-6)
    assert passed[-1] == pytest.approx(2.2955871494, rel=1e-6)
    loss = (2 * DENSE * (1 - DENSE)) ** 2
    assert mean_along(DENSE, loss) == pytest.approx(2 / 15, rel=1e-7)
    assert mean_along(passed, loss) == pytest.approx(0.1238903360, rel=1e-6)


def test_a_line_is_as_long_as_its_chord_and_both_averages_agree_on_it():
    around = products((1.0, 2.0, 2.0), (1.0, 5.0, 6.0))
    linear = CURVES["linear"]().coefficients
    at = [0.0, 0.3, 1.0]
    assert lengths(linear, around, at).tolist() == pytest.approx([0, 1.5, 5], rel=1e-12)
    assert bend_distance(around) is None
    values = [1.0, 0.0, 4.0]
    assert mean_along(lengths(linear, around, at), values) == pytest.approx(0.15 + 1.4)
    assert mean_along(at, values) == pytest.approx(0.15 + 1.4)


@pytest.mark.parametrize("num_bends", [1, 2, 3])
def test_a_polygon_is_as_long_as_its_sides(num_bends):
    points = np.random.default_rng(0).normal(size=(num_bends + 2, 7))
    polygon = CURVES["polygon"](num_bends=num_bends).coefficients
    sides = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert lengths(polygon, products(*points), [1.0])[0] == pytest.approx(sides, rel=1e-12)


def test_a_bends_distance_is_from_the_line_through_the_ends():
    assert bend_distance(products(FIRST, (0.7, 3.0), SECOND)) == pytest.approx(3)
    assert bend_distance(products(FIRST, (9.0, -0.5), (3.0, 2.0), SECOND)) == pytest.approx(2)
    on_the_chord = products(FIRST, (0.4, 0.0), SECOND)
    assert bend_distance(on_the_chord) == 0
    assert bend_distance(products(FIRST, (3.0, 4.0), FIRST)) == 5  # equal ends: no line


def test_a_curve_of_no_length_has_no_average_along_it():
    around = products(FIRST, FIRST)
    assert mean_along(lengths(CURVES["linear"]().coefficients, around, [0, 1]), [1, 2]) is None


def layer(name, rows):
    common = {"layer": name, "num_weights": 10, "original_norm": 3.0, "num_moved": 4}
    return tables.from_rows("geometry", [{**common, **row} for row in rows])


def test_products_of_layers_add_up_and_the_original_is_where_directions_begin():
    found = Products(
        pa.concat_tables(
            [
                layer("a", [{"kind": "update", "first_id": "x", "norm": 3.0},
                            {"kind": "update", "first_id": "y", "norm": 1.0},
                            {"kind": "pair", "first_id": "y", "second_id": "x",
                             "inner_product": -3.0}]),
                layer("b", [{"kind": "update", "first_id": "x", "norm": 4.0},
                            {"kind": "update", "first_id": "y", "norm": 0.0},
                            {"kind": "pair", "first_id": "y", "second_id": "x",
                             "inner_product": 0.0}]),
            ]
        ).unify_dictionaries()
    )  # fmt: skip
    assert found.around_first(["o", "x"], "o").tolist() == [[0, 0], [0, 25]]
    assert found.around_first(["x", "y"], "o").tolist() == [[0, 0], [0, 25 + 6 + 1]]
    assert found.around_first(["x", "z"], "o") is None
