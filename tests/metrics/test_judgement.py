"""Scores of a judge's grades."""

import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics._scoring import score_point

JUDGE = '{"model":"judge-1"}'


def graded(build, *grades, probe="forget", criterion="naturalness", judge=JUDGE):
    point = build().add(probe, 0, [-1.0])
    for example, value in enumerate(grades):
        row = {"probe": probe, "example": example, "criterion": criterion, "reply": "…"}
        point.other("judgements", **row, value=value, judge=judge)
    return point


def compute(name, point):
    return METRICS[name].score(point.measured())


def test_score_is_the_mean_of_the_grades_there_are(build):
    score = compute("forget_naturalness", graded(build, 5, 2, None, 4))
    assert score.value == pytest.approx(11 / 3)
    assert score.num_examples == 3
    assert score.note == "graded by judge-1; 1 of 4 replies have no grade"


def test_criteria_and_probes_are_kept_apart(build):
    point = graded(build, 1, 2)
    point.other("judgements", probe="forget", example=0, criterion="similarity", value=5, reply="",
                judge=JUDGE)  # fmt: skip
    point.other("judgements", probe="retain", example=0, criterion="naturalness", value=4, reply="",
                judge=JUDGE)  # fmt: skip
    assert compute("forget_naturalness", point).value == 1.5
    assert compute("forget_similarity", point).value == 5.0
    assert compute("retain_naturalness", point).value == 4.0
    assert compute("retain_similarity", point).value is None


def test_no_grade_at_all_is_null_with_the_number_of_failures(build):
    score = compute("retain_similarity",
                    graded(build, None, None, probe="retain", criterion="similarity"))  # fmt: skip
    assert score.value is None
    assert "2 of 2 replies have no grade" in score.note


def test_similarity_is_inverted_on_the_forget_probe():
    assert METRICS["forget_similarity"].better == "higher"
    assert METRICS["retain_similarity"].better == "lower"
    assert METRICS.entry("forget_similarity").summary.endswith("5 = nothing in common.")


def test_without_a_judge_there_is_no_row(build):
    point = graded(build, 3)
    judged = score_point("p", point.table(), {}, point.tables())["metric"].to_pylist()
    assert "forget_naturalness" in judged
    unjudged = score_point("p", point.table())["metric"].to_pylist()
    assert not [name for name in unjudged if name.endswith(("naturalness", "similarity"))]
