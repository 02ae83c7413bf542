"""Findings of whole studies."""

import numpy as np
import pytest

from raymcu.analysis.curves import analyze
from raymcu.store import tables

TS = [0.0, 0.25, 0.5, 0.75, 1.0]
FLAT = [1.0, 1.0, 1.0, 1.0, 1.0]


def findings_of(study, tolerance=0.1):
    findings, metric_findings = analyze(*study.tables(), tolerance)
    assert findings.schema.equals(tables.SCHEMAS["findings"])
    assert metric_findings.schema.equals(tables.SCHEMAS["metric_findings"])
    by_metric = {(row["curve_id"], row["metric"]): row for row in metric_findings.to_pylist()}
    return {row["curve_id"]: row for row in findings.to_pylist()}, by_metric


def test_findings_say_where_the_barriers_are(study):
    study.curve(
        "c",
        {"retain_loss": [1.0, 1.0, 1.3, 1.0, 1.0], "forget_loss": [2.0, 2.5, 3.0, 2.5, 4.0]},
        TS,
    )
    row = findings_of(study)[0]["c"]
    assert row["num_points"] == 5
    assert row["retain_barrier"] == pytest.approx(0.3)
    assert row["retain_barrier_t"] == 0.5
    assert row["forget_barrier"] == pytest.approx(1.0)
    assert row["forget_barrier_t"] == 0.75
    assert row["retain_curvature"] == pytest.approx(0.6)
    assert row["forget_curvature"] == pytest.approx(2.0)
    assert row["retain_variation"] == pytest.approx(0.6)
    assert row["forget_variation"] == pytest.approx(3.0)
    assert (row["setting"], row["family"], row["forget_size"]) == ("Rand", "linear", "forget05")
    assert (row["first"], row["second"]) == ("npo/seed0", "npo/seed1")


@pytest.mark.parametrize(
    ("tolerance", "is_connected"), [(0.3, False), (0.5, True), (0.49, False), (0.0, False)]
)
def test_curve_is_connected_iff_both_barriers_are_within_the_tolerance(
    study, tolerance, is_connected
):
    study.curve(
        "c", {"retain_loss": [1, 1, 1.5, 1, 1], "forget_loss": [1, 1, 1, 0.75, 1]}, TS
    )  # fmt: skip
    row = findings_of(study, tolerance)[0]["c"]
    assert row["is_connected"] is is_connected
    assert row["tolerance"] == tolerance


def test_straight_curve_is_connected_without_any_tolerance(study):
    study.curve("c", {"retain_loss": FLAT, "forget_loss": TS}, TS)
    assert findings_of(study, 0.0)[0]["c"]["is_connected"] is True


def test_interior_points_without_scores_are_passed_over(study):
    study.curve(
        "c", {"retain_loss": [1, None, 9, 1, 1], "forget_loss": [1, 1, None, 1, 1]}, TS
    )  # fmt: skip
    row = findings_of(study)[0]["c"]
    assert row["num_points"] == 3
    assert row["retain_barrier"] == 0.0


@pytest.mark.parametrize("metric", ["retain_loss", "forget_loss"])
@pytest.mark.parametrize("end", [0, 4])
def test_curve_without_an_end_has_no_findings(study, metric, end):
    losses = {"retain_loss": list(FLAT), "forget_loss": list(FLAT)}
    losses[metric][end] = None
    assert findings_of(study.curve("c", losses, TS)) == ({}, {})


def test_curve_without_scores_has_no_findings(study):
    assert findings_of(study.curve("c", {}, TS)) == ({}, {})


def test_two_ends_alone_give_no_verdict(study):
    study.curve("c", {"retain_loss": [1, 2], "forget_loss": [1, 2]}, [0.0, 1.0])
    row = findings_of(study)[0]["c"]
    assert (row["retain_barrier"], row["forget_barrier"], row["num_points"]) == (0.0, 0.0, 2)
    assert row["is_connected"] is None
    assert row["retain_curvature"] is None


def test_single_checkpoints_are_ignored(study):
    study.single("original", "original", {"retain_loss": 1.0, "forget_loss": 1.0})
    assert findings_of(study) == ({}, {})


def test_walks_have_no_findings(study):
    losses = {"retain_loss": FLAT, "forget_loss": TS}
    study.curve("w", losses, TS, setting=None, family="mixing", first="original", role="walk")
    assert findings_of(study) == ({}, {})


def test_metric_findings_follow_the_metric_direction(study):
    study.curve(
        "c",
        {
            "retain_loss": FLAT,
            "forget_loss": FLAT,
            "model_utility": [0.5, 0.4, 0.7, 0.6, 0.6],
            "forget_rouge": [0.5, 0.2, 0.7, 0.6, 0.3],
        },
        TS,
    )
    found = findings_of(study)[1]
    row = found["c", "model_utility"]
    assert (row["at_first"], row["at_second"]) == (0.5, 0.6)
    assert (row["minimum"], row["maximum"], row["best_t"]) == (0.4, 0.7, 0.5)
    assert row["spread"] == pytest.approx(0.3)
    assert row["interior_beats_ends"] is True
    assert found["c", "forget_rouge"]["best_t"] == 0.25
    assert found["c", "forget_loss"]["interior_beats_ends"] is False
    assert found["c", "forget_loss"]["best_t"] == 0.0


def test_interior_must_clearly_beat_both_ends(study):
    better = [0.6, 0.6 + 1e-10, 0.55, 0.5, 0.5]
    study.curve("c", {"retain_loss": FLAT, "forget_loss": FLAT, "model_utility": better}, TS)
    assert findings_of(study)[1]["c", "model_utility"]["interior_beats_ends"] is False


def test_metric_that_is_null_somewhere_is_described_where_it_is_not(study):
    study.curve(
        "c",
        {
            "retain_loss": FLAT,
            "forget_loss": FLAT,
            "forget_quality_p": [None, 0.2, 0.3, None, 0.1],
            "forget_quality_d": [None] * 5,
        },
        TS,
    )
    found = findings_of(study)[1]
    row = found["c", "forget_quality_p"]
    assert (row["at_first"], row["at_second"], row["best_t"]) == (None, 0.1, 0.5)
    assert row["interior_beats_ends"] is None
    assert ("c", "forget_quality_d") not in found


def test_metric_of_another_raymcu_has_no_best(study):
    study.curve("c", {"retain_loss": FLAT, "forget_loss": FLAT, "my_lab": [1, 2, 3, 2, 1]}, TS)
    row = findings_of(study)[1]["c", "my_lab"]
    assert (row["spread"], row["best_t"], row["interior_beats_ends"]) == (2.0, None, None)


def test_points_shared_by_curves_count_for_each(study):
    losses = {"retain_loss": FLAT, "forget_loss": FLAT}
    study.curve("a", losses, TS)
    study.points += [row | {"curve_id": "b", "family": "quadratic"} for row in study.points]
    assert set(findings_of(study)[0]) == {"a", "b"}


def test_order_of_rows_is_irrelevant(study):
    rng = np.random.default_rng(0)
    for name in "abc":
        values = {key: rng.uniform(0, 1, 5) for key in ("retain_loss", "forget_loss", "retain_em")}
        study.curve(name, values, TS, setting="Met" if name == "b" else "Rand")
    points, scores = study.tables()
    mixed = [table.take(rng.permutation(len(table))) for table in (points, scores)]
    for straight, shuffled in zip(
        analyze(points, scores, 0.1), analyze(*mixed, 0.1), strict=True
    ):  # fmt: skip
        assert shuffled.equals(straight)


def test_a_metric_has_a_barrier_where_it_gets_worse_than_its_chord(study):
    flat = {"retain_loss": FLAT, "forget_loss": FLAT}
    study.curve(
        "c",
        flat
        | {
            "retain_accuracy": [1.0, 0.9, 0.6, 1.0, 0.9],
            "test_accuracy": [0.9, 0.9, 0.9, 0.9, 0.9],
            "forget_accuracy": [0.1, 0.0, 0.8, 0.3, 0.3],
        },
        TS,
    )
    found = findings_of(study)[1]
    kept, unseen, forgotten = (
        found["c", f"{probe}_accuracy"] for probe in ("retain", "test", "forget")
    )
    assert (kept["barrier"], kept["barrier_t"]) == (pytest.approx(0.35), 0.5)
    assert (unseen["barrier"], unseen["barrier_t"]) == (0.0, 0.0)
    assert (forgotten["barrier"], forgotten["barrier_t"]) == (pytest.approx(0.6), 0.5)


def test_two_ends_alone_have_no_barrier_of_a_metric(study):
    ends = {name: [1.0, 1.0] for name in ("retain_loss", "forget_loss", "retain_accuracy")}
    study.curve("c", ends, [0.0, 1.0])
    assert findings_of(study)[1]["c", "retain_accuracy"]["barrier"] is None


def test_whole_texts_judge_a_curve_where_both_ends_were_asked_them(study):
    """So on MUSE and WMDP, where the other probes are quiz questions."""
    losses = {
        "retain_loss": FLAT,
        "forget_loss": FLAT,
        "retain_text_loss": [1.0, 1.0, 1.3, 1.0, 1.0],
        "forget_text_loss": [2.0, 2.0, 1.8, 2.0, 2.0],
    }
    study.curve("texts", losses, TS)
    study.curve("answers", losses | {"retain_text_loss": [None, *FLAT[1:]]}, TS)
    rows = findings_of(study)[0]
    assert rows["texts"]["judged_by"] == "text_loss"
    assert rows["texts"]["retain_barrier"] == pytest.approx(0.3)
    assert rows["texts"]["forget_barrier"] == pytest.approx(0.2)
    assert (rows["answers"]["judged_by"], rows["answers"]["retain_barrier"]) == ("loss", 0.0)


def test_fragmentation_is_spread_in_units_of_what_single_models_span(study):
    # PrivLeak of figure 4: the models span 120, a connected path leads from -100 to +80.
    losses = {"retain_loss": FLAT, "forget_loss": FLAT}
    study.curve("c", losses | {"privleak": [-20.0, -100.0, 0.0, 80.0, 20.0]}, TS)
    study.single("o", "original", {"privleak": -100.0})
    study.single("r", "retrained", {"privleak": 0.0})
    row = findings_of(study)[1]["c", "privleak"]
    assert row["spread"] == 180.0
    assert row["fragmentation"] == pytest.approx(180 / 120)
    assert row["barrier"] == pytest.approx(90.0), "off its chord from -20 to 20, at t = 0.25"
    assert row["barrier_t"] == 0.25


def test_fragmentation_is_of_connected_curves_and_of_what_varies_at_all(study):
    broken = {"retain_loss": [1.0, 1.0, 9.0, 1.0, 1.0], "forget_loss": FLAT}
    rouge = [0.1, 0.9, 0.1, 0.5, 0.105]
    study.curve("broken", broken | {"forget_rouge": rouge}, TS)
    study.curve("flat", {"retain_loss": FLAT, "forget_loss": FLAT, "verbmem": [50.0] * 5}, TS)
    rows = findings_of(study)[1]
    assert rows["broken", "forget_rouge"]["fragmentation"] is None
    assert rows["flat", "verbmem"]["fragmentation"] is None, "no two models differ in it"
