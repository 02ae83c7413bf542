"""The syntax of attacked scores: what it reads, writes and refuses."""

import pytest

from raymcu.study.after import Asked, How

ATTACKS = {"relearn": (5.0, 50.0), "int8": (None,), "noise": (0.1,), "faulty": ()}


@pytest.mark.parametrize(
    ("text", "metric", "how"),
    [
        ("forget_es", "forget_es", None),
        ("forget_es after relearn@50", "forget_es", How("relearn", 50.0)),
        ("  forget_es   after  int8 ", "forget_es", How("int8")),
        ("forget_es after noise@1e-1", "forget_es", How("noise", 0.1)),
        ("forget_es after my attack@5", "forget_es", How("my attack", 5.0)),
        ("forget_es after user@home", "forget_es", How("user@home")),
        ("no metric at all", "no metric at all", None),
    ],
)
def test_it_is_read(text, metric, how):
    assert Asked.parse(text) == Asked(metric, how)
    assert Asked.parse(str(Asked.parse(text))) == Asked.parse(text)


def test_it_is_written_in_one_way():
    assert str(Asked.parse("forget_es  after relearn@5e1")) == "forget_es after relearn@50"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("relearn@50", None),
        ("int8", None),
        ("noise", None),
        ("faulty@3", None),
        ("relern@50", "Did you mean 'relearn'?"),
        ("relearn", "several strengths: 5, 50. Say which, e.g. relearn@50"),
        ("relearn@25", "no such strength. It has 5, 50."),
        ("int8@4", "It has none"),
    ],
)
def test_what_is_not_there_is_told(text, fault):
    found = How.parse(text).fault(ATTACKS)
    assert (found is None) if fault is None else (fault in found)


def test_without_any_attack_that_is_told():
    assert "Add [[attacks]]" in How.parse("relearn").fault({})
