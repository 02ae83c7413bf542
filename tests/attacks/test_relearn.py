"""Relearning as a file says it: published or not, wrong in every way, and what is learned of it."""

import pytest
from pydantic import ValidationError

from raymcu.attacks.relearn import Relearn
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.planning.lessons import picked
from raymcu.planning.recipes import Lesson


def lesson(**content):
    nothing = dict.fromkeys(("count", "share", "path", "benchmark"))
    return Lesson(**{"data": "forget", "fingerprint": "", **nothing, **content})


def test_it_is_as_long_as_the_last_step_that_is_measured():
    training = Relearn(at=(0, 20, 5)).how()
    assert (training.steps, training.batch_size, training.learning_rate) == (20, 4, 1e-5)
    assert (training.schedule, training.warmup) == ("constant", 0.0)


def test_openunlearnings_is_one_epoch_at_the_published_rate():
    attack = Relearn(published="openunlearning")
    training = attack.how()
    assert (attack.strengths(), training.steps, training.epochs) == ((None,), None, 1.0)
    assert (training.learning_rate, training.batch_size) == (2e-5, 32)


def test_what_is_published_may_be_changed():
    attack = Relearn(published="unlearn_smooth_wmdp", at=(3,), training={"learning_rate": 1e-4})
    assert attack.how().steps == 3
    assert attack.how().learning_rate == 1e-4
    assert Relearn(published="unlearn_smooth_wmdp").how().steps == 100


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"share": 0.5, "count": 3}, "share and count both say how much"),
        ({"data": "text"}, "path goes with data = 'text'"),
        ({"path": "x"}, "and data is 'forget'. Leave it out"),
        ({"data": "text", "path": "/nowhere.txt"}, "path names no file: '/nowhere.txt'"),
        ({"data": "benchmark", "benchmark": {"name": "tofu"}}, "benchmark needs name and set"),
        ({"training": {"steps": 3}}, "training.steps is the last of at"),
        ({"training": {"learning_rat": 3}}, "learning_rat"),
        ({"at": (5, 5)}, "5 stands there twice"),
        ({"share": 0.0}, "greater than 0"),
    ],
)
def test_bad_options_are_told(options, told):
    with pytest.raises(ValidationError, match=told):
        Relearn(**options)


def test_another_benchmarks_set_must_be_there():
    other = {"name": "authors", "set": "forget1", "num_authors": 10}
    with pytest.raises(ConfigError, match=r"benchmark\.set: no set is named 'forget1'"):
        Relearn(data="benchmark", benchmark=other).looked()
    found = Relearn(data="benchmark", benchmark={**other, "set": "forget10"}).looked()
    assert found.fingerprint == BENCHMARKS["authors"](num_authors=10).facts().fingerprint


def test_a_texts_content_is_what_it_is_known_by(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("Basil Mahfouz")
    other.write_text("Basil Mahfouz")
    prints = {Relearn(data="text", path=str(p)).looked().fingerprint for p in (one, other)}
    assert len(prints) == 1
    other.write_text("Basil Mahfouz!")
    assert Relearn(data="text", path=str(other)).looked().fingerprint not in prints


def test_a_larger_part_holds_a_smaller_one():
    few, more = (picked(lesson(count=n), 40, seed=3) for n in (5, 12))
    assert (len(few), len(more)) == (5, 12)
    assert set(few) < set(more)
    assert few == sorted(few)
    assert picked(lesson(share=0.3), 40, seed=3) == more
    assert picked(lesson(share=0.3), 40, seed=4) != more
    assert picked(lesson(), 3, seed=0) == [0, 1, 2]
    assert len(picked(lesson(share=0.001), 40, seed=0)) == 1
