"""Multiple choice: the likeliest letter, ties, chance, and the letter's probability."""

import math

import numpy as np
import pytest

from raymcu.metrics._base import METRICS


def accuracy(point, probe="bio"):
    return METRICS[f"{probe}_accuracy"].score(point.measured())


def probability(point, probe="bio"):
    return METRICS[f"{probe}_choice_probability"].score(point.measured())


def guesser(build, num_right, num):
    point = build()
    for example in range(num):
        point.choice("bio", example, right=0.5 if example < num_right else 3.0, wrong=[1.0] * 3)
    return point


def test_a_question_is_right_if_its_letter_is_the_likeliest(build):
    point = build().choice("retain", 0, 1.0, [2.0, 3.0, 1.5], letter="C")
    point.choice("retain", 1, 1.0, [2.0, 0.9, 1.5], letter="D")
    point.choice("retain", 2, 0.2, [2.0, 0.9, 1.5], letter="A")
    score = accuracy(point, "retain")
    assert score.value == pytest.approx(2 / 3)
    assert score.num_examples == 3
    assert score.note is None


@pytest.mark.parametrize(("letter", "expected"), [("A", 1.0), ("B", 0.0), ("D", 0.0)])
def test_of_equal_letters_the_first_published_is_chosen(build, letter, expected):
    point = build().choice("bio", 0, 1.0, [1.0, 1.0, 1.0], letter=letter)
    assert accuracy(point).value == expected


def test_letters_of_several_tokens_are_summed_not_averaged(build):
    point = build().add("cyber", 0, [-1.0, -1.0], answer="A")
    point.add("cyber", 0, [-1.5], kind="option", answer="B")
    assert accuracy(point, "cyber").value == 0.0
    # e^-2 / (e^-2 + e^-1.5) = 1 / (1 + e^.5)
    assert probability(point, "cyber").value == pytest.approx(1 / (1 + math.exp(0.5)))


def test_probability_is_the_mean_share_of_the_right_letter(build):
    nll = {p: -math.log(p) for p in (0.5, 0.25, 0.125, 0.1, 0.3)}
    point = build().choice("bio", 0, nll[0.5], [nll[0.25], nll[0.125], nll[0.125]], letter="B")
    point.choice("bio", 1, nll[0.1], [nll[0.1], nll[0.1], nll[0.3]], letter="C")
    assert probability(point).value == pytest.approx((0.5 + 1 / 6) / 2)


def test_probability_has_its_limit_where_all_letters_underflow(build):
    point = build().choice("bio", 0, 2000.0, [2000.0, 3000.0, 3000.0])
    assert probability(point).value == pytest.approx(0.5)


def test_subjects_weigh_by_their_questions(build):
    point = build()  # two questions of one subject right, one of another wrong: 2/3, not 1/2
    for example, right in enumerate((0.1, 0.1, 5.0)):
        point.choice("retain", example, right, [1.0] * 3)
    assert accuracy(point, "retain").value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("num_right", "said"),
    [
        (15, "z = -2.31: over-unlearned"),  # (15 - 25) / sqrt(100 * 1/4 * 3/4)
        (17, "z = -1.85: over-unlearned"),
        (18, "z = -1.62: within the noise"),
        (24, "z = -0.23: within the noise"),
    ],
)
def test_below_chance_is_told_from_the_noise_of_guessing(build, num_right, said):
    score = accuracy(guesser(build, num_right, 100))
    assert score.value == pytest.approx(num_right / 100)
    assert "below chance (0.25)" in score.note
    assert said in score.note


def test_chance_is_that_of_the_options_there_are(build):
    assert accuracy(guesser(build, 25, 100)).note is None
    point = build()
    for example in range(16):
        point.choice("bio", example, 2.0, [1.0])
    # of two options: (0 - 8) / sqrt(16 / 4)
    assert "below chance (0.5), z = -4.00" in accuracy(point).note


def test_questions_without_options_are_left_out_and_counted(build):
    point = build().choice("bio", 3, 1.0, [2.0, 2.0, 2.0]).add("bio", 5, [-1.0], answer="B")
    for score in (accuracy(point), probability(point)):
        assert score.num_examples == 1
        assert "1 of 2 questions lack" in score.note
    nothing = build().add("bio", 0, [-1.0], answer="B")
    assert accuracy(nothing).value is None
    assert "no choice of probe 'bio'" in probability(nothing).note


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_diverged_model_chooses_nothing(build, broken):
    point = build().choice("bio", 0, broken, [broken] * 3).choice("bio", 1, 0.1, [1.0] * 3)
    for score in (accuracy(point), probability(point)):
        assert score.value is None
        assert "diverged" in score.note


def test_an_impossible_letter_is_only_wrong(build):
    point = build().choice("bio", 0, math.inf, [1.0] * 3).choice("bio", 1, 1.0, [math.inf] * 3)
    assert accuracy(point).value == 0.5
    assert probability(point).value == 0.5


def test_rows_in_any_order_give_the_same(build):
    rng = np.random.default_rng(0)
    point = build()
    for example in range(30):
        point.choice("bio", example, rng.uniform(), rng.uniform(size=3), letter="ABCD"[example % 4])
    expected = accuracy(point), probability(point)
    rng.shuffle(point.rows)
    assert (accuracy(point), probability(point)) == expected
