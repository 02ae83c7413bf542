"""Where points of a plane lie in it."""

import numpy as np
import pytest

from raymcu.analysis.surfaces import place


def test_distances_in_the_plane_are_those_of_the_weights():
    corners = np.random.default_rng(1).normal(size=(3, 40))
    ways = corners - corners[0]
    shares = [(0, 0), (1, 0), (0, 1), (0.3, 0.9), (-0.5, 1.2)]
    points = np.array([(1 - a - b) * corners[0] + a * corners[1] + b * corners[2]
                       for a, b in shares])  # fmt: skip
    flat = np.array([place(ways @ ways.T, a, b) for a, b in shares])
    assert flat[0].tolist() == [0, 0]
    assert flat[1, 1] == 0
    assert flat[2, 1] > 0
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert np.linalg.norm(flat[:, None] - flat[None], axis=-1) == pytest.approx(apart)


def test_corners_on_one_line_or_in_one_place_have_a_plane_of_no_height():
    ways = np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    assert place(ways @ ways.T, 0.5, 1.0) == (0.0, 0.0)
    ways = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    assert place(ways @ ways.T, 0.5, 1.0) == (0.0, 5.0)
