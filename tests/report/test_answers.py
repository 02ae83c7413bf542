"""What the models now say: which questions are chosen, and who says what."""

import itertools
import math
import re

import pytest

from raymcu.report import answers
from raymcu.report.answers import answering, read_answers
from raymcu.report.data import load_study
from raymcu.report.page import is_drawn, write_report
from raymcu.store import tables

SIZE = "forget01"
NUM = 8


def said_by(role, label, probe, example):
    """The original and the retrained model know what they learned; grad_diff forgets all of it."""
    answer = f"It is the {probe} answer of number {example}."
    if role == "retrained":
        return "Nobody knows." if probe == "forget" else answer
    is_lost = probe == "forget" and example < (8 if "grad_diff" in label else 3)
    is_hurt = probe == "retain" and example == 5 and role == "unlearner"
    return "blah <b>blah</b>" if role == "unlearner" and (is_lost or is_hurt) else answer


@pytest.fixture
def run(half_run, finished_run):
    """Half a run whose models have answered the questions of one forget set."""
    for part in finished_run.parts("findings"):
        half_run.write_part("findings", part, finished_run.read_part("findings", part))
    study = load_study(half_run)
    for end in study.endpoints:
        if end.forget_size == SIZE:
            rows = [
                {"point_id": end.point_id, "probe": probe, "example": example,
                 "question_kind": "question", "answer_kind": "answer", "answer_index": 0,
                 "answer": f"It is the {probe} answer of number {example}.",
                 "generation": said_by(end.role, end.label, probe, example)}
                for probe in ("forget", "retain") for example in range(NUM)
            ]  # fmt: skip
            half_run.write_part(
                "measurements", end.point_id, tables.from_rows("measurements", rows)
            )
    asked = [
        {"forget_size": SIZE, "probe": probe, "example": n, "question": f"What of {probe} {n}?"}
        for probe in ("forget", "retain") for n in range(NUM)
    ]  # fmt: skip
    half_run.write_part("questions", "all", tables.from_rows("questions", asked))
    return half_run


def test_the_questions_whose_answers_changed_most_come_first(run):
    found = read_answers(run, load_study(run))[SIZE]
    chosen = [(one.probe, one.example) for one in found]
    assert chosen[:4] == [("forget", 0), ("forget", 1), ("retain", 5), ("forget", 2)]
    assert len([probe for probe, _ in chosen if probe == "forget"]) == 6
    assert len(chosen) == 10
    assert found[0].question == "What of forget 0?"
    assert found[0].change > found[4].change > 0 == found[-1].change


def test_models_that_say_the_same_stand_together_and_all_of_them_in_a_word(run):
    first, fourth = (read_answers(run, load_study(run))[SIZE][n] for n in (0, 4))
    assert [(one.models, one.match) for one in first.said] == [
        (("original",), 1.0),
        (("retrained",), 0.0),
        (("all 6 unlearners",), 0.0),
    ]
    told = {model: one.text for one in fourth.said for model in one.models}
    assert told["grad_diff/seed1"] == "blah <b>blah</b>"
    assert told["npo/seed0"] == told["original"] == fourth.answer


def test_the_worst_point_of_a_curve_answers_too(run):
    study = load_study(run)
    *ends, (point, name, role) = answering(study, SIZE)
    assert role == "curve"
    assert name.endswith("(highest barrier)")
    worst = max(
        (row for row in study.findings.values() if row["forget_size"] == SIZE),
        key=lambda row: row["forget_barrier"],
    )
    curve = next(c for c in study.curves if c.curve_id == worst["curve_id"])
    assert point == dict(curve.points)[worst["forget_barrier_t"]]
    assert [name for _, name, _ in ends[:2]] == ["original", "retrained"]


def test_the_page_shows_them_as_text_and_is_drawn_anew_with_new_ones(run):
    write_report(run)
    page = run.read_bytes("report/index.html").decode()
    assert "What of forget 0?" in page
    assert "blah &lt;b&gt;blah&lt;/b&gt;" in page
    assert is_drawn(run)
    run.write_part("questions", "more", tables.from_rows("questions", []))
    assert not is_drawn(run)


def test_without_greedy_answers_there_is_no_such_section(finished_run):
    assert read_answers(finished_run, load_study(finished_run)) == {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no no no", "no no no"),
        ("I said no no no no no, and no", "I said no (×4) no, and no"),
        ("of the sea of the sea of the sea of the sea", "of the sea (×4)"),
        ("a " * 500 + "b", "a (×500) b"),
        ("", ""),
    ],
)
def test_what_is_said_again_and_again_is_shown_once(text, shown):
    assert answers._cut(text) == shown


def test_a_long_answer_is_cut():
    text = answers._cut(" ".join(map(str, range(500))))
    assert len(text) == 300
    assert text.endswith("…")


NAMES = ["cat", "dog", "ship"]
PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def classified(half_run):
    """Half a run whose models have classified the inputs of one forget set."""
    half_run.write_json("plan.json", half_run.plan | {"classes": NAMES})
    for end in load_study(half_run).endpoints:
        if end.forget_size != SIZE:
            continue
        rows = []
        for probe, example in itertools.product(("forget", "retain"), range(NUM)):
            is_lost = end.role != "original" and probe == "forget" and example < 3
            sure = 0.6 + 0.1 * (end.label.endswith("seed1")) if is_lost else 0.9
            rows.append(
                {"point_id": end.point_id, "probe": probe, "example": example,
                 "question_kind": "input", "answer_kind": "label", "answer_index": 0,
                 "answer": "cat", "generation": "dog" if is_lost else "cat",
                 "logprobs": [math.log(0.2 if is_lost else sure)],
                 "generation_logprobs": [math.log(sure)]}
            )  # fmt: skip
        half_run.write_part("measurements", end.point_id, tables.from_rows("measurements", rows))
    asked = [
        {"forget_size": SIZE, "probe": probe, "example": n, "question": f"input {probe} {n}",
         "picture": PICTURE if probe == "forget" else None}
        for probe in ("forget", "retain") for n in range(NUM)
    ]  # fmt: skip
    half_run.write_part("questions", "all", tables.from_rows("questions", asked))
    return half_run


def test_of_classifiers_the_class_and_its_probability_are_told(classified):
    (first, *_) = read_answers(classified, load_study(classified))[SIZE]
    assert (first.probe, first.answer, first.picture) == ("forget", "cat", PICTURE)
    assert first.change == pytest.approx(0.9 - 0.2)
    kept, lost = first.said
    assert (kept.models, kept.text) == (("original",), "cat")
    assert kept.match == kept.highest == pytest.approx(0.9)
    assert lost.text == "dog"
    assert (lost.match, lost.highest) == (pytest.approx(0.6), pytest.approx(0.7))


def test_a_page_of_classes_speaks_of_inputs_and_shows_small_images(classified):
    write_report(classified)
    page = classified.read_bytes("report/index.html").decode()
    (section,) = re.findall(r'<section id="answers">.*?</section>', page, flags=re.DOTALL)
    assert f'<img src="{PICTURE}"' in section
    assert "input retain 0" in section
    assert "0.60 to 0.70" in section
    assert "true class" in section
    assert not re.search(r"[Qq]uestion|ROUGE|token", section)
    assert "nats per input" in page or "No curve was judged" in page
