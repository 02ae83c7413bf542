"""Ensembles beside ends and the best point inside, by hand."""

import numpy as np
import pytest

from raymcu.analysis.ensembles import Halved, Place, compared
from raymcu.store import tables

HEAD = {"curve_id": "c", "setting": "Rand", "family": "quadratic", "forget_size": "forget05",
        "first": "npo/seed0", "second": "npo/seed1"}  # fmt: skip
FIRST, SECOND = Place("first", "a", 0.0), Place("second", "b", 1.0)
THREE = Place("ensemble", "e3", None, 3)


def inside(t):
    return Place("inside", f"t{t}", t)


def of(*values):
    """Return forget ROUGE, lower is better, of questions 0, 1, 2…: even ones validate."""
    return {"forget_rouge": Halved({"": ("forget", np.array(values))}, lambda means: means[0])}


def rows_of(points):
    rows = list(compared(HEAD, points))
    tables.from_rows("ensembles", rows)
    return {(row["kind"], row["num_inside"]): row for row in rows}


def test_the_better_end_and_the_best_point_inside_are_chosen_on_the_even_examples():
    rows = rows_of({
        FIRST: of(0.5, 0.9, 0.5, 0.9),
        SECOND: of(0.6, 0.1, 0.6, 0.1),
        inside(0.25): of(0.2, 0.8, 0.2, 0.8),
        inside(0.5): of(0.3, 0.0, 0.3, 0.0),
        THREE: of(0.4, 0.4, 0.4, 0.4),
    })  # fmt: skip
    best = rows["inside", None]
    assert (best["t"], best["point_id"]) == (0.25, "t0.25")
    assert (best["value"], best["validation"], best["test"]) == pytest.approx((0.5, 0.2, 0.8))
    assert best["gain_validation"] == pytest.approx(0.3), "over the first end's 0.5"
    assert best["gain_test"] == pytest.approx(0.1), "over the same end's 0.9"
    mean = rows["ensemble", 3]
    assert mean["gain_validation"] == pytest.approx(0.1)
    assert mean["gain_test"] == pytest.approx(0.5)
    assert mean["survives"] is True, "every question gains as much"
    assert (mean["gain_low"], mean["gain_high"]) == pytest.approx((0.5, 0.5))
    assert "gain_test" not in rows["first", None]
    assert rows["second", None]["test"] == pytest.approx(0.1)


def test_a_gain_by_chance_does_not_survive():
    rng = np.random.default_rng(0)
    ends = {FIRST: of(*rng.uniform(size=40)), SECOND: of(*rng.uniform(size=40))}
    others = {inside(n / 20): of(*rng.uniform(size=40)) for n in range(1, 20)}
    row = rows_of({**ends, **others})["inside", None]
    assert row["gain_validation"] > 0, "the best of nineteen is better"
    assert row["gain_low"] < 0 < row["gain_high"]
    assert row["survives"] is False


def test_higher_may_be_better_and_samples_may_be_ratios():
    def loss(nll):
        parts = {
            "nll": ("forget", np.array(nll)),
            "tokens": ("forget", np.array([1.0, 1.0, 3.0, 3.0])),
        }
        return {"forget_loss": Halved(parts, lambda means: means[0] / means[1])}

    rows = rows_of({
        FIRST: loss([1.0, 1.0, 1.0, 1.0]),
        SECOND: loss([0.0, 0.0, 0.0, 0.0]),
        THREE: loss([2.0, 4.0, 6.0, 4.0]),
    })  # fmt: skip
    assert rows["first", None]["validation"] == pytest.approx(2 / 4)
    assert rows["ensemble", 3]["validation"] == pytest.approx(8 / 4)
    assert rows["ensemble", 3]["gain_test"] == pytest.approx(8 / 4 - 2 / 4)


def test_what_an_end_lacks_or_is_not_finite_is_passed_over():
    assert rows_of({FIRST: of(0.5, 0.5), SECOND: {}, THREE: of(0.1, 0.1)}) == {}
    assert rows_of({FIRST: of(0.5, np.nan), SECOND: of(0.5, 0.5), THREE: of(0.1, 0.1)}) == {}
    assert set(rows_of({FIRST: of(0.5, 0.5), SECOND: of(0.5, 0.5), THREE: of(0.1)})) == {
        ("first", None), ("second", None),
    }  # fmt: skip
