"""Every claim on tables made up by hand: each must be able to come out both ways."""

import pytest

from raymcu.analysis.claimed import SCHEMA, judge, together
from raymcu.analysis.claims._base import (
    CLAIMS,
    FAILS,
    HOLDS,
    IN_PART,
    UNTOLD,
    Found,
    Study,
    level,
    share,
    some,
)

METHODS = (
    {"name": "grad_ascent", "label": "GA"},
    {"name": "grad_diff", "label": "GD"},
    {"name": "npo", "label": "NPO"},
    {"name": "simnpo", "label": "SimNPO"},
    {"name": "rmu", "label": "RMU"},
    {"name": "grad_diff", "label": "WAGLE", "mask": {"name": "wagle"}},
    {"name": "random_labels", "label": "RL"},
    {"name": "random_labels", "label": "SalUn", "mask": {"name": "salun"}},
    {"name": "mox", "label": "MOX", "memorizer": "ce"},
    {"name": "mox", "label": "MOX-m", "memorizer": "ce", "training": {"average": {"eta": 0.7}}},
    {"name": "task_vector", "label": None},
    {"name": "tarf", "label": "TARF"},
    {"name": "tarf", "label": "TARF-h", "hidden_classes": 1},
)


def study(*, is_of_classes=False, models=(), **tables):
    return Study("here", {"methods": METHODS}, is_of_classes, tables, models)


def curve(first, second, retain, forget, *, setting="Rand", family="linear", size="forget05"):
    return {
        "curve_id": f"{first}{second}{family}", "setting": setting, "family": family,
        "forget_size": size, "first": first, "second": second, "retain_barrier": retain,
        "forget_barrier": forget, "is_connected": max(retain, forget) <= 0.05,
    }  # fmt: skip


def seeds(method, *barriers, setting="Rand", mark=""):
    """The linear and, if there are two barriers, the quadratic curve of a method's seeds."""
    first, second = (f"{method}{mark}/seed{n}" for n in (0, 1))
    return [curve(first, second, 0.0, height, setting=setting, family=family)
            for family, height in zip(("linear", "quadratic"), barriers, strict=False)]  # fmt: skip


CL = {"setting": "Rand-CL", "mark": "+cl"}
SO = {"setting": "Rand-SO", "mark": "+so"}
MIXED = {"setting": "CL-Non-CL"}


def of_curves(*found, **more):
    return study(findings=[row for rows in found for row in rows], **more)


def likeness(metric, /, **values):
    """Likenesses of pairs named GA_GD, in both orders and of two settings."""
    rows = []
    for pair, value in values.items():
        one, other = pair.split("_")
        rows += [
            {"forget_size": "forget05", "setting": setting, "family": "linear", "metric": metric,
             "first": a, "second": b, "similarity": value}
            for setting in ("Met", "Met-CL") for a, b in ((one, other), (other, one))
        ]  # fmt: skip
    return study(similarities=rows)


def hard(values, *, setting="Rand", sizes=("forget05",)):
    rows = [
        {"forget_size": size, "setting": setting, "family": family, "method": method,
         "difficulty": value}
        for family in ("linear", "quadratic") for method, all_sizes in values.items()
        for size, value in zip(sizes, all_sizes, strict=True)
    ]  # fmt: skip
    return study(difficulties=rows)


def ends(*losses):
    """Retrained at 10, and two pairs of seeds with those forget losses, none connected."""
    labels = [f"{method}/seed{seed}" for method in ("GA", "GD") for seed in (0, 1)]
    return [
        {"role": role, "label": label, "forget_size": "forget05", "scores": {"forget_loss": loss}}
        for role, label, loss in (
            ("retrained", "retrained/forget05", 10.0),
            *(("unlearner", label, loss) for label, loss in zip(labels, losses, strict=True)),
        )
    ]


def fragments(*values):
    rows = [
        {"curve_id": str(n), "forget_size": "forget05", "setting": "Rand", "metric": metric,
         "fragmentation": value, "spread": spread}
        for n, value in enumerate(values)
        for metric, value, spread in (("privleak", value, 70.0), ("forget_es", 1.0, 0.05))
    ]  # fmt: skip
    return study(metric_findings=rows)


def updates(plain, second):
    return study(geometry=[
        {"kind": "update", "role": "unlearner", "forget_size": "forget05",
         "first": f"{method}{mark}/seed0", "norm": norm}
        for method in ("GA", "GD") for mark, norm in (("", plain), ("+so", second))
    ])  # fmt: skip


def survivors(kind, survives, *, done=0):
    """Curves whose ends are at 0.5, but for the last ones, which have nothing left to forget."""
    rows = []
    for n, one in enumerate(survives):
        whose = {"curve_id": str(n), "setting": "Met", "forget_size": "forget05",
                 "metric": "forget_es"}  # fmt: skip
        at = 0.0 if n >= len(survives) - done else 0.5
        rows += [{**whose, "kind": end, "value": at} for end in ("first", "second")]
        rows.append({**whose, "kind": kind, "num_inside": 3, "survives": one, "value": 0.4})
    return study(ensembles=rows)


def traded(*curves):
    """Ensembles by whether they surely keep more, and at most how much more they forget."""
    whose = {"setting": "Met", "forget_size": "forget05", "kind": "ensemble", "num_inside": 3}
    return study(ensembles=[
        {**whose, "curve_id": str(n), "metric": metric, "survives": keeps, "gain_high": high}
        for n, (keeps, high) in enumerate(curves) for metric in ("retain_loss", "forget_loss")
    ])  # fmt: skip


def relearned(*is_clear):
    common = {"attack": "relearn", "part": "held_out"}
    late = [{**common, "strength": 20.0, "metric": metric, "ensemble_gain_is_clear": one}
            for one in is_clear for metric in ("forget_loss", "forget_es")]  # fmt: skip
    early = [{**row, "strength": 5.0, "ensemble_gain_is_clear": not row["ensemble_gain_is_clear"]}
             for row in late]  # fmt: skip
    other = [{**row, "attack": "noise", "strength": 99.0, "ensemble_gain_is_clear": None}
             for row in late]  # fmt: skip
    return study(attack_findings=[*early, *late, *other])


def curvatures(*values):
    return study(attack_curvatures=[
        {"attack": "relearn", "part": "held_out", "strength": 20.0, "metric": "forget_es",
         "against": against, "rank_correlation": value * sign}
        for value in values for against, sign in (("interior", 1), ("gain", -1))
    ])  # fmt: skip


def ranks(*values):
    return study(rank_correlations=[
        {"measure": measure, "sign": sign, "spearman": value * sign}
        for value in values for measure, sign in (("memorization", 1), ("known_loss", -1))
    ])  # fmt: skip


def walk(title, **by_metric):
    """Points at alpha 0, 1, 2, 4, 8 with those values of each metric."""
    return [
        {"role": "walk", "family": "extrapolation", "forget_size": "forget05", "label": "",
         "second": f"{title}/seed0/memorizer", "t": alpha,
         "scores": {metric: values[place] for metric, values in by_metric.items()}}
        for place, alpha in enumerate((0.0, 1.0, 2.0, 4.0, 8.0))
    ]  # fmt: skip


def walked(*walks, unlearners=()):
    made = [
        {"role": "unlearner", "label": f"{title}/seed0", "forget_size": "forget05",
         "scores": {"model_utility": utility, "forget_quality_log10": quality}}
        for title, utility, quality in unlearners
    ]  # fmt: skip
    return study(models=[row for walk in walks for row in walk] + made)


def targets(size, retrained, **by_title):
    """Two seeds of each title: accuracy on the target in percent, and the gap."""
    told = [("retrained", f"retrained/{size}", retrained, 0.0)]
    told += [
        ("unlearner", f"{title.replace('_', '-')}/seed{seed}", *values)
        for title, values in by_title.items()
        for seed in range(2)
    ]
    return [
        {"role": role, "label": label, "forget_size": size,
         "scores": {"ua_accuracy_percent": accuracy, "ua_ra_ta_mia_gap": gap}}
        for role, label, accuracy, gap in told
    ]  # fmt: skip


def cosines(*values):
    return study(geometry=[
        {"kind": "pair", "forget_size": "forget05", "first": "MOX/seed0/memorizer",
         "second": "NPO/seed0", "cosine": value}
        for value in values
    ] + [{"kind": "pair", "forget_size": "forget05", "first": "GA/seed0", "second": "NPO/seed0",
          "cosine": 0.9}])  # fmt: skip


FLAT = (1.0, 1.0, 0.98, 0.97, 0.9)
STEEP = (1.0, 0.8, 0.6, 0.5, 0.1)
RISING = (-6.0, -5.0, -4.0, -1.0, -2.0)
LATE = (-6.0, -6.0, -6.0, -4.0, -1.0)
PAIRED = walk("MOX", model_utility=STEEP, forget_quality_log10=LATE)
MOMENTUM = walk("MOX-m", model_utility=FLAT, forget_quality_log10=RISING)
WORSE = walk("MOX-m", model_utility=[v - 0.1 for v in STEEP],
             forget_quality_log10=[v - 1 for v in LATE])  # fmt: skip
ASCENT = (("GA", 0.9, -3.0), ("NPO", 0.9, -3.0))
KEPT = [{**row, "second": row["second"].replace("MOX", "task_vector")} for row in PAIRED]
VERDICTS = [curve("GA/seed0", "GD/seed0", 0.0, height, setting="Met", family=family)
            for height, family in ((2.0, "linear"), (3.0, "quadratic"))]  # fmt: skip

CASES = {
    "prevalent": (of_curves(seeds("GA", 1.0, 0.0), seeds("GD", 1.0)),
                  of_curves(seeds("GA", 1.0, 1.0), seeds("GD", 1.0))),
    "seeds_connected": (of_curves(seeds("GA", 1.0, 0.0), seeds("GD", 0.01)),
                        of_curves(seeds("GA", 1.0, 1.0), seeds("GD", 0.2))),
    "rl_like_salun": (likeness("loss", RL_SalUn=0.9, RL_GA=0.5, SalUn_GA=0.6, GA_GD=1.0),
                      likeness("loss", RL_SalUn=0.55, RL_GA=0.5, SalUn_GA=0.6, GA_GD=0.1)),
    "bend_lower": (of_curves(seeds("GA", 1.0, 0.6), seeds("GD", 2.0, 0.0)),
                   of_curves(seeds("GA", 1.0, 1.1), seeds("GD", 2.0, 2.5))),
    "bend_hard_to_find": (of_curves(seeds("GA", 0.0, 0.6), seeds("GD", 0.0, 0.0)),
                          of_curves(*(seeds(f"M{n}", 0.0, 0.0) for n in range(10)))),
    "effective_yet_apart": (
        of_curves(seeds("GA", 1.0), seeds("GD", 0.0), models=ends(9, 8, 6, 5)),
        of_curves(*(seeds("GA", 0.0, setting=f"{n}") for n in range(10)), models=ends(9, 8, 6, 5)),
    ),
    "rmu_rough": (hard({"RMU": [0.9], "NPO": [0.5], "GD": [0.1]}),
                  hard({"RMU": [0.1], "NPO": [0.5], "WAGLE": [0.6]})),
    "curriculum_alike": (
        of_curves(seeds("GA", 0.0, 1.0), seeds("GA", 0.0, 2.0, **CL)),
        of_curves(seeds("GA", 0.0, 1.0), seeds("GA", 1.0, 0.0, **CL)),
    ),
    "across_curricula": (
        of_curves(seeds("GA", 1.0, 0.0, **MIXED), seeds("GD", 1.0, **MIXED)),
        of_curves(*(seeds(f"M{n}", 1.0, 1.0, **MIXED) for n in range(10))),
    ),
    "second_order_rougher": (
        of_curves(seeds("GA", 1.0, 0.5), seeds("GA", 2.0, 0.6, **SO)),
        of_curves(seeds("GA", 1.0, 0.5), seeds("GA", 0.1, 0.2, **SO)),
    ),
    "second_order_smoother": (
        of_curves(seeds("GA", 1.0, 0.5), seeds("GA", 0.1, 0.2, **SO),
                  is_of_classes=True),
        of_curves(seeds("GA", 1.0, 0.5), seeds("GA", 2.0, 0.6, **SO),
                  is_of_classes=True),
    ),
    "second_order_steps": (updates(1.0, 2.0), updates(2.0, 1.0)),
    "orders_apart": (
        of_curves(seeds("GA", 1.0, 1.0, setting="FO-SO"), seeds("GD", 1.0, setting="FO-SO")),
        of_curves(seeds("GA", 1.0, 0.0, setting="FO-SO"), seeds("GD", 0.0, setting="FO-SO")),
    ),
    "retain_smoother": (
        study(findings=[curve("GA/seed0", "GA/seed1", 0.1, 2.0), *seeds("GD", 1.0)]),
        study(findings=[curve("GA/seed0", "GA/seed1", 2.0, 0.1), curve("a", "b", 1.0, 0.0)]),
    ),
    "fragmented": (fragments(0.9, 0.2, 0.1), fragments(*[0.4] * 10)),
    "ga_forgets_alike": (likeness("verbmem", GA_GD=0.9, GA_NPO=0.8, GD_NPO=0.0),
                         likeness("verbmem", GA_GD=0.1, GA_NPO=0.2, GD_NPO=1.0)),
    "ga_keeps_otherwise": (likeness("retain_knowmem", GA_GD=0.1, GA_NPO=0.2, GD_NPO=0.9),
                           likeness("retain_knowmem", GA_GD=0.9, GA_NPO=0.9, GD_NPO=0.92)),
    "npo_like_simnpo": (likeness("retain_rouge", NPO_SimNPO=0.9, NPO_GD=0.5, SimNPO_GD=0.4),
                        likeness("retain_rouge", NPO_SimNPO=0.4, NPO_GD=0.5, SimNPO_GD=0.3)),
    "sparse_differ": (likeness("loss", RMU_GD=0.1, RMU_NPO=0.2, GD_NPO=0.9, RMU_WAGLE=1.0),
                      likeness("loss", RMU_GD=0.8, RMU_NPO=0.9, GD_NPO=0.7, RMU_WAGLE=0.0)),
    "kin_connect": (
        of_curves(seeds("GA", 1.0, 1.0), seeds("GD", 0.0, 0.0), VERDICTS),
        of_curves(seeds("GA", 4.0, 4.0), seeds("GD", 5.0, 6.0), VERDICTS),
    ),
    "inside_better": (survivors("inside", [True] * 3 + [False] * 9),
                      survivors("inside", [False] * 9 + [True] * 9, done=9)),
    "ensemble_better": (survivors("ensemble", [True, True, False]),
                        survivors("ensemble", [False, False, True], done=1)),
    "ensemble_trades": (traded((True, 0.1), (True, 0.0), (False, 0.1)),
                        traded((True, -0.1), (False, 0.1))),
    "ensemble_resists": (relearned(True, True, False), relearned(False, False)),
    "smooth_resists": (curvatures(0.9, 0.5), curvatures(-0.9, -0.2)),
    "memorized_harder": (ranks(0.9, 0.5), ranks(-0.9, -0.2)),
    "larger_harder": (
        hard({"GA": [0.1, 0.5], "GD": [0.2, 0.3]}, sizes=("forget05", "forget10")),
        hard({"GA": [0.5, 0.1], "GD": [0.3, 0.2]}, sizes=("forget05", "forget10")),
    ),
    "alpha_forgets": (walked(walk("MOX", forget_es=(1.0, 0.6, 0.4, 0.2, 0.1))),
                      walked(walk("MOX", forget_es=(0.1, 0.2, 0.4, 0.6, 0.8)))),
    "alpha_keeps": (walked(walk("MOX", model_utility=FLAT)),
                    walked(walk("MOX", model_utility=STEEP))),
    "extreme_alpha_mild": (
        walked(walk("MOX", model_utility=FLAT), walk("MOX-m", model_utility=FLAT)),
        walked(walk("MOX", model_utility=STEEP), walk("MOX-m", model_utility=STEEP)),
    ),
    "alpha_peaks": (
        walked(*(walk(title, forget_quality_log10=RISING) for title in ("MOX", "MOX-m"))),
        walked(*(walk(title, forget_quality_log10=LATE) for title in ("MOX", "MOX-m"))),
    ),
    "gentler_than_ascent": (walked(MOMENTUM, unlearners=ASCENT), walked(PAIRED, unlearners=ASCENT)),
    "forgets_more_than_ascent": (walked(MOMENTUM, unlearners=ASCENT),
                                 walked(PAIRED, unlearners=ASCENT)),
    "retain_term_keeps": (walked(MOMENTUM, KEPT), walked(WORSE, KEPT)),
    "momentum_helps": (walked(PAIRED, MOMENTUM[:4]), walked(PAIRED, WORSE)),
    "matched_classes_go": (
        study(models=targets("class3", 0.0, GA=(0.0, 3.0), GD=(1.0, 5.0), TARF=(90.0, 40.0))),
        study(models=targets("superclass3", 0.0, GA=(0.0, 30.0), GD=(70.0, 35.0))),
    ),
    "given_part_is_not_all": (
        study(models=targets("class3_for_superclass", 0.0, GA=(60.0, 30.0), TARF=(0.0, 1.0))
              + targets("class3", 0.0, RL=(0.0, 1.0))),
        study(models=targets("subclass3_for_class", 0.0, GA=(4.0, 3.0), TARF=(90.0, 40.0))),
    ),
    "ascent_spills_over": (
        study(models=targets("subclass3", 88.0, GA=(6.0, 46.0), SalUn=(66.0, 25.0))),
        study(models=targets("subclass3", 88.0, RL=(84.0, 3.0), GD=(0.0, 50.0))),
    ),
    "tarf_finds_the_rest": (
        study(models=targets("subclass3_for_class", 0.0, TARF_h=(1.0, 1.0), TARF=(70.0, 40.0))),
        study(models=targets("class3_for_superclass", 0.0, TARF_h=(40.0, 20.0), TARF=(0.0, 0.0))),
    ),
    "tarf_nearest": (
        study(models=targets("class3", 0.0, GA=(0.0, 3.0), TARF=(0.0, 1.0), TARF_h=(0.0, 46.0))
              + targets("subclass3", 80.0, GA=(0.0, 9.0), TARF=(75.0, 2.0))),
        study(models=targets("class3", 0.0, GA=(0.0, 1.0), RL=(9.0, 9.0), TARF=(0.0, 2.0))
              + targets("subclass3", 80.0, GA=(0.0, 9.0), TARF=(0.0, 9.5))
              + targets("forget10", 80.0, GA=(0.0, 9.0), TARF=(0.0, 0.5))),
    ),
    "opposite_directions": (cosines(-0.9, -0.6), cosines(0.3, 0.1)),
}  # fmt: skip
"""By claim: a study in which it holds, and one in which it does not."""


def test_every_claim_is_put_to_a_study_that_bears_it_out_and_to_one_that_does_not():
    assert sorted(CASES) == [entry.name for entry in CLAIMS]


@pytest.mark.parametrize("name", CASES)
def test_a_claim_can_come_out_both_ways(name):
    bearing, contradicting = CASES[name]
    assert CLAIMS[name](bearing).verdict == HOLDS
    assert CLAIMS[name](contradicting).verdict == FAILS


@pytest.mark.parametrize("name", CASES)
def test_a_study_that_lacks_what_a_claim_takes_says_so(name):
    for empty in (study(), Study("old", {})):
        found = CLAIMS[name](empty)
        assert (found.verdict, found.value, found.num) == (UNTOLD, None, 0)
        assert found.note


@pytest.mark.parametrize("entry", list(CLAIMS), ids=lambda entry: entry.name)
def test_a_claim_says_what_where_and_by_what(entry):
    made = entry.component
    assert made.paper in {"MCU", "MOX", "TARF"}
    assert made.section[0].isdigit()
    assert made.says.endswith(".")
    assert len(made.says) < 120
    assert "holds" in made.tested_by
    assert made.unit


def test_a_share_is_judged_by_its_bounds_with_wilsons_interval():
    cases = [True, True, True, False]
    found = share(cases, "cases")
    assert (found.verdict, found.value, found.num) == (HOLDS, 0.75, 4)
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert share([True, False], "cases").verdict == IN_PART
    assert share([True, False, False, False], "cases").verdict == FAILS
    assert share([True], "two cases") == Found(
        UNTOLD, num=1, note="2 cases or more, not 1: two cases"
    )
    assert share([True] + [False] * 13, "", holds=0.1, fails=0.0).verdict == IN_PART
    assert share([True] + [False] * 13, "", holds=0.1, chance=0.025).verdict == FAILS
    assert (share([False] * 3, "").low, share([True] * 3, "").high) == (0.0, 1.0)


def test_one_case_is_enough_for_what_may_happen():
    assert some([False] * 99 + [True], "").verdict == HOLDS
    assert some([False] * 99, "").verdict == FAILS
    assert some([False, True], "").verdict == HOLDS
    assert some([False] * 9, "cases").note == "10 cases or more, not 9: cases"


def test_a_mean_is_judged_in_the_direction_of_its_bounds():
    found = level([1.0, 0.9], "", holds=0.9, fails=0.5)
    assert (found.verdict, found.value) == (HOLDS, 0.95)
    assert (found.low, found.high) == pytest.approx((0.95 - 12.7062 / 20, 0.95 + 12.7062 / 20))
    assert level([0.6, 0.8], "", holds=0.9, fails=0.5).verdict == IN_PART
    assert level([-0.9, -0.5], "", holds=-0.5, fails=-0.1).verdict == HOLDS
    assert level([-0.3, -0.3], "", holds=-0.5, fails=-0.1).verdict == IN_PART
    assert level([0.0, 0.2], "", holds=-0.5, fails=-0.1).verdict == FAILS


def test_together_studies_say_what_all_that_can_tell_agree_on():
    yes, no, mute = Found(HOLDS, 1.0), Found(FAILS, 0.0), Found(UNTOLD, note="curves")
    assert together({"a": yes, "b": yes, "c": mute}) == Found(HOLDS, num=2)
    found = together({"a": yes, "b": no, "c": mute})
    assert found == Found(IN_PART, num=2, note="holds: a; does not hold: b")
    assert together({"a": mute, "b": mute}) == Found(UNTOLD, note="it takes curves")


def test_the_table_has_each_claim_together_and_by_study():
    table = judge([of_curves(seeds("GA", 0.0), seeds("GD", 0.0)), Study("old", {})])
    assert table.schema.equals(SCHEMA)
    rows = [row for row in table.to_pylist() if row["claim"] == "prevalent"]
    assert [(r["study"], r["verdict"], r["value"]) for r in rows] == [
        (None, HOLDS, None), ("here", HOLDS, 1.0), ("old", UNTOLD, None),
    ]  # fmt: skip
    assert table.num_rows == 3 * len(list(CLAIMS))
    papers = list(dict.fromkeys(row["paper"] for row in table.to_pylist()))
    assert papers == ["MCU", "MOX", "TARF"]
