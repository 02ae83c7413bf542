"""The numbers behind the figures: groups, scales, chords, barriers, pages."""

import math
from dataclasses import replace

import pytest

from raymcu.metrics._base import METRICS
from raymcu.report.data import MetricInfo, load_study, metric_info, pair_label, read_curves
from raymcu.report.figures import fitted
from raymcu.report.panels import (
    balanced,
    groups,
    metric_families,
    needs_log,
    pages,
    slug,
    value_axis,
)

NATS = MetricInfo("forget_loss", "higher", "nats", 0.0, math.inf)
FRACTION = MetricInfo("forget_rouge", "lower", "fraction", 0.0, 1.0)


@pytest.fixture(scope="module")
def study(finished_run):
    return load_study(finished_run)


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [
        ("npo/seed0", "npo/seed1", "npo · seed0 ↔ seed1"),
        ("ga/seed0", "npo/seed0", "ga ↔ npo"),
        ("ga/cl/seed0", "npo/seed0", "ga/cl/seed0 ↔ npo/seed0"),
        ("ga/cl/seed0", "ga/plain/seed0", "ga · cl ↔ plain"),
        ("a", "a", "a ↔ a"),
    ],
)
def test_pairs_are_named_by_what_differs(first, second, label):
    assert pair_label(first, second) == label


def test_a_short_name_that_two_pairs_would_share_is_spelt_out():
    curves = [
        {"id": str(seed), "setting": "Met", "family": "linear", "forget_size": "f",
         "first": f"ga/seed{seed}", "second": f"npo/seed{seed}"}
        for seed in (0, 1)
    ]  # fmt: skip
    found = read_curves({"curves": curves, "curve_points": []})
    assert [curve.pair for curve in found] == ["ga/seed0 ↔ npo/seed0", "ga/seed1 ↔ npo/seed1"]


def test_study_has_every_endpoint_with_its_label(study):
    here = [end.label for end in study.endpoints if end.forget_size == "forget01"]
    assert here[:3] == ["original", "retrained", "grad_diff/seed0"]
    assert len(here) == 8
    assert study.endpoints[0].scores["forget_loss"] == 0.4


def test_metrics_are_grouped_and_none_is_drawn_twice(study):
    found = {group.name: group.metrics for group in groups(study.metrics)}
    assert found["losses"] == ("retain_loss", "forget_loss")
    assert found["utility"] == ("model_utility", "forget_quality_log10")
    assert set(found["rouge"]) == {
        "retain_rouge", "forget_rouge", "real_authors_rouge", "world_facts_rouge"
    }  # fmt: skip
    drawn = [metric for metrics in found.values() for metric in metrics]
    assert len(drawn) == len(set(drawn))


def test_the_same_quantity_on_another_scale_is_not_drawn():
    drawn = groups(["forget_quality_log10", "forget_quality_p", "retain_es", "retain_es_ou"])
    assert [group.metrics for group in drawn] == [("forget_quality_log10",), ("retain_es",)]


def test_every_known_metric_belongs_to_a_family():
    names = [entry.name for entry in METRICS]
    found = metric_families(names)
    assert sorted(metric for _, metrics in found for metric in metrics) == names
    assert not [family.title for family, _ in found if "Other" in family.title]
    units = {group.metrics: {metric_info(m).unit for m in group.metrics}
             for group in groups(names) if not group.is_overlay}  # fmt: skip
    assert all(len(unit) == 1 for unit in units.values()), units


def test_what_only_texts_tell_is_drawn_only_where_they_were_measured():
    questions = ["forget_knowmem", "forget_rouge", "privleak"]
    assert [group.name for group in groups(questions)] == ["rouge"]
    assert [group.name for group in groups([*questions, "verbmem"])] == [
        "muse", "privleak", "rouge"
    ]  # fmt: skip


def test_metrics_of_ones_own_are_drawn_by_unit():
    assert [group.metrics for group in groups(["mine", "forget_loss", "yours"])] == [
        ("forget_loss",), ("mine", "yours")
    ]  # fmt: skip


def test_losses_page_holds_the_scores_the_chord_and_the_barrier(study):
    losses = groups(study.metrics)[0]
    (page,) = pages(study, "Met", losses)
    assert [row.forget_size for row in page.rows] == ["forget01"] * 2 + ["forget05"] * 2
    assert [row.starts_size for row in page.rows] == [False, False, True, False]
    assert page.columns[0] == ("grad_diff ↔ npo", None)
    linear, quadratic = page.rows[1].panels[0]
    assert (linear.family, linear.metric) == ("linear", "forget_loss")
    assert linear.chord == pytest.approx((2.6, 1.9))
    assert [t for t, _ in linear.values] == [i / 6 for i in range(7)]
    assert linear.barrier.t == 0.5
    assert linear.barrier.size == pytest.approx(0.9)
    assert linear.barrier.chord == pytest.approx(2.25)
    assert linear.barrier.value == pytest.approx(dict(linear.values)[0.5])
    assert not linear.barrier.is_within
    assert quadratic.barrier.size == pytest.approx(0.2)


def test_a_retain_barrier_stands_above_its_chord(study):
    (page,) = pages(study, "Met", groups(study.metrics)[0])
    barrier = page.rows[0].panels[0][0].barrier
    assert barrier.value - barrier.chord == pytest.approx(barrier.size) == pytest.approx(0.45)


def test_bundles_put_families_side_by_side(study):
    rouge = next(group for group in groups(study.metrics) if group.name == "rouge")
    (page,) = pages(study, "Rand", rouge)
    assert len(page.columns) == 6
    assert [family for _, family in page.columns] == ["linear", "quadratic"] * 3
    assert len(page.rows[0].panels[0]) == 4


def test_panels_of_a_row_share_a_scale_that_holds_all_values(study):
    for group in groups(study.metrics):
        for page in pages(study, "Met", group):
            for row in page.rows:
                values = [v for panel in row.panels for line in panel for _, v in line.values]
                assert row.axis.low <= min(values) <= max(values) <= row.axis.high


def test_scales():
    assert needs_log([0.5, 40.0], NATS)
    assert not needs_log([0.5, 3.0], NATS)
    assert not needs_log([0.0, 400.0], NATS)
    assert not needs_log([0.01, 0.9], FRACTION)
    log = value_axis([0.5, 40.0], NATS, is_log=True)
    assert 0 < log.low < 0.5 < 40.0 < log.high
    flat = value_axis([0.5, 0.5001], FRACTION)
    assert flat.high - flat.low >= 0.05
    full = value_axis([0.0, 1.0], FRACTION)
    assert -0.03 <= full.low <= 0 < 1 <= full.high <= 1.03


def test_many_pairs_are_cut_into_even_pages():
    assert [len(chunk) for chunk in balanced(list("abcdefg"), 6)] == [4, 3]
    assert [len(chunk) for chunk in balanced(list("a" * 15), 6)] == [5, 5, 5]
    assert balanced([], 6) == [[]]


def test_labels_say_direction_and_unit():
    assert metric_info("forget_loss").label == "forget loss ↑"
    assert metric_info("retain_loss").label == "retain loss ↓"
    assert metric_info("forget_quality_log10").unit_text == ""
    assert metric_info("not_a_metric").label == "not a metric"


def test_file_names_are_plain():
    assert slug("Met-CL ↔ ../x") == "met-cl-x"


def test_a_long_name_breaks_where_it_reads_best():
    assert fitted("npo · seed0 ↔ seed1", 3.0) == "npo · seed0 ↔ seed1"
    assert fitted("npo · seed0 ↔ seed1", 1.2) == "npo\nseed0 ↔ seed1"
    assert fitted("grad_diff ↔ npo", 1.1) == "grad_diff ↔\nnpo"
    assert fitted("quadratic_and_more", 0.7) == "quadrat…"


def test_reference_models_are_levels_within_the_scale(study):
    group = next(g for g in groups(study.metrics) if g.name == "losses")
    (page, *_) = pages(study, "Rand", group)
    row = next(r for r in page.rows if r.metrics == ("forget_loss",))
    scores = {e.role: e.scores for e in study.endpoints if e.forget_size == row.forget_size}
    wanted = {role: scores[role]["forget_loss"] for role in ("original", "retrained")}
    told = {role: value for _, role, value in row.levels}
    assert told == {r: v for r, v in wanted.items() if row.axis.low <= v <= row.axis.high}
    assert told


def test_of_shares_the_scale_takes_them_in(study):
    scores = {point: {"forget_accuracy": 0.5} for point in study.scores}
    ends = tuple(
        replace(e, scores={"forget_accuracy": {"original": 1.0, "retrained": 0.0}.get(e.role, 0.5)})
        for e in study.endpoints
    )
    known = replace(study, scores=scores, endpoints=ends)
    (group,) = groups(known.metrics)
    for row in pages(known, "Rand", group)[0].rows:
        assert [(role, value) for _, role, value in row.levels] == [
            ("original", 1.0), ("retrained", 0.0)
        ]  # fmt: skip
        assert row.axis.low <= 0 < 1 <= row.axis.high
