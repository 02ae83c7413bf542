"""Barriers and smoothness on curves whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymcu.analysis.barriers import curvature, forget_barrier, retain_barrier, total_variation

GRID = np.linspace(0.0, 1.0, 17)
losses = st.lists(st.floats(0.0, 10.0), min_size=2, max_size=20).map(np.array)


def grid(loss):
    return np.linspace(0.0, 1.0, len(loss))


def test_convex_loss_has_no_retain_barrier_and_a_forget_barrier():
    # reference.md D: L = theta^2 between theta = -1 and 1
    loss = (2 * GRID - 1) ** 2
    assert retain_barrier(GRID, loss).height == 0.0
    found = forget_barrier(GRID, loss)
    assert found.height == pytest.approx(1.0)
    assert found.t == 0.5


def test_chord_weighs_the_first_end_with_one_minus_t():
    t = np.array([0.0, 0.25, 1.0])
    assert retain_barrier(t, np.array([4.0, 3.0, 0.0])).height == 0.0
    found = retain_barrier(t, np.array([4.0, 3.5, 0.0]))
    assert (found.height, found.t) == (0.5, 0.25)


@given(losses)
def test_barriers_are_never_negative(loss):
    assert retain_barrier(grid(loss), loss).height >= 0.0
    assert forget_barrier(grid(loss), loss).height >= 0.0


@given(losses)
def test_swapping_the_ends_mirrors_the_curve(loss):
    t = grid(loss)
    for barrier in (retain_barrier, forget_barrier):
        there, back = barrier(t, loss), barrier(1.0 - t, loss)
        assert back.height == pytest.approx(there.height, abs=1e-9)
    assert curvature(1.0 - t, loss) == pytest.approx(curvature(t, loss), abs=1e-9)
    assert total_variation(1.0 - t, loss) == pytest.approx(total_variation(t, loss), abs=1e-9)


def test_swapping_the_ends_mirrors_where_the_barrier_is():
    loss = np.array([1.0, 1.0, 5.0, 1.0, 1.0, 1.0])
    assert retain_barrier(grid(loss), loss).t == pytest.approx(0.4)
    assert retain_barrier(grid(loss), loss[::-1]).t == pytest.approx(0.6)


@given(losses, st.randoms())
def test_order_of_points_is_irrelevant(loss, random):
    order = list(range(len(loss)))
    random.shuffle(order)
    t = grid(loss)
    for function in (retain_barrier, forget_barrier, curvature, total_variation):
        assert function(t[order], loss[order]) == function(t, loss)


@pytest.mark.parametrize("t", [[0.0, 0.5], [0.5, 1.0], [0.0, 0.0, 1.0], [0.0, 0.5, 0.5, 1.0]])
def test_curve_without_its_ends_or_with_a_point_twice_is_refused(t):
    with pytest.raises(ValueError, match="a curve"):
        retain_barrier(np.array(t), np.ones(len(t)))


def test_curvature_is_the_second_difference_on_an_even_grid():
    loss = np.array([0.0, 1.0, 0.0, 0.5, 0.5])
    second = np.abs(loss[2:] - 2 * loss[1:-1] + loss[:-2]).max()
    assert curvature(grid(loss), loss) == pytest.approx(second)


def test_curvature_of_a_quadratic_survives_a_missing_point():
    loss = 3.0 * GRID**2
    full = curvature(GRID, loss)
    kept = np.arange(len(GRID)) != 5
    assert curvature(GRID[kept], loss[kept]) == pytest.approx(full)


def test_curvature_needs_three_points():
    assert curvature(np.array([0.0, 1.0]), np.array([1.0, 2.0])) is None


def test_total_variation_counts_every_up_and_down():
    assert total_variation(grid(np.zeros(4)), np.array([0.0, 2.0, 1.0, 3.0])) == 5.0
