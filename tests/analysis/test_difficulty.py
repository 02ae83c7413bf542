"""How hard a forget set is, by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from raymcu.analysis.curves import analyze, values_of
from raymcu.analysis.difficulty import difficulties, gaps_of, rank_correlations, spearman
from raymcu.analysis.similarity import role_scores
from raymcu.store import tables

TS = [0.0, 0.25, 0.5, 0.75, 1.0]
FLAT = [1.0] * 5


def rows_of(study, steps=None, tolerance=0.1):
    points, scores = study.tables()
    values = values_of(scores)
    found = difficulties(
        *analyze(points, scores, tolerance),
        role_scores(points, values, "original"),
        role_scores(points, values, "retrained"),
        gaps_of(points),
        steps or {},
    )
    assert found.schema.equals(tables.SCHEMAS["difficulties"])
    return {(row["setting"], row["method"]): row for row in found.to_pylist()}


def original(study, **scores):
    return study.single("o", "original", {"forget_loss": 1.0, "retain_loss": 1.0} | scores)


def test_a_straight_and_connected_path_is_no_difficulty(study):
    losses = {"forget_loss": [3.0, 3.5, 4.0, 4.5, 5.0], "retain_loss": FLAT}
    row = rows_of(original(study.curve("c", losses, TS)))["Rand", "npo"]
    assert row["difficulty"] == pytest.approx(0.0, abs=1e-12)
    assert (row["num_curves"], row["num_seeds"], row["deviation"]) == (1, 2, None)


def test_each_part_by_hand(study):
    # Gain 2. Forget loss falls to 1 at 1/2: barrier 2, variation 4 beyond equal ends, and with
    # points 1/4 apart second differences (-2, 4, -2)/1 of steps of 2: curvature 4 = 2·2.
    losses = {"forget_loss": [3.0, 3.0, 1.0, 3.0, 3.0], "retain_loss": FLAT}
    row = rows_of(original(study.curve("c", losses, TS)))["Rand", "npo"]
    assert row["barrier"] == pytest.approx(2 / (2 + 2))
    assert row["variation"] == pytest.approx(4 / (4 + 2))
    bend = 4 / (8 * 0.25**2)
    assert row["curvature"] == pytest.approx(bend / (bend + 2))
    assert row["disconnected"] == 1.0
    parts = [row[name] for name in ("barrier", "curvature", "variation", "disconnected")]
    assert row["difficulty"] == pytest.approx(np.mean(parts))


@pytest.mark.parametrize("num", [5, 9, 17])
def test_of_a_parabola_curvature_says_what_the_barrier_does_on_any_grid(study, num):
    ts = np.linspace(0, 1, num)
    losses = {"forget_loss": list(3 - 4 * ts * (1 - ts)), "retain_loss": [1.0] * num}
    row = rows_of(original(study.curve("c", losses, list(ts))))["Rand", "npo"]
    assert row["barrier"] == pytest.approx(1 / 3)
    assert row["curvature"] == pytest.approx(1 / 3)


def test_a_method_has_the_mean_of_its_curves_and_the_set_that_of_all(study):
    low = [3.0, 3.0, 1.0, 3.0, 3.0]
    for name, first, second, forget in (
        ("a", "npo/seed0", "npo/seed1", low),
        ("b", "npo/seed0", "npo/seed2", [3.0] * 5),
        ("c", "rmu/seed0", "rmu/seed1", [3.0] * 5),
    ):
        losses = {"forget_loss": forget, "retain_loss": FLAT}
        study.curve(name, losses, TS, first=first, second=second)
    rows = rows_of(original(study))
    npo, rmu, every = (rows["Rand", method] for method in ("npo", "rmu", None))
    assert rmu["difficulty"] == 0.0
    assert npo["difficulty"] == pytest.approx(npo["highest"] / 2)
    assert npo["deviation"] == pytest.approx(npo["highest"] / np.sqrt(2))
    assert (npo["lowest"], npo["num_seeds"], npo["disconnected"]) == (0.0, 3, 0.5)
    assert every["difficulty"] == pytest.approx(npo["highest"] / 3)
    assert every["num_curves"] == 3


def test_a_met_curve_counts_for_both_methods(study):
    losses = {"forget_loss": [3.0, 2.0, 2.0, 3.0, 3.0], "retain_loss": FLAT}
    study.curve("c", losses, TS, setting="Met", first="npo/seed0", second="rmu/seed0")
    rows = rows_of(original(study))
    assert rows["Met", "npo"]["difficulty"] == rows["Met", "rmu"]["difficulty"] > 0
    assert rows["Met", "npo"]["num_seeds"] == 1


@pytest.mark.parametrize(
    ("ends", "note"),
    [
        ([1.0] * 5, "the ends gained no more than 0.05 nats of forget loss"),
        ([3.0, None, None, None, 3.0], "it has no point between its ends"),
    ],
)
def test_where_it_is_undefined_it_says_why(study, ends, note):
    losses = {"forget_loss": ends, "retain_loss": FLAT}
    row = rows_of(original(study.curve("c", losses, TS)))["Rand", "npo"]
    assert row["difficulty"] is None
    assert row["note"].startswith(note)


def test_other_measures_stand_beside_it(study):
    losses = {"forget_loss": [3.0] * 5, "retain_loss": [1.5] * 5}
    study.curve("c", losses, TS)
    study.single("r", "retrained", {"forget_loss": 4.0, "retain_loss": 1.0})
    steps = {("forget05", "npo/seed0"): 10, ("forget05", "npo/seed1"): 20}
    row = rows_of(original(study, forget_es=0.8), steps)["Rand", "npo"]
    assert row["memorization"] == 0.8
    assert row["known_loss"] == 1.0
    assert row["likeness"] == -3.0
    assert row["cost"] == pytest.approx(0.25)
    assert row["steps"] == 15


def test_rank_correlation_is_of_forget_sets_where_methods_do_not_differ(study):
    for number, (depth, es) in enumerate([(0.0, 0.2), (0.5, 0.9), (1.0, 0.5)]):
        size = f"forget{number}"
        losses = {"forget_loss": [3.0, 3.0, 3.0 - depth, 3.0, 3.0], "retain_loss": FLAT}
        study.curve(size, losses, TS, forget_size=size)
        scores = {"forget_loss": 1.0, "retain_loss": 1.0, "forget_es": es}
        study.single(f"o{number}", "original", scores, forget_size=size)
    points, scores = study.tables()
    table = difficulties(
        *analyze(points, scores, 0.1), role_scores(points, values_of(scores), "original"),
        {}, gaps_of(points), {},
    )  # fmt: skip
    rows = {row["measure"]: row for row in rank_correlations(table).to_pylist()}
    assert rows["memorization"]["spearman"] == pytest.approx(0.5)  # ranks 1 2 3 and 1 3 2
    assert (rows["memorization"]["num"], rows["memorization"]["over"]) == (3, "forget sets")
    assert rows["known_loss"]["note"] == "one of both is the same everywhere"
    assert rows["steps"]["note"].startswith("takes 3 methods and forget sets at least, and there a")


def test_spearman_is_that_of_scipy_ties_included():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, 12).astype(float)
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
