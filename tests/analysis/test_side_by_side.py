"""Studies side by side, by hand."""

import pytest
from scipy.stats import ttest_1samp

from raymcu.analysis.side_by_side import SCHEMAS, Side, compare, flat, student_interval, wilson


def finding(second, is_connected, **more):
    return {
        "curve_id": second,
        "forget_size": "forget05", "setting": "Met", "family": "linear", "first": "npo/seed0",
        "second": second, "retain_barrier": 0.0, "forget_barrier": 0.1,
        "is_connected": is_connected,
    } | more  # fmt: skip


def side(
    label, losses, *, verdicts=(True, True), space=None, points="p", alike=0.9, hard=(0.1, 0.2)
):
    """Return a study of npo (losses by seed) and rmu, whose forget loss is 2."""
    models = {
        ("forget05", f"npo/seed{n}"): ("unlearner", f"{points}{n}", {"forget_loss": loss})
        for n, loss in enumerate(losses)
    }
    models["forget05", "rmu/seed0"] = ("unlearner", f"{points}r", {"forget_loss": 2.0})
    models["forget05", "npo+cl/seed0"] = ("unlearner", f"{points}c", {"forget_loss": 99.0})
    seconds = ("npo/seed1", "rmu/seed0")
    rows = [finding(s, v, curve_id=f"{label}: {s}") for s, v in zip(seconds, verdicts, strict=True)]
    likeness = [
        {"metric": "loss", "setting": "Met", "family": "linear", "first": a, "second": b,
         "similarity": alike, "forget_size": "forget05"}
        for a, b in (("npo", "rmu"), ("rmu", "npo"))
    ]  # fmt: skip
    difficulty = [
        {"setting": "Met", "family": "linear", "forget_size": "forget05", "method": m,
         "difficulty": d}
        for m, d in (("npo", hard[0]), ("rmu", hard[1]), (None, 0.15))
    ]  # fmt: skip
    sure = {("p0", "forget_loss"): (0.5, 1.5)}
    asked = space or {"name": label, "model": {"seed": 0}}
    return Side(label, asked, rows, models, sure, likeness, difficulty)


def claims(*sides):
    found = compare(sides)
    assert {name: table.schema for name, table in found.items()} == dict(SCHEMAS)
    return {(row["kind"], row["statement"]): row for row in found["claims"].to_pylist()}


def test_what_was_asked_is_told_key_by_key_and_machines_are_no_matter():
    one = {"name": "a", "store": "/x", "methods": [{"name": "npo", "beta": 0.1}], "seeds": [0]}
    other = {"name": "b", "methods": [{"name": "npo", "beta": 0.2}], "seeds": [0]}
    assert dict(flat(one)) == {
        "methods.npo.beta": "0.1",
        "methods.npo.name": '"npo"',
        "seeds": "[0]",
    }
    rows = compare([side("a", [1], space=one), side("b", [1], space=other)])["asked"].to_pylist()
    found = {(row["key"], row["study"]): (row["value"], row["is_same"]) for row in rows}
    assert found["methods.npo.beta", "a"] == ("0.1", False)
    assert found["methods.npo.beta", "b"] == ("0.2", False)
    assert found["seeds", "a"] == ("[0]", True)


def test_curves_and_models_are_matched_by_name():
    sides = [side("a", [1.0], verdicts=(True, False)), side("b", [3.0], verdicts=(True, True))]
    found = compare(sides)
    agreed = {(r["second"], r["is_agreed"], r["num_studies"]) for r in found["curves"].to_pylist()}
    assert agreed == {("npo/seed1", True, 2), ("rmu/seed0", False, 2)}
    rows = [r for r in found["models"].to_pylist() if r["label"] == "npo/seed0"]
    assert [(r["study"], r["value"], r["low"]) for r in rows] == [("a", 1.0, 0.5), ("b", 3.0, 0.5)]
    assert all(row["is_same_point"] for row in rows)


def test_verdicts_and_shares_hold_or_not():
    found = claims(side("a", [1.0], verdicts=(True, False)), side("b", [1.0]))
    one = found["verdict", "Met, forget05, linear: npo/seed0 and npo/seed1 are connected"]
    assert (one["holds_in"], one["num_studies"], one["holds_in_all"]) == (2, 2, True)
    other = found["verdict", "Met, forget05, linear: npo/seed0 and rmu/seed0 are connected"]
    assert other["holds_in_all"] is False
    share = found["connected", "Met, linear: most curves are connected"]
    assert (share["estimate"], share["holds_in"], share["is_sure"]) == (0.75, 1, False)


def test_methods_are_compared_by_their_seeds_means_with_an_interval_over_studies():
    found = claims(side("a", [3.0, 5.0]), side("b", [3.5]), side("c", [3.0]))
    row = found["better", "npo is better than rmu in forget_loss"]
    assert (row["holds_in"], row["num_values"], row["holds_in_all"]) == (3, 3, True)
    assert row["estimate"] == pytest.approx((2 + 1.5 + 1) / 3)
    interval = ttest_1samp([2.0, 1.5, 1.0], 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))
    assert row["is_sure"] is True


def test_of_two_methods_the_better_one_is_named():
    found = claims(side("a", [1.0]), side("b", [1.5]))
    row = found["better", "rmu is better than npo in forget_loss"]
    assert row["estimate"] == pytest.approx(0.75)
    assert row["is_sure"] is False, "two values tell little"


def test_likeness_and_difficulty_are_claims_too():
    found = claims(side("a", [1.0], alike=0.9), side("b", [1.0], alike=0.3, hard=(0.4, 0.3)))
    row = found["alike", "Met, linear: npo and rmu are alike"]
    assert (row["holds_in"], row["num_values"], row["estimate"]) == (1, 2, pytest.approx(0.6))
    hard = [row for (kind, _), row in found.items() if kind == "harder"]
    assert [(row["holds_in"], row["num_studies"]) for row in hard] == [(1, 2)]


def test_intervals_by_hand():
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert student_interval([1.0]) == (None, None)


def test_what_studies_share_counts_once():
    one = side("a", [3.0, 5.0])
    found = claims(one, Side("b", *(getattr(one, n) for n in Side.__match_args__[1:])))
    better = found["better", "npo is better than rmu in forget_loss"]
    assert (better["holds_in"], better["num_values"], better["low"]) == (2, 1, None)
    assert found["connected", "Met, linear: most curves are connected"]["num_values"] == 2
    assert found["alike", "Met, linear: npo and rmu are alike"]["num_values"] == 1
