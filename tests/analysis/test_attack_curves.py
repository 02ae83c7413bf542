"""Known answers along attacked curves: gains over both ends, and their rank correlation."""

import numpy as np
import pytest

from raymcu.analysis.attack_curves import (
    attack_curvatures,
    attack_findings,
    pearson,
    ranks,
    spearman,
)
from raymcu.analysis.recoveries import recoveries
from raymcu.store import tables

ORIGINAL = 1.0


def attacked(study, of, value):
    """Attack a point that scores 0 before, so that what comes back is what it scores after."""
    row = {"label": f"{of} after relearn@50", "attack": "relearn", "strength": 50.0}
    study.single(f"{of}!", "attacked", {"forget_es": value}, attacked=of, **row)


def curve(study, key, shares, ensemble=None, **head):
    ts = np.linspace(0, 1, len(shares)).tolist()
    study.curve(key, {"forget_es": [0.0] * len(ts)}, ts, **head)
    for position, value in enumerate(shares):
        if value is not None:
            attacked(study, f"{key}@{position}", value)
    if ensemble is not None:
        study.single(f"{key} mean", "ensemble", {"forget_es": 0.0})
        attacked(study, f"{key} mean", ensemble)
    return study


def found(study, intervals=()):
    study.single("o", "original", {"forget_es": ORIGINAL}, label="original")
    points, scores = study.tables()
    sure = tables.from_rows("intervals", [
        {"point_id": point, "metric": "forget_es", "low": low, "high": high}
        for point, low, high in intervals
    ])  # fmt: skip
    keys = {row["curve_id"] for row in study.points if row.get("curve_id")}
    ensembles = {key: f"{key} mean" for key in keys}
    table = attack_findings(points, recoveries(points, scores), sure, ensembles)
    assert table.schema.equals(tables.SCHEMAS["attack_findings"])
    return table


def test_an_interior_point_that_resists_better_than_both_ends(study):
    (row,) = found(curve(study, "c", [0.8, 0.5, 0.3, 0.6, 0.7], 0.2)).to_pylist()
    assert (row["attack"], row["strength"], row["metric"], row["part"]) == (
        "relearn",
        50.0,
        "forget_es",
        "all",
    )
    assert (row["num_points"], row["at_first"], row["at_second"]) == (5, 0.8, 0.7)
    assert (row["best_t"], row["at_best"]) == (0.5, 0.3)
    assert row["interior"] == pytest.approx(1.4 / 3)
    assert (row["gain"], row["spread"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert row["gain_is_clear"] is True
    assert (row["ensemble"], row["ensemble_gain"]) == (0.2, pytest.approx(0.5))
    assert row["ensemble_gain_is_clear"] is True


def test_a_gain_within_what_the_ends_differ_by_is_not_clear(study):
    (row,) = found(curve(study, "c", [0.9, 0.5, 0.6])).to_pylist()
    assert (row["gain"], row["gain_is_clear"]) == (pytest.approx(0.1), False)
    assert row["ensemble"] is None
    assert row["ensemble_gain_is_clear"] is None


def test_a_curve_that_resists_worse_has_a_negative_gain(study):
    (row,) = found(curve(study, "c", [0.2, 0.5, 0.4])).to_pylist()
    assert (row["gain"], row["gain_is_clear"]) == (pytest.approx(-0.3), False)


@pytest.mark.parametrize(("high", "is_clear"), [(0.6, True), (0.75, False)])
def test_intervals_that_overlap_leave_a_gain_in_doubt(study, high, is_clear):
    sure = [("c@1!", 0.2, high), ("c@0!", 0.7, 0.9), ("c@2!", 0.65, 0.8)]
    (row,) = found(curve(study, "c", [0.8, 0.3, 0.7]), sure).to_pylist()
    assert row["gain_is_clear"] is is_clear


def test_a_curve_of_which_an_end_was_not_attacked_is_left_out(study):
    assert not len(found(curve(study, "c", [None, 0.5, 0.4])))


def test_what_comes_back_goes_with_curvature_or_not(study):
    for number, (interior, end) in enumerate([(0.1, 0.8), (0.2, 0.8), (0.3, 0.8)]):
        curve(study, f"c{number}", [end, interior, end])
    table = found(study)
    bends = tables.from_rows("findings", [
        {"curve_id": f"c{number}", "retain_curvature": value, "forget_curvature": 1.0}
        for number, value in enumerate([1.0, 5.0, 30.0])
    ])  # fmt: skip
    rows = {
        (row["curvature"], row["against"]): row
        for row in attack_curvatures(bends, table).to_pylist()
    }
    flat, gain = rows["retain_curvature", "interior"], rows["retain_curvature", "gain"]
    assert (flat["rank_correlation"], flat["num_curves"]) == (pytest.approx(1.0), 3)
    assert gain["rank_correlation"] == pytest.approx(-1.0)
    constant = rows["forget_curvature", "interior"]
    assert constant["rank_correlation"] is None
    assert "does not vary" in constant["note"]
    none = rows["retain_curvature", "ensemble_gain"]
    assert (none["rank_correlation"], none["num_curves"]) == (None, 0)


def test_correlations_by_hand():
    x = np.array([1.0, 2.0, 3.0])
    assert pearson(x, np.array([1.0, 3.0, 2.0])) == (pytest.approx(0.5), None)
    assert pearson(x[:2], x[:2]) == (None, "2 of the 3 that it takes")
    assert spearman(x, np.array([10.0, 1000.0, 10000.0])) == (pytest.approx(1.0), None)
    np.testing.assert_array_equal(ranks(np.array([5.0, 1.0, 5.0, 9.0])), [2.5, 1.0, 2.5, 4.0])
