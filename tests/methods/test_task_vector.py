import pytest

from raymcu.methods._base import FORGET, METHODS


def test_task_vector_learns_the_forget_set(batches):
    table = batches.table()
    loss = METHODS["task_vector"]().loss({FORGET: table})
    assert loss.total.item() == pytest.approx(3.2777106968 / 3, abs=1e-10)
    assert loss.retain is None


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_task_vector_steps_the_other_way(scale):
    c = METHODS["task_vector"](scale=scale).coefficient()
    start, trained = 0.7, 0.9
    assert (1 - c) * start + c * trained == pytest.approx(start - scale * (trained - start))
