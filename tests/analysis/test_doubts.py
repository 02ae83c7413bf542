"""Whether there was anything to forget."""

import pytest

from raymcu.analysis.doubts import doubt

KNOWN = {"forget_loss": 0.1, "forget_rouge": 0.95}


@pytest.mark.parametrize(
    ("original", "retrained", "said"),
    [
        (KNOWN, {"forget_loss": 2.5}, None),
        (KNOWN, {"forget_loss": 0.14}, "retrained model knows the forget set as well"),
        ({"forget_loss": 3.1}, {"forget_loss": 3.0}, "original knows no more of the forget set"),
        ({"forget_loss": 3.1}, {"forget_loss": 3.12}, "(forget loss 3.1 and 3.12)"),
        ({"verbmem": 20.0}, {"verbmem": 19.5}, "VerbMem"),
        ({"verbmem": 60.0}, {"verbmem": 19.5}, None),
        ({"forget_loss": None, "forget_rouge": 0.3}, {"forget_rouge": 0.3}, "ROUGE-L"),
        (KNOWN, {}, None),
        ({}, {}, None),
    ],
)
def test_what_both_models_know_of_the_forget_set_decides(original, retrained, said):
    found = doubt(original, retrained, {})
    assert found is None if said is None else said in found


@pytest.mark.parametrize(("accuracy", "is_guessing"), [(0.26, True), (0.24, True), (0.4, False)])
def test_an_original_that_guesses_has_nothing_to_forget(accuracy, is_guessing):
    found = doubt({"forget_accuracy": accuracy}, {}, {"forget_accuracy": 400})
    assert (found is not None) == is_guessing
    if is_guessing:
        assert "guessing" in found
        assert "400 questions" in found


def test_a_few_right_answers_of_few_questions_may_be_guessed():
    assert doubt({"forget_accuracy": 0.4}, {}, {"forget_accuracy": 10}) is not None


def test_a_classifier_guesses_one_of_its_classes():
    guessed = doubt({"forget_accuracy": 0.12}, {}, {"forget_accuracy": 400}, 10)
    assert guessed is not None
    assert "400 inputs of 10 classes" in guessed
    assert doubt({"forget_accuracy": 0.25}, {}, {"forget_accuracy": 400}, 10) is None
