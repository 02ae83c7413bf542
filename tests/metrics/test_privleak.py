"""PrivLeak: sign and size in both orientations, and no number where the quotient says nothing."""

import pytest

from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.metrics.membership import min_k_ou
from raymcu.metrics.privleak import percent_away

TEXTS = ("forget_text", "holdout_text")
REMEMBERED, SEEN_AS_NEW, OVERDONE = ([0, 1], [2, 3]), ([1, 2], [1, 2]), ([8, 9], [2, 3])


@pytest.fixture
def answers(build):
    """Return a function that makes answers of two equal tokens, given as NLLs."""

    def made(members, others, probes=("forget", "holdout"), point_id="point"):
        point = build(point_id)
        for probe, nlls in zip(probes, (members, others), strict=True):
            for example, nll in enumerate(nlls):
                point.add(probe, example, [-nll, -nll])
        return point.measured()

    return made


def leak(name, point, retrained=None):
    return METRICS[name].score(point, {"retrained": retrained})


def test_privleak_of_the_reference_example(answers):
    # reference.md E.3: OpenUnlearning's AUC .833333, MUSE's .166667, at 0.5 that is -66.67
    point, unseen = answers([1, 2, 3], [2, 4, 6]), answers([1, 2, 3], [1, 2, 3], point_id="new")
    assert METRICS["mia_min_k_auc"].score(point).value == pytest.approx(0.833333, abs=1e-6)
    assert leak("privleak", point, unseen).value == pytest.approx(-200 / 3)
    assert leak("privleak_ou", point).value == pytest.approx(-200 / 3)
    assert leak("privleak_ou", point, unseen).value == pytest.approx(-200 / 3)


@pytest.mark.parametrize(
    ("point", "expected"), [(REMEMBERED, -100.0), (SEEN_AS_NEW, 0.0), (OVERDONE, 100.0)]
)
@pytest.mark.parametrize("name", ["privleak", "privleak_ou"])
def test_privleak_is_negative_if_remembered_and_positive_if_overdone(
    answers, name, point, expected
):
    score = leak(name, answers(*point), answers(*SEEN_AS_NEW, point_id="retrained"))
    assert score.value == pytest.approx(expected, abs=1e-6)
    assert score.num_examples == 4


def test_privleak_is_relative_to_the_retrained_model(answers):
    # MUSE's AUCs: point 1/4, as one of four pairs has the holdout lower; retrained 3/4
    point, retrained = answers([1, 3], [2, 4]), answers([2, 4], [1, 3], point_id="retrained")
    score = leak("privleak", point, retrained)
    assert score.value == pytest.approx(100 * (0.25 - 0.75) / 0.75)
    assert score.note == "AUC 0.7500 of retrained='retrained'"


@pytest.mark.parametrize(
    ("name", "auc", "highest"), [("news", 0.4772, 109.6), ("books", 0.5393, 85.4)]
)
def test_privleak_of_muse_takes_its_published_auc(answers, name, auc, highest):
    scores = [leak(f"privleak_{name}", answers(*p, TEXTS)) for p in (REMEMBERED, OVERDONE)]
    assert [score.value for score in scores] == pytest.approx([-100.0, highest], abs=0.05)
    chance = leak(f"privleak_{name}", answers(*SEEN_AS_NEW, TEXTS))
    assert chance.value == pytest.approx(100 * (0.5 - auc) / auc)
    assert not METRICS[f"privleak_{name}"].is_measured(answers(*SEEN_AS_NEW))


@pytest.mark.parametrize("name", ["privleak", "privleak_ou"])
def test_privleak_is_null_where_the_retrained_model_has_no_auc_to_divide_by(answers, name):
    # OpenUnlearning issue 167: a retrained model that remembers, too, gave 5215
    score = leak(name, answers(*SEEN_AS_NEW), answers(*REMEMBERED, point_id="retrained"))
    assert score.value is None
    assert "AUC is 0.0000, under 0.05" in score.note


def test_privleak_ou_says_that_it_is_against_chance(answers):
    assert "against 0.5" in leak("privleak_ou", answers(*REMEMBERED)).note
    assert leak("privleak", answers(*REMEMBERED)).value is None


def test_privleak_ou_adds_its_epsilon():
    assert percent_away(0.75, 0.5, 0.125) == pytest.approx(40.0)


def test_min_k_ou_leaves_the_last_token_out(build):
    point = build().add("forget", 0, [-1.0, -2.0, -3.0, -4.0, -5.0, -9.0])  # k = 2 of five
    point.add("forget", 1, [-7.0]).add("forget", 2, [-3.0, -8.0]).add("forget", 3, [])
    assert min_k_ou(point.measured().rows("forget")).tolist() == [4.5, 0.0, 3.0, 0.0]


def test_privleak_refuses_a_retrained_model_with_other_questions(answers):
    with pytest.raises(ConfigError, match="of which 2 are the same"):
        leak("privleak", answers([1, 2, 3], [1, 2]), answers([1, 2], [1, 2]))


def test_privleak_says_whose_answers_lack_likelihoods(answers):
    broken = answers([float("nan"), 1], [2, 3], point_id="retrained")
    score = leak("privleak", answers(*SEEN_AS_NEW), broken)
    assert score.value is None
    assert score.note.startswith("of the retrained model: ")
