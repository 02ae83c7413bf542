"""How alike methods are, by hand."""

import numpy as np
import pytest

from raymcu.analysis.curves import analyze, values_of
from raymcu.analysis.similarity import ordered, originals_of, similarities
from raymcu.store import tables

TS = [0.0, 0.5, 1.0]
MET = {"setting": "Met", "first": "npo/seed0", "second": "rmu/seed0"}


def rows_of(study, tolerance=0.1):
    points, scores = study.tables()
    findings, metric_findings = analyze(points, scores, tolerance)
    originals = originals_of(points, values_of(scores))
    found = similarities(findings, metric_findings, originals)
    assert found.schema.equals(tables.SCHEMAS["similarities"])
    return {(row["metric"], row["first"], row["second"]): row for row in found.to_pylist()}


def original(study, **scores):
    return study.single("o", "original", {"forget_loss": 1.0, "retain_loss": 1.0} | scores)


def test_in_forget_loss_it_is_one_minus_the_barrier_over_the_gain(study):
    # Ends gain 4 and 2 over the original, 3 in the mean; the chord at 1/2 is 4, the curve 3.25.
    losses = {"forget_loss": [5.0, 3.25, 3.0], "retain_loss": [1.0, 1.0, 1.0]}
    rows = rows_of(original(study.curve("c", losses, TS, **MET)))
    row = rows["forget_loss", "npo", "rmu"]
    assert row["similarity"] == pytest.approx(1 - 0.75 / 3)
    assert (row["barrier"], row["scale"], row["scaled_by"]) == (0.75, 3.0, "gained")
    assert row["num_curves"] == 1
    assert row["note"] is None
    assert rows["loss", "npo", "rmu"]["similarity"] == row["similarity"]


def test_a_path_through_the_original_is_at_zero_and_one_below_it_is_negative(study):
    losses = {"forget_loss": [3.0, 1.0, 3.0], "retain_loss": [1.0, 1.0, 1.0]}
    study.curve("a", losses, TS, **MET)
    study.curve("b", losses | {"forget_loss": [3.0, 0.5, 3.0]}, TS, **MET, family="quadratic")
    points, scores = original(study).tables()
    found = similarities(
        *analyze(points, scores, 0.1), originals_of(points, values_of(scores))
    ).to_pylist()
    by_family = {r["family"]: r["similarity"] for r in found if r["metric"] == "loss"}
    assert by_family == {"linear": 0.0, "quadratic": pytest.approx(-0.25)}


def test_the_larger_of_both_barriers_counts_in_loss(study):
    losses = {"forget_loss": [3.0, 2.8, 3.0], "retain_loss": [1.0, 2.0, 1.0]}
    rows = rows_of(original(study.curve("c", losses, TS, **MET)))
    assert rows["loss", "npo", "rmu"]["similarity"] == pytest.approx(1 - 1.0 / 2)
    assert rows["forget_loss", "npo", "rmu"]["similarity"] == pytest.approx(1 - 0.2 / 2)
    assert rows["retain_loss", "npo", "rmu"]["similarity"] == pytest.approx(1 - 1.0 / 2)


def test_what_is_to_be_kept_is_scaled_by_what_the_ends_kept(study):
    # Utility's worst is 0; the ends keep 0.6 and 0.4, 0.5 in the mean, and the path loses 0.2.
    scores = {"forget_loss": [3.0, 3.0, 3.0], "retain_loss": [1.0, 1.0, 1.0],
              "model_utility": [0.6, 0.3, 0.4]}  # fmt: skip
    row = rows_of(original(study.curve("c", scores, TS, **MET)))["model_utility", "npo", "rmu"]
    assert row["similarity"] == pytest.approx(1 - 0.2 / 0.5)
    assert row["scaled_by"] == "kept"


def test_of_a_metric_to_forget_lower_may_be_better(study):
    scores = {"forget_loss": [3.0, 3.0, 3.0], "retain_loss": [1.0, 1.0, 1.0],
              "forget_rouge": [0.2, 0.4, 0.4]}  # fmt: skip
    rows = rows_of(original(study.curve("c", scores, TS, **MET), forget_rouge=0.9))
    # Gains 0.7 and 0.5, mean 0.6; chord 0.3, so 0.1 worse.
    assert rows["forget_rouge", "npo", "rmu"]["similarity"] == pytest.approx(1 - 0.1 / 0.6)


def test_it_does_not_depend_on_the_direction_of_the_walk(study):
    losses = {"forget_loss": [5.0, 3.25, 3.0], "retain_loss": [1.0, 1.5, 1.2]}
    there = rows_of(original(study.curve("c", losses, TS, **MET)))
    back = type(study)()
    turned = {name: values[::-1] for name, values in losses.items()}
    swapped = {"setting": "Met", "first": "rmu/seed0", "second": "npo/seed0"}
    back = rows_of(original(back.curve("c", turned, TS, **swapped)))
    for metric in ("loss", "forget_loss", "retain_loss"):
        values = {
            rows[metric, one, other]["similarity"]
            for rows in (there, back)
            for one, other in (("npo", "rmu"), ("rmu", "npo"))
        }
        assert len(values) == 1


def test_both_orders_of_a_mixed_setting_and_all_seeds_are_averaged(study):
    flat = [1.0, 1.0, 1.0]
    for name, middle, first, second in (
        ("a", 3.0, "npo+cl/seed0", "rmu/seed0"),
        ("b", 2.0, "rmu+cl/seed0", "npo/seed0"),
    ):
        losses = {"forget_loss": [3.0, middle, 3.0], "retain_loss": flat}
        study.curve(name, losses, TS, setting="Met-CL-Non-CL", first=first, second=second)
    for seed, middle in ((1, 3.0), (2, 1.0)):
        losses = {"forget_loss": [3.0, middle, 3.0], "retain_loss": flat}
        study.curve(f"r{seed}", losses, TS, setting="CL-Non-CL", first="npo+cl/seed0",
                    second=f"npo/seed{seed}")  # fmt: skip
    rows = rows_of(original(study))
    row = rows["loss", "rmu", "npo"]
    assert (row["similarity"], row["lowest"], row["highest"]) == (0.75, 0.5, 1.0)
    assert (row["setting"], row["num_curves"]) == ("Met-CL-Non-CL", 2)
    itself = rows["loss", "npo", "npo"]
    assert (itself["setting"], itself["similarity"]) == ("Met-CL-Non-CL", 0.5)


@pytest.mark.parametrize(
    ("ends", "start", "note"),
    [
        ([1.02, 1.0, 1.02], {}, "the ends gained no more than 0.05 in forget_loss over the orig"),
        ([3.0, 3.0, 3.0], {"forget_loss": None}, "there is no score of the original to compare"),
    ],
)
def test_where_nothing_was_gained_it_is_undefined_and_says_why(study, ends, start, note):
    losses = {"forget_loss": ends, "retain_loss": [1.0, 1.0, 1.0]}
    row = rows_of(original(study.curve("c", losses, TS, **MET), **start))["loss", "npo", "rmu"]
    assert row["similarity"] is None
    assert row["note"].startswith(note)


def test_a_metric_that_is_missing_at_an_end_is_undefined(study):
    scores = {"forget_loss": [3.0, 3.0, 3.0], "retain_loss": [1.0, 1.0, 1.0],
              "forget_rouge": [0.2, 0.4, None]}  # fmt: skip
    rows = rows_of(original(study.curve("c", scores, TS, **MET), forget_rouge=0.9))
    row = rows["forget_rouge", "npo", "rmu"]
    assert (row["similarity"], row["num_curves"]) == (None, 1)
    assert row["note"] == "it is not measured at both ends and between them"


def test_alike_methods_stand_together(study):
    # a and c are alike, b and d are; nothing else is.
    near = {("a", "c"): 0.9, ("b", "d"): 0.8}
    methods = list("abcd")
    similarity = {
        (one, other): near.get(tuple(sorted((one, other))), 0.1)
        for one in methods
        for other in methods
        if one != other
    }
    found = ordered(methods, similarity)
    assert {frozenset(found[:2]), frozenset(found[2:])} == {frozenset("ac"), frozenset("bd")}
    assert found[0] < found[-1]


def test_order_of_the_file_stays_where_there_is_nothing_to_tell():
    methods = ["b", "a", "d", "c"]
    assert ordered(methods, {}) == methods
    assert ordered(methods[:2], {("a", "b"): 0.5, ("b", "a"): 0.5}) == methods[:2]


def test_every_row_of_a_matrix_has_its_place(study):
    rng = np.random.default_rng(0)
    methods = [f"m{number}" for number in range(6)]
    for a, one in enumerate(methods):
        for other in methods[a + 1 :]:
            losses = {"forget_loss": [3.0, 3.0 - rng.uniform(), 3.0], "retain_loss": [1, 1, 1]}
            ends = {"first": f"{one}/seed0", "second": f"{other}/seed0"}
            study.curve(f"{one}{other}", losses, TS, setting="Met", **ends)
    rows = [row for key, row in rows_of(original(study)).items() if key[0] == "loss"]
    assert len(rows) == 30
    places = {row["first"]: row["first_place"] for row in rows}
    assert sorted(places.values()) == list(range(6))
    assert all(row["second_place"] == places[row["second"]] for row in rows)
