"""Known answers of the audit of metrics, by hand."""

import numpy as np
import pytest

from raymcu.analysis.audit import (
    Chosen,
    auc,
    audit,
    best_threshold,
    harmonic,
    ou_q,
    ou_r,
    symmetric,
)
from raymcu.analysis.recoveries import recoveries
from raymcu.store import tables
from raymcu.study.after import How
from raymcu.study.audit import Audit, is_named

CHOSEN = Chosen(How("quantize", 4.0), How("relearn", 50.0), frozenset({"relearn"}))
ASKED = Audit(holds=("pos_*",), lacks=("retrained", "neg_*"))
UNLEARNED = {  # label: utility, forget ES before, after 4 bits, after relearning
    "npo/seed0": (0.6, 0.1, 0.2, 0.5),
    "ga/seed0": (0.6, 0.2, 0.25, 0.4),
    "rmu/seed0": (0.6, 0.3, 0.45, 0.9),
    "ga/seed1": (0.1, 0.05, 0.06, 0.9),
}  # ga/seed1 has lost its utility


@pytest.fixture
def audited(study):
    def point(label, role, utility, es):
        return study.single(label, role, {"model_utility": utility, "forget_es": es}, label=label)

    point("original", "original", 0.6, 0.9)
    point("retrained", "retrained", 0.6, 0.1)
    for label, es in (("pos_a", 0.8), ("pos_b", 0.6), ("neg_a", 0.2)):
        point(label, "model", 0.6, es)
    for label, (utility, es, *_) in UNLEARNED.items():
        point(label, "unlearner", utility, es)
    after = {label: told[2:] for label, told in UNLEARNED.items()}
    after |= {"original": (0.9, 0.9), "retrained": (0.1, 0.2)}
    for label, (bits, relearned) in after.items():
        for attack, strength, value in (("quantize", 4.0, bits), ("relearn", 50.0, relearned)):
            study.single(
                f"{label} {attack}", "attacked", {"forget_es": value},
                label=f"{label} after {attack}", attack=attack, strength=strength, attacked=label,
            )  # fmt: skip
    return study


def rows(study, asked=ASKED, chosen=CHOSEN, metric="forget_es"):
    points, scores = study.tables()
    found = audit(points, scores, recoveries(points, scores), asked, chosen)
    assert found.schema.equals(tables.SCHEMAS["metric_audits"])
    return {
        (row["name"], row["attack"]): row for row in found.to_pylist() if row["metric"] == metric
    }


def test_faithfulness_tells_the_pools_apart(audited):
    found = rows(audited)
    row = found["faithfulness", None]
    # holds .8, .6; lacks .1, .2: all four pairs the right way round
    assert (row["value"], row["num_models"]) == (1.0, 4)
    assert found["threshold", None]["value"] == pytest.approx(0.4)
    assert found["accuracy", None]["value"] == 1.0
    utility = rows(audited, metric="model_utility")["faithfulness", None]
    assert utility["value"] == 0.5


def test_pearson_is_over_models_before_against_after(audited):
    found = rows(audited)
    before = [told[1] for told in UNLEARNED.values()]
    for attack, place in (("quantize", 2), ("relearn", 3)):
        after = [told[place] for told in UNLEARNED.values()]
        row = found["pearson", attack]
        assert row["value"] == pytest.approx(np.corrcoef(before, after)[0, 1])
        assert (row["num_models"], row["num_seeds"]) == (4, 1)
        assert (row["low"], row["high"]) == (None, None)


def test_q_and_r_are_of_models_that_keep_their_utility_and_count_as_unlearned(audited):
    found = rows(audited)
    q = found["ou_q", "quantize"]
    assert (q["value"], q["num_models"]) == (1.0, 3)  # it rises everywhere: min(·, 1)
    fit = [told for label, told in UNLEARNED.items() if label != "ga/seed1"]
    r = found["ou_r", "relearn"]
    expected = np.mean([min((0.1 - 0.2) / (b - a), 1.0) for _, b, _, a in fit])
    assert r["value"] == pytest.approx(expected)
    assert r["value"] == pytest.approx((0.1 / 0.4 + 0.1 / 0.2 + 0.1 / 0.6) / 3)
    both = found["ou_robustness", None]["value"]
    assert both == pytest.approx(2 * expected / (1 + expected))
    assert found["ou_overall", None]["value"] == pytest.approx(2 * both / (1 + both))


def test_the_symmetric_forms_have_names_of_their_own(audited):
    found = rows(audited)
    expected = 1 - np.mean([0.1 / 0.3, 0.05 / 0.45, 0.15 / 0.75])
    assert found["symmetric_q", "quantize"]["value"] == pytest.approx(expected)
    changes = [(0.4, 0.1), (0.2, 0.1), (0.6, 0.1)]
    other = np.mean([1 - abs(a - b) / (a + b) for a, b in changes])
    assert found["symmetric_r", "relearn"]["value"] == pytest.approx(other)


def test_a_model_above_the_threshold_does_not_count_as_unlearned(audited):
    audited.single("kept/seed0", "unlearner", {"model_utility": 0.6, "forget_es": 0.7},
                   label="kept/seed0")  # fmt: skip
    audited.single("kept!", "attacked", {"forget_es": 0.7}, label="kept/seed0 after quantize",
                   attack="quantize", strength=4.0, attacked="kept/seed0")  # fmt: skip
    found = rows(audited)
    assert found["ou_q", "quantize"]["num_models"] == 3
    assert found["pearson", "quantize"]["num_models"] == 5


def test_seeds_are_judged_each_alone(study, audited):
    for seed in (1, 2):
        for number, method in enumerate(("npo", "ga", "rmu")):
            label = f"{method}+x/seed{seed}"
            before, after = 0.1 * number, (0.1 * number) ** 2 + seed * 0.1 * (number == 1)
            study.single(label, "unlearner", {"model_utility": 0.6, "forget_es": before},
                         label=label)  # fmt: skip
            study.single(f"{label}!", "attacked", {"forget_es": after}, label=f"{label} after",
                         attack="quantize", strength=4.0, attacked=label)  # fmt: skip
    row = rows(audited)["pearson", "quantize"]
    assert row["num_seeds"] == 3
    assert row["low"] < row["value"] < row["high"]


def test_without_pools_there_is_no_faithfulness_and_the_utility_decides(audited):
    found = rows(audited, Audit(holds=("nobody",), lacks=("retrained",)))
    row = found["faithfulness", None]
    assert row["value"] is None
    assert "audit.holds" in row["note"]
    assert found["ou_q", "quantize"]["num_models"] == 3
    assert "utility alone" in found["ou_q", "quantize"]["note"]
    assert found["ou_overall", None]["value"] is None


def test_two_models_have_no_correlation(study):
    study.single("original", "original", {"forget_es": 0.9}, label="original")
    for label in ("a", "b"):
        study.single(label, "unlearner", {"forget_es": 0.1}, label=label)
        study.single(f"{label}!", "attacked", {"forget_es": 0.2}, label=f"{label} after",
                     attack="quantize", strength=4.0, attacked=label)  # fmt: skip
    row = rows(study)["pearson", "quantize"]
    assert (row["value"], row["num_models"]) == (None, 2)
    assert "3" in row["note"]


def test_what_is_read_of_attacked_points_alone_is_faithful_there(study):
    for label, role, value in (("original", "original", 0.9), ("retrained", "retrained", 0.2)):
        study.single(label, role, {}, label=label)
        study.single(f"{label}!", "attacked", {"forget_es": value}, label=f"{label} after lens",
                     attack="lens", attacked=label)  # fmt: skip
    found = rows(study, Audit())
    assert found["faithfulness", "lens"]["value"] == 1.0
    assert ("pearson", "lens") not in found


def test_formulas_by_hand():
    holds, lacks = np.array([0.9, 0.5]), np.array([0.5, 0.1])
    assert auc(holds, lacks) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert best_threshold(holds, lacks) == (pytest.approx(0.3), 0.75)
    assert best_threshold(np.array([0.8, 0.9]), np.array([0.1])) == (pytest.approx(0.45), 1.0)
    assert (ou_q(0.4, 0.2), ou_q(0.4, 0.8), ou_q(0.0, 0.8)) == (0.5, 1.0, None)
    assert ou_r(0.1, 0.2, 0.1, 0.5) == pytest.approx(0.25)
    assert ou_r(0.1, 0.6, 0.1, 0.2) == 1.0
    assert ou_r(0.1, 0.2, 0.3, 0.3) == 1.0
    assert ou_r(None, 0.2, 0.3, 0.3) is None
    assert symmetric(0.2, 0.6) == pytest.approx(0.5)
    assert (symmetric(0.0, 0.0), symmetric(0.3, 0.3), symmetric(1.0, -1.0)) == (1.0, 1.0, 0.0)
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic(-0.5, 1.0) == 0.0


def test_labels_and_roles_name_models():
    assert is_named(("pos_*",), "model", "pos_full")
    assert is_named(("retrained",), "retrained", "retrained/forget01")
    assert not is_named(("retrained",), "unlearner", "retrained/forget01")
