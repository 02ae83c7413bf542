"""Known answers of calibration: where a metric is last kept, and who is first there."""

import numpy as np
import pytest

from raymcu.analysis.calibration import bar_of, calibrate, last_crossing, next_positions
from raymcu.store import tables
from raymcu.study.walks import Calibration

GRID = [step / 20 for step in range(21)]
TS = [0.0, 0.25, 0.5, 0.75, 1.0]


def mix(study, name, retain, forget=None, ts=TS, **head):
    """Add a walk; its first position is worth what the original is."""
    metrics = {"retain_es": retain, "forget_es": forget or [0.5] * len(ts)}
    head = {"setting": None, "family": "mixing", "first": "original", "role": "walk"} | head
    return study.curve(name, metrics, ts, **{"second": name} | head)


def original(study, retain=1.0, size="forget05"):
    return study.single(f"original {size}", "original", {"retain_es": retain}, forget_size=size)


def rows_of(study, **asked):
    found = calibrate(*study.tables(), Calibration(**asked))
    assert found.schema.equals(tables.SCHEMAS["calibrations"])
    return {row["curve_id"]: row for row in found.to_pylist()}


def test_the_last_position_that_keeps_its_share_is_found(study):
    mix(original(study, 0.8), "npo", [0.8, 0.79, 0.76, 0.7, 0.1], [0.9, 0.8, 0.6, 0.3, 0.2])
    row = rows_of(study)["npo"]
    assert (row["metric"], row["keep"], row["at_original"]) == ("retain_es", 0.95, 0.8)
    assert row["bar"] == pytest.approx(0.76)
    assert (row["t"], row["value"], row["fails_at"]) == (0.5, 0.76, 0.75)
    assert (row["point_id"], row["is_monotone"]) == ("npo@2", True)
    assert (row["rank_by"], row["before"], row["after"]) == ("forget_es", 0.2, 0.6)
    assert (row["setting"], row["family"], row["first"], row["second"]) == (
        None,
        "mixing",
        "original",
        "npo",
    )


def test_what_keeps_all_along_is_taken_as_it_is(study):
    mix(original(study), "npo", [1.0, 1.0, 0.99, 0.96, 0.95])
    row = rows_of(study)["npo"]
    assert (row["t"], row["fails_at"], row["point_id"]) == (1.0, None, "npo@4")
    assert row["before"] == row["after"]


def test_what_keeps_nowhere_else_is_taken_back_to_the_original(study):
    mix(original(study), "npo", [1.0, 0.1, 0.1, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1, 0.1])
    row = rows_of(study)["npo"]
    assert (row["t"], row["value"], row["fails_at"], row["after"]) == (0.0, 1.0, 0.25, 0.9)


def test_a_curve_that_keeps_it_nowhere_has_no_position(study):
    original(study).curve(
        "pair", {"retain_es": [0.5, 0.6, 0.5], "forget_es": [1, 2, 3]}, [0, 0.5, 1]
    )
    row = rows_of(study, curves=["linear"])["pair"]
    assert row["bar"] == 0.95
    assert [row[k] for k in ("t", "value", "point_id", "fails_at", "after", "rank_after")] == [
        None
    ] * 6
    assert (row["before"], row["rank_before"], row["is_monotone"]) == (3.0, 1, False)


def test_the_last_of_several_crossings_counts(study):
    mix(original(study), "npo", [1.0, 0.2, 0.97, 0.3, 0.2])
    row = rows_of(study)["npo"]
    assert (row["t"], row["fails_at"], row["is_monotone"]) == (0.5, 0.75, False)


def test_a_rise_that_crosses_nothing_is_no_monotone_way_either(study):
    mix(original(study), "npo", [1.0, 0.6, 0.7, 0.3, 0.2])
    assert rows_of(study)["npo"]["is_monotone"] is False


def test_positions_without_a_value_are_passed_over(study):
    mix(original(study), "npo", [1.0, 0.97, None, 0.3, None])
    row = rows_of(study)["npo"]
    assert (row["t"], row["fails_at"]) == (0.25, 0.75)


@pytest.mark.parametrize("retain", [None, "absent"])
def test_without_the_originals_value_nothing_is_calibrated(study, retain):
    if retain is None:
        original(study, None)
    row = rows_of(mix(study, "npo", [1.0] * 5))["npo"]
    assert [row[k] for k in ("at_original", "bar", "t", "after", "is_monotone")] == [None] * 5
    assert (row["before"], row["rank_before"], row["rank_after"]) == (0.5, 1, None)


def test_lower_is_better_of_some_metrics(study):
    study.single("o", "original", {"retain_loss": 1.9})
    losses = [1.9, 1.95, 2.0, 2.01, 3.0]
    mix(study, "npo", [0.0] * 5)
    for position, loss in enumerate(losses):
        study.score(f"npo@{position}", {"retain_loss": loss})
    row = rows_of(study, metric="retain_loss")["npo"]
    assert row["bar"] == pytest.approx(2.0)
    assert (row["t"], row["fails_at"], row["is_monotone"]) == (0.5, 0.75, True)


@pytest.mark.parametrize(
    ("original", "better", "bar"),
    [
        (0.8, "higher", 0.4),
        (0.8, "lower", 1.6),
        (-3.0, "higher", -6.0),  # a logarithm: the bar is looser, not stricter
        (-3.0, "lower", -1.5),
        (0.0, "higher", 0.0),
        (0.0, "lower", 0.0),
    ],
)
def test_the_bar_is_never_stricter_than_the_original(original, better, bar):
    assert bar_of(original, 0.5, better) == bar
    assert last_crossing(np.zeros(1), np.array([original]), bar, better).t == 0.0


def test_one_position_is_no_way():
    assert last_crossing(np.zeros(1), np.ones(1), 1.0, "higher").is_monotone is None


def test_halving_finds_a_step_in_as_many_steps_as_it_should(study):
    """From .05 to a thousandth takes six halvings: .05 / 2**6 < .001 < .05 / 2**5."""
    step, ts = 0.6371, list(GRID)
    asked = []
    while True:
        study.points, study.scores = [], []
        mix(original(study, 0.7), "npo", [0.7 if t <= step else 0.2 for t in ts], ts=ts)
        found = calibrate(*study.tables(), Calibration(resolution=0.001))
        more = next_positions(found, 0.001)
        if not more:
            break
        asked.append(more.pop("npo"))
        assert not more
        ts = sorted([*ts, asked[-1]])
    (row,) = found.to_pylist()
    assert asked[:3] == pytest.approx([0.625, 0.6375, 0.63125])
    assert len(asked) == 6
    assert row["t"] <= step < row["fails_at"]
    assert row["fails_at"] - row["t"] == pytest.approx(0.05 / 2**6)
    assert row["is_monotone"] is True


@pytest.mark.parametrize(
    ("t", "fails_at", "resolution", "expected"),
    [
        (0.5, 0.75, 0.1, {"w": 0.625}),
        (0.5, 0.75, 0.25, {}),
        (0.56, 0.57, 0.01, {}),  # .57 - .56 is a little more than .01
        (1.0, None, 0.1, {}),
        (None, None, 0.1, {}),
        (2.0, 4.0, 0.5, {"w": 3.0}),
    ],
)
def test_the_middle_is_asked_for_until_the_step_is_short(t, fails_at, resolution, expected):
    table = tables.from_rows("calibrations", [{"curve_id": "w", "t": t, "fails_at": fails_at}] * 2)
    assert next_positions(table, resolution) == expected


def test_methods_are_ranked_before_and_after(study):
    """Who forgets most pays most of it back; equals share a place, and the next is left out."""
    original(study)
    mix(study, "ga", [1.0, 0.5, 0.2, 0.1, 0.0], [0.9, 0.5, 0.2, 0.1, 0.0])
    mix(study, "npo", [1.0, 0.99, 0.97, 0.9, 0.8], [0.9, 0.7, 0.5, 0.3, 0.2])
    mix(study, "rmu", [1.0, 1.0, 1.0, 1.0, 0.96], [0.9, 0.8, 0.7, 0.6, 0.5])
    mix(study, "wga", [1.0, 0.96, 0.5, 0.5, 0.5], [0.9, 0.5, 0.4, 0.3, 0.2])
    mix(study, "none", [1.0, 0.96, 0.5, 0.5, 0.5], [None] * 5)
    rows = rows_of(study)
    assert {k: (r["before"], r["rank_before"]) for k, r in rows.items()} == {
        "ga": (0.0, 1),
        "npo": (0.2, 2),
        "wga": (0.2, 2),
        "rmu": (0.5, 4),
        "none": (None, None),
    }
    assert {k: (r["after"], r["rank_after"]) for k, r in rows.items()} == {
        "npo": (0.5, 1),
        "rmu": (0.5, 1),
        "wga": (0.5, 1),
        "ga": (0.9, 4),
        "none": (None, None),
    }


def test_ranks_are_of_one_family_forget_set_and_metric_by_its_own_direction(study):
    for size in ("forget05", "forget10"):
        original(study, 1.0, size)
        mix(study, f"npo {size}", [1.0] * 5, [0.2] * 5, forget_size=size)
        mix(study, f"ga {size}", [1.0] * 5, [0.1] * 5, forget_size=size)
    mix(study, "far", [1.0] * 5, [0.9] * 5, family="extrapolation")
    for row in list(study.points):
        if "npo" in row["point_id"]:
            study.score(row["point_id"], {"model_utility": 0.6})
        elif "ga" in row["point_id"]:
            study.score(row["point_id"], {"model_utility": 0.4})
    found = calibrate(
        *study.tables(),
        Calibration(curves=["mixing", "extrapolation"], rank_by=["forget_es", "model_utility"]),
    ).to_pylist()
    places = {(r["curve_id"], r["rank_by"]): r["rank_after"] for r in found}
    for size in ("forget05", "forget10"):
        assert places[f"ga {size}", "forget_es"] == places[f"npo {size}", "model_utility"] == 1
        assert places[f"npo {size}", "forget_es"] == places[f"ga {size}", "model_utility"] == 2
    assert places["far", "forget_es"] == 1
    assert places["far", "model_utility"] is None


def test_before_is_at_1_wherever_the_walk_ends(study):
    original(study)
    mix(study, "mox", [1.0] * 4, [0.9, 0.6, 0.4, 0.1], ts=[0.0, 0.5, 1.0, 8.0], family="x")
    mix(study, "far", [1.0] * 3, [0.9, 0.6, 0.4], ts=[0.0, 0.5, 2.0], family="x")
    rows = rows_of(study, curves=["x"])
    assert (rows["mox"]["before"], rows["mox"]["after"]) == (0.4, 0.1)
    assert (rows["far"]["before"], rows["far"]["after"]) == (0.4, 0.4)


def test_other_families_and_single_checkpoints_are_left_out(study):
    original(study)
    mix(study, "npo", [1.0] * 5)
    mix(study, "far", [1.0] * 5, family="extrapolation")
    assert set(rows_of(study)) == {"npo"}


def test_the_order_of_rows_is_irrelevant(study):
    rng = np.random.default_rng(0)
    original(study)
    for name in "abc":
        mix(study, name, list(rng.uniform(0.9, 1, 5)), list(rng.uniform(0, 1, 5)))
    points, scores = study.tables()
    mixed = [table.take(rng.permutation(len(table))) for table in (points, scores)]
    assert calibrate(*mixed, Calibration()).equals(calibrate(points, scores, Calibration()))


def test_methods_may_be_calibrated_and_ranked_by_scores_after_an_attack(study):
    mix(original(study, 0.8), "npo", [0.8, 0.8, 0.8, 0.8, 0.8], [0.5] * 5)
    for at, (retain, forget) in enumerate(
        [(0.8, 0.9), (0.78, 0.7), (0.77, 0.6), (0.3, 0.2), (0.1, 0.1)]
    ):
        study.single(
            f"npo@{at}!", "attacked", {"retain_es": retain, "forget_es": forget},
            attack="quantize", strength=4.0, attacked=f"npo@{at}",
        )  # fmt: skip
    study.single("original!", "attacked", {"retain_es": 0.8}, attack="quantize", strength=4.0,
                 attacked="original forget05")  # fmt: skip
    asked = {"metric": "retain_es after quantize@4", "rank_by": ("forget_es  after quantize",)}
    row = rows_of(study, **asked)["npo"]
    assert (row["at_original"], row["t"], row["value"], row["fails_at"]) == (0.8, 0.5, 0.77, 0.75)
    assert (row["rank_by"], row["before"], row["after"]) == ("forget_es after quantize", 0.1, 0.6)
    assert row["rank_after"] == 1
