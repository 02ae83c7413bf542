"""Known answers of what came back, by hand."""

import pytest

from raymcu.analysis.recoveries import attacked_points, knows, recovered_share, recoveries
from raymcu.analysis.recovery_parts import keep_parts
from raymcu.analysis.relearning import area, first_past, relearning_curves
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder


def attacked(study, of, label, values, metric="forget_es", attack="relearn"):
    """Attack a point at each strength; None is a point without the score."""
    for strength, value in values.items():
        study.single(
            f"{of}@{strength}", "attacked", {metric: value},
            label=f"{label} after {attack}@{strength}", attack=attack, strength=strength,
            attacked=of,
        )  # fmt: skip
    return study


@pytest.fixture
def relearned(study):
    study.single("o", "original", {"forget_es": 0.9}, label="original")
    study.single("r", "retrained", {"forget_es": 0.1}, label="retrained")
    study.single("u", "unlearner", {"forget_es": 0.1}, label="npo/seed0")
    attacked(study, "o", "original", {5.0: 0.9, 10.0: 1.0})
    attacked(study, "r", "retrained", {5.0: 0.1, 10.0: 0.5})
    return attacked(study, "u", "npo/seed0", {5.0: 0.5, 10.0: 0.9})


def rows(study):
    found = recoveries(*study.tables())
    assert found.schema.equals(tables.SCHEMAS["recoveries"])
    return {(row["attacked"], row["strength"]): row for row in found.to_pylist()}


def test_the_share_that_came_back(relearned):
    row = rows(relearned)["u", 5.0]
    assert (row["label"], row["metric"], row["part"]) == ("npo/seed0", "forget_es", "all")
    assert (row["before"], row["after"]) == (0.1, 0.5)
    assert (row["original_before"], row["original_after"]) == (0.9, 0.9)
    assert (row["retrained_before"], row["retrained_after"]) == (0.1, 0.1)
    assert row["recovered"] == pytest.approx(0.5)
    assert row["relative"] == pytest.approx(0.5)
    assert row["note"] is None
    assert rows(relearned)["u", 10.0]["recovered"] == pytest.approx(1.0)


def test_the_original_recovers_nothing_and_the_retrained_model_learns_anew(relearned):
    found = rows(relearned)
    assert found["o", 10.0]["recovered"] is None
    assert "original itself" in found["o", 10.0]["note"]
    assert found["r", 10.0]["recovered"] == pytest.approx(0.5)
    assert found["r", 10.0]["relative"] == pytest.approx(0.0)


def test_every_point_knows_the_models_attacked_alike(relearned):
    points, _ = relearned.tables()
    (one,) = (p for p in attacked_points(points) if p.row["point_id"] == "u@5.0")
    assert one.before == {"original": "o", "retrained": "r"}
    assert one.after == {"original": "o@5.0", "retrained": "r@5.0"}
    assert one.ids == ("u@5.0", "u", "o", "r", "o@5.0", "r@5.0")


def test_a_model_that_a_walk_starts_from_stays_what_it_is(relearned):
    more = {"setting": None, "family": "mixing", "role": "walk", "label": "mixing alpha=0"}
    relearned.points.append({"point_id": "o", "forget_size": "forget05", "t": 0.0, **more})
    assert rows(relearned)["u", 5.0]["recovered"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("metric", "before", "after", "original", "expected"),
    [
        ("forget_es", 0.1, 0.3, 0.9, 0.25),
        ("forget_loss", 3.0, 2.0, 1.0, 0.5),  # a higher loss is more forgotten
        ("forget_quality_log10", -1.0, -5.0, -9.0, 0.5),
        ("model_utility", 0.4, 0.5, 0.6, 0.5),
        ("retain_loss", 2.0, 1.5, 1.0, 0.5),
        ("privleak", 10.0, 40.0, 70.0, 0.5),  # of no direction
        ("forget_es", 0.9, 0.1, 0.9, None),  # nothing was forgotten
        ("forget_es", 0.95, 0.5, 0.9, None),  # it knew more than the original
        ("forget_loss", 0.5, 1.0, 1.0, None),
        ("model_utility", 0.7, 0.6, 0.6, None),
        ("forget_es", 0.899, 0.9, 0.9, None),  # within the tolerance
        ("forget_es", None, 0.4, 0.9, None),
        ("forget_es", 0.1, 0.4, None, None),
    ],
)
def test_shares_by_hand(metric, before, after, original, expected):
    value, note = recovered_share(metric, before, after, original)
    assert value == (None if expected is None else pytest.approx(expected))
    assert (note is None) == (expected is not None)


def test_what_a_larger_score_means():
    more = ("forget_es", "verbmem", "retain_es", "model_utility", "forget_fluency", "ou_util")
    assert {knows(name) for name in more} == {1}
    assert {knows(name) for name in ("forget_loss", "ou_mem", "retain_loss")} == {-1}
    assert {knows(name) for name in ("privleak", "mia_loss_auc", "of another raymcu")} == {0}


def test_areas_and_first_steps_by_hand():
    assert area([5.0, 10.0], [0.5, 1.0]) == pytest.approx(0.5)
    assert area([10.0], [1.0]) == pytest.approx(0.5)
    assert area([5.0, 20.0], [1.0, 1.0]) == pytest.approx((2.5 + 15) / 20)
    assert first_past([5.0, 10.0], [0.4, 0.5]) == 10.0
    assert first_past([5.0, 10.0], [0.4, 0.49]) is None


def test_a_relearning_curve_beside_the_retrained_models(relearned):
    found = relearning_curves(recoveries(*relearned.tables()), {"relearn"}, {"forget05": "r"})
    assert found.schema.equals(tables.SCHEMAS["relearning_curves"])
    rows = {row["attacked"]: row for row in found.to_pylist()}
    assert rows.keys() == {"r", "u"}
    row = rows["u"]
    assert (row["num_strengths"], row["longest"], row["threshold"]) == (2, 10.0, 0.5)
    assert (row["area"], row["steps_to"]) == (pytest.approx(0.5), 5.0)
    # (0 + 0) / 2 * 5 + (0 + .5) / 2 * 5 over 10
    assert (row["retrained_area"], row["retrained_steps_to"]) == (pytest.approx(0.125), 10.0)
    assert row["excess"] == pytest.approx(0.375)


def test_an_attack_whose_zero_is_not_the_point_has_no_curve(relearned):
    assert not len(relearning_curves(recoveries(*relearned.tables()), {"noise"}, {}))


def _measured(values):
    """Make measurements of the forget set: p of each example's one token that it is sure of."""
    return [
        {"probe": "forget", "example": number, "example_key": f"key{number}",
         "question_kind": "question", "answer_kind": "answer", "answer_index": 0,
         "num_prompt_tokens": 3, "num_question_tokens": 3, "logprobs": [value],
         "hits": [value > -0.7], "stops": [False], "answer": "a"}
        for number, value in enumerate(values)
    ]  # fmt: skip


@pytest.fixture
def folder(relearned, tmp_path):
    """Return a run folder: loss 0 where known, 2 where not; relearned on examples 0 and 1."""
    run = RunFolder(str(tmp_path))
    losses = {
        "o": [0, 0, 0, 0], "r": [2, 2, 2, 2], "u": [2, 2, 2, 2],
        "u@5.0": [0, 0, 1, 2], "u@10.0": [0, 0, 0, 1],
        "r@5.0": [0, 0, 2, 2], "o@5.0": [0, 0, 0, 0],
    }  # fmt: skip
    for point, values in losses.items():
        rows = [{"point_id": point, **row} for row in _measured([-float(v) for v in values])]
        run.write_part("measurements", point, tables.from_rows("measurements", rows))
        if "@" in point:
            tuned = [{"point_id": point, "example_key": f"key{n}"} for n in (0, 1)]
            run.write_part("tuned", point, tables.from_rows("tuned", tuned))
    return run


def parts(run, key="u@5.0"):
    return {
        (row["metric"], row["part"]): row
        for row in run.read_part("recoveries", key).to_pylist()
        if row["metric"] == "forget_loss"
    }


def test_held_out_facts_are_apart_from_those_it_was_tuned_on(folder, relearned):
    attacked = attacked_points(relearned.tables()[0])
    keep_parts(folder, attacked)
    rows = parts(folder)
    held, tuned = rows["forget_loss", "held_out"], rows["forget_loss", "tuned"]
    assert (held["before"], held["after"], held["original_before"]) == (2.0, 1.5, 0.0)
    assert held["recovered"] == pytest.approx(0.25)
    assert (tuned["after"], tuned["recovered"]) == (0.0, pytest.approx(1.0))
    assert (held["retrained_after"], tuned["retrained_after"]) == (2.0, 0.0)
    assert parts(folder, "u@10.0")["forget_loss", "held_out"]["recovered"] == pytest.approx(0.75)
    (anew,) = (r for k, r in parts(folder, "r@5.0").items() if k[1] == "held_out")
    assert anew["recovered"] == pytest.approx(0.0)


def test_parts_are_made_once_and_again_only_where_something_is_new(folder, relearned, monkeypatch):
    attacked = attacked_points(relearned.tables()[0])
    keep_parts(folder, attacked)
    written = []
    write = RunFolder.write_part
    monkeypatch.setattr(
        RunFolder, "write_part", lambda run, *told: (written.append(told[:2]), write(run, *told))
    )
    keep_parts(folder, attacked)
    assert written == []
    rows = [{"point_id": "u@5.0", "example_key": "key0"}]
    folder.write_part("tuned", "u@5.0", tables.from_rows("tuned", rows))
    written.clear()
    keep_parts(folder, attacked)
    assert written == [("recoveries", "u@5.0")]
    assert parts(folder)["forget_loss", "tuned"]["after"] == 0.0
    assert parts(folder)["forget_loss", "held_out"]["after"] == pytest.approx(1.0)
    keep_parts(folder, [one for one in attacked if one.row["attacked"] != "u"])
    assert folder.parts("recoveries") == ["o@5.0", "r@5.0"]
