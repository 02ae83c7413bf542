"""How long scoring one point of TOFU's size takes; run by hand with -m speed."""

import time

import pytest

from raymcu.metrics._scoring import score_point


@pytest.mark.speed
def test_point_of_eight_thousand_rows_is_scored_in_a_tenth_of_a_second(model):
    table = model(0.9, 0.3, num=400).table()
    retrained = model(0.9, 0.2, "retrained", seed=1, num=400).table()
    score_point("warm-up", table, retrained)
    start = time.perf_counter()
    score_point("point", table, retrained)
    assert time.perf_counter() - start < 0.1
