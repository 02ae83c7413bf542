"""The embedded images: what is forgotten, kept, held out, tested; pinned."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from raymcu.benchmarks import digits as digits_module
from raymcu.benchmarks._classes import RANDOM_SETS
from raymcu.benchmarks._targets import class_sets
from raymcu.benchmarks.digits import Digits
from raymcu.errors import ConfigError


def keys(rows):
    return [row.key for row in rows]


def grey(row):
    """Return the values of the file, 0 to 16."""
    return -(-row.images[0].astype(int) * 16 // 255)


def test_the_rows_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    train, test = Digits().rows().train, Digits().rows().test
    tested = [np.flatnonzero(labels == label)[4::5] for label in range(10)]
    is_test = np.isin(np.arange(len(labels)), np.concatenate(tested))
    for rows, chosen in ((train, ~is_test), (test, is_test)):
        assert [row.label for row in rows] == labels[chosen].tolist()
        assert np.array_equal([grey(row).ravel() for row in rows], images[chosen])
    assert (len(train), len(test)) == (1442, 355)


def test_the_forget_set_is_pinned():
    found = Digits().forgotten("forget05")
    assert len(found) == 65
    told = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    assert told == "7cd13f640dfe6a49dc63af0994151221c2309cd242e07a120ff5587b351b4b06"
    assert Digits().facts().fingerprint == "20eb9684fa56a620"


@pytest.mark.parametrize("options", [{}, {"seed": 3, "validation": 0, "per_class": 20}])
def test_forget_and_retain_set_partition_full(options):
    digits = Digits(**options)
    full = Counter(keys(digits.training_set("full")))
    for size in (*RANDOM_SETS, *class_sets(10)):
        forget = keys(digits.training_set(size))
        retain = keys(digits.training_set(digits.retain_of(size)))
        assert Counter(forget) + Counter(retain) == full
        assert len(forget) == digits.facts().sets[size].num_examples
        assert len(retain) == digits.facts().sets[digits.retain_of(size)].num_examples


def test_random_forget_sets_are_nested_and_drawn_by_the_seed():
    rows = Digits().rows().train
    sets = [set(Digits().forgotten(name)) for name in RANDOM_SETS]
    assert all(small < large for small, large in pairwise(sets))
    assert {rows[index].label for index in sets[3]} == set(range(10))
    assert set(Digits(seed=1).forgotten("forget05")) != sets[3]
    assert keys(Digits(seed=1).training_set("full")) == keys(Digits().training_set("full"))


def test_a_class_is_forgotten_whole_or_in_part():
    digits = Digits()
    whole = digits.training_set("class3")
    assert {row.label for row in whole} == {3}
    assert not [row for row in digits.training_set("retain_class3") if row.label == 3]
    part = Digits(per_class=40)
    assert len(part.training_set("class3")) == 40
    assert set(keys(part.training_set("class3"))) < set(keys(whole))
    assert {row.label for row in part.probe("test_kept", "class3")} == set(range(10))


def test_a_tenth_of_each_class_is_held_out():
    digits = Digits()
    held, train = digits.training_set("validation"), digits.rows().train
    assert not set(keys(held)) & set(keys(digits.training_set("full")))
    of_class, taken = Counter(row.label for row in train), Counter(row.label for row in held)
    assert all(taken[label] == round(of_class[label] / 10) for label in range(10))
    with pytest.raises(
        ConfigError, match=r"'validation' has no row. It has: class0 to class9, forget01"
    ):
        Digits(validation=0).training_set("validation")


def test_probes_ask_what_they_say_in_an_order_that_mixes_classes():
    digits = Digits()
    assert {row.label for row in digits.probe("test_kept", "class3")} == set(range(10)) - {3}
    assert sorted(keys(digits.probe("test_kept", "forget05"))) == sorted(keys(digits.rows().test))
    assert sorted(keys(digits.probe("retain", "class3"))) == sorted(
        keys(digits.training_set("retain_class3"))
    )
    for probe in digits.probes[1:]:
        assert len({row.label for row in digits.probe(probe, "forget05")[:40]}) >= 8


def test_a_file_names_the_rows_to_forget(tmp_path):
    listed = [5, 900, 17, 33, *range(100, 140)]
    file = tmp_path / "digits.txt"
    file.write_text("\n".join(map(str, listed)))
    digits = Digits(indices=str(file))
    assert digits.forgotten("forget10") == tuple(sorted(listed))
    assert digits.forgotten("forget05") == tuple(sorted(listed[:22]))
    assert "forget20" not in digits.facts().sets
    assert not set(listed) & {
        index
        for index, row in enumerate(digits.rows().train)
        if row in digits.probe("validation", "class0")
    }
    assert digits.facts().fingerprint != Digits().facts().fingerprint


def test_every_fault_of_such_a_file_is_told(tmp_path):
    file = tmp_path / "digits.txt"
    file.write_text("1442\n3\n3\n")
    with pytest.raises(ConfigError) as error:
        Digits(indices=str(file)).facts()
    outside, twice = error.value.faults
    assert "1 of its row numbers are outside the training set, which has 0 to 1441" in outside
    assert "names row 3 twice" in twice
    for text, told in (("3\n-1\n", "'-1' is no row number"), ("", "names no row")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=told):
            Digits(indices=str(file)).facts()
    with pytest.raises(ConfigError, match=r"indices = '/nowhere.txt': cannot be read"):
        Digits(indices="/nowhere.txt").facts()


def test_a_missing_file_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr(digits_module, "_FILE", "datasets/data/none.csv.gz")
    digits_module._read.cache_clear()
    with pytest.raises(ConfigError, match=r"none.csv.gz is missing. .*pip install scikit-learn"):
        Digits().facts()


def test_facts_need_neither_torch_nor_scipy():
    code = (
        "import sys; from raymcu.benchmarks.digits import Digits; Digits().facts();"
        "print([name for name in ('torch', 'scipy', 'sklearn', 'PIL') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
