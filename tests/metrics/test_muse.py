"""VerbMem and KnowMem: F1 in percent, and where an answer ends."""

import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics.muse import answer_only


def value(name, point):
    return METRICS[name].score(point.measured()).value


@pytest.mark.parametrize(
    ("generation", "answer"),
    [
        ("in March\n\nQuestion: who?", "in March"),
        ("in March\nQuestion: who?\n\nno", "in March"),
        ("in March Question: who?", "in March "),
        ("in March\nAnswer: April", "in March\nAnswer: April"),
        ("Question: in March", ""),
        ("", ""),
    ],
)
def test_answer_ends_where_the_next_question_begins(generation, answer):
    assert answer_only(generation) == answer


def test_verbmem_is_mean_f1_in_percent(build):
    # 2 common of 4 wanted and 2 given: recall 1/2, precision 1, F1 2/3; the other F1 is 1
    point = build().add("verbmem", 0, [-1.0], answer="rain falls on hills", generation="rain hills")
    point.add("verbmem", 1, [-1.0], answer="tides", generation="Tides!")
    assert value("verbmem", point) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_verbmem_reads_on_behind_a_blank_line(build):
    point = build().add("verbmem", 0, [-1.0], answer="a b", generation="a\n\nb")
    assert value("verbmem", point) == pytest.approx(100.0)


@pytest.mark.parametrize("probe", ["forget", "retain"])
def test_knowmem_counts_the_answer_only(build, probe):
    point = build().add(
        probe, 0, [-1.0], answer="on the coast", generation="the coast\n\nQuestion: on which?"
    )  # precision 1, recall 2/3
    point.add(probe, 1, [-1.0], answer="snow")  # no generation was asked
    score = METRICS[f"{probe}_knowmem"].score(point.measured())
    assert score.value == pytest.approx(100 * 2 * (2 / 3) / (1 + 2 / 3))
    assert score.num_examples == 1


@pytest.mark.parametrize("name", ["verbmem", "forget_knowmem", "retain_knowmem"])
def test_open_unlearning_stems_and_muse_does_not(build, name):
    probe = name.removesuffix("_knowmem")
    point = build().add(probe, 0, [-1.0], answer="storms", generation="storming")
    assert (value(name, point), value(f"{name}_ou", point)) == (0.0, pytest.approx(100.0))


def test_scores_are_left_out_where_nothing_was_generated(build):
    point = build().add("verbmem", 0, [-1.0]).add("forget", 0, [-1.0]).measured()
    for name in ("verbmem", "verbmem_ou", "forget_knowmem", "forget_knowmem_ou", "forget_rouge"):
        assert not METRICS[name].is_measured(point)
        assert METRICS[name].score(point).value is None
