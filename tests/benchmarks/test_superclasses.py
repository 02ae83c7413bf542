"""Digits in superclasses: what is given, hidden, learned again and asked in the four scenarios."""

import json
from collections import Counter

import pytest

from raymcu.benchmarks._targets import target_name
from raymcu.benchmarks.digits import Digits
from raymcu.benchmarks.text_classes import TextClasses
from raymcu.errors import ConfigError

GROUPS = {"loops": ("0", "6", "8", "9"), "straight": ("1", "4", "7"), "bends": ("2", "3", "5")}
LOOPS = {0, 6, 8, 9}
BOTH = pytest.mark.parametrize("labels", ["classes", "superclasses"])
DIGIT = {row.key: row.label for part in ("train", "test") for row in getattr(Digits().rows(), part)}
"""What each image shows."""


def digits(labels="classes", **options):
    return Digits(superclasses=GROUPS, labels=labels, **options)


def shown(rows):
    """Return which digits the rows show."""
    return {DIGIT[row.key] for row in rows}


def keys(rows):
    return Counter(row.key for row in rows)


@pytest.mark.parametrize(
    ("labels", "size", "scenario", "given", "gone"),
    [
        ("classes", "class6", "all matched", {6}, {6}),
        ("superclasses", "class0", "all matched", LOOPS, LOOPS),
        ("classes", "superclass0", "all matched", LOOPS, LOOPS),
        ("superclasses", "subclass6", "model mismatch", {6}, {6}),
        ("classes", "class6_for_superclass", "target mismatch", {6}, LOOPS),
        ("superclasses", "subclass6_for_class", "data mismatch", {6}, LOOPS),
    ],
)
def test_each_scenario_gives_hides_and_asks_what_it_says(labels, size, scenario, given, gone):
    benchmark, all_of_them = digits(labels), set(range(10))
    assert benchmark.scenario(size) == scenario
    assert shown(benchmark.training_set(size)) == given
    assert shown(benchmark.training_set(benchmark.retain_of(size))) == all_of_them - given
    assert shown(benchmark.training_set(target_name(size))) == gone
    assert shown(benchmark.training_set(benchmark.retrained_on(size))) == all_of_them - gone
    asked = {name: shown(benchmark.probe(name, size)) for name in benchmark.probes}
    assert asked == {
        "forget": gone,
        "forget_given": given,
        "retain": all_of_them - gone,
        "test_kept": all_of_them - gone,
        "test": all_of_them,
        "validation": all_of_them,
    }
    told = {row.label for row in benchmark.probe("test", size)}
    assert told == (all_of_them if labels == "classes" else {0, 1, 2})


@BOTH
@pytest.mark.parametrize("per_class", [None, 20])
def test_every_set_and_what_is_left_without_it_partition_full(labels, per_class):
    benchmark = digits(labels, per_class=per_class)
    full, sets = keys(benchmark.training_set("full")), benchmark.facts().sets
    found = [size for size in benchmark.forget_sizes if size in sets]
    classes = [size for size in found if "class" in size]
    assert len(classes) == (10 + 10 + 3 if labels == "classes" else 3 + 10 + 10)
    for size in found:
        for name, kept in (
            (size, benchmark.retain_of(size)),
            (target_name(size), benchmark.retrained_on(size)),
        ):
            parts = [keys(benchmark.training_set(one)) for one in (name, kept)]
            assert parts[0] + parts[1] == full
            assert [sets[one].num_examples for one in (name, kept)] == [
                part.total() for part in parts
            ]
        given, gone = (benchmark.probe(name, size) for name in ("forget_given", "forget"))
        assert keys(given) <= keys(gone)
        if size in classes and size != target_name(size):
            assert sets[f"{size}_perturbed"].num_examples == len(gone)  # what probes cost
        elif size in classes:
            assert keys(given) == keys(gone)


def test_per_class_bounds_what_is_given_and_not_what_is_to_go():
    whole, some = digits(), digits(per_class=20)
    size = "class6_for_superclass"
    assert len(some.training_set(size)) == 20
    assert keys(some.training_set(size)) <= keys(whole.training_set(size))
    assert keys(some.probe("forget", size)) == keys(whole.probe("forget", size))
    assert keys(some.probe("test_kept", size)) == keys(whole.probe("test_kept", size))
    of_each = Counter(row.label for row in some.training_set("superclass0"))
    assert of_each == dict.fromkeys(LOOPS, 20)
    assert shown(some.probe("test_kept", "superclass0")) == set(range(10))
    part = digits("superclasses", per_class=20)
    assert len(part.training_set("subclass6")) == 20
    assert shown(part.probe("test_kept", "subclass6")) == set(range(10))
    assert len(part.training_set("class0")) == 20  # of the model's class, whatever is in it


def test_labels_are_those_of_the_superclasses_and_the_same_rows_are_held_out():
    by_class, by_group = digits(), digits("superclasses")
    assert by_group.class_names == tuple(GROUPS)
    group = {int(name): n for n, names in enumerate(GROUPS.values()) for name in names}
    for name in ("full", "test", "validation"):
        rows = by_group.training_set(name)
        assert [row.key for row in rows] == [row.key for row in by_class.training_set(name)]
        assert [row.label for row in rows] == [group[DIGIT[row.key]] for row in rows]
        assert [row.subclass for row in rows] == [DIGIT[row.key] for row in rows]


def test_superclasses_are_part_of_the_content():
    moved = {**GROUPS, "straight": ("1", "7"), "bends": ("2", "3", "4", "5")}
    turned = dict(reversed(GROUPS.items()))
    others = (Digits(), digits(), Digits(superclasses=moved), Digits(superclasses=turned))
    told = (digits("superclasses"), Digits(superclasses=moved, labels="superclasses"))
    prints = [made.facts().fingerprint for made in (*others, *told)]
    assert len(set(prints)) == len(prints)
    assert digits().facts() == digits().facts()
    assert Digits(superclasses={}).facts().fingerprint == "20eb9684fa56a620"
    assert Digits(superclasses={}).facts().asked == "4c506f08abcf18d5"


@pytest.mark.parametrize(
    ("labels", "size", "told"),
    [
        ("classes", "subclass3", "with labels = 'classes' that is 'class3'"),
        ("classes", "subclass3_for_class", "that is 'class3_for_superclass', .* tells classes"),
        ("superclasses", "class3_for_superclass", "that is 'subclass3_for_class', .*superclasses"),
        ("superclasses", "superclass1", "that is 'class1'.* or set labels = 'classes'"),
        ("superclasses", "class3", r"the superclasses are 0 \('loops'\) to 2 \('bends'\)"),
        ("classes", "superclass3", r"the superclasses are 0 \('loops'\) to 2 \('bends'\)"),
    ],
)
def test_a_name_that_these_options_do_not_have_says_what_they_have(labels, size, told):
    benchmark = digits(labels)
    for ask in (
        benchmark.scenario,
        benchmark.training_set,
        benchmark.forgotten,
        lambda size: benchmark.probe("forget", size),
        lambda size: benchmark.probe("test_kept", size),
    ):
        with pytest.raises(ConfigError, match=f"benchmark digits: forget set '{size}': .*{told}"):
            ask(size)
    assert size not in benchmark.facts().sets


def test_superclasses_need_not_hold_all_classes_nor_leave_any():
    some = Digits(superclasses={"round": ("0", "6"), "one": ("1",)})
    assert shown(some.training_set("class6_for_superclass")) == {6}
    assert some.scenario("class6_for_superclass") == "target mismatch"
    assert some.scenario("class1_for_superclass") == "all matched"  # there is no more to hide
    assert "'7' is in no superclass. Add it to one" in some.ruled_out("class7_for_superclass")
    assert some.ruled_out("class7") == ""
    everything = Digits(superclasses={"all": tuple("0123456789")})
    for size in ("superclass0", "class3_for_superclass"):
        assert "nothing would be left" in everything.ruled_out(size)
    assert everything.ruled_out("class3") == ""
    assert "there are no superclasses" in Digits().ruled_out("superclass0")
    assert Digits().scenario("class3") == "all matched"
    assert Digits().scenario("forget05") == Digits().meaning("class3") == ""


def test_every_fault_of_superclasses_is_told():
    superclasses = {"loops": ("0", "6", "x"), "bends": ("6", "2")}
    with pytest.raises(ConfigError) as error:
        Digits(superclasses=superclasses, labels="superclasses", indices="/nowhere").facts()
    unknown, twice, lacking, _ = error.value.faults
    assert "superclasses.loops: no class is named 'x'. Known: 0 to 9." in unknown
    assert "superclasses.bends: class '6' is in superclasses.loops too" in twice
    assert "'1', '3', '4', '5', '7', '8', '9' in none of them" in lacking
    for superclasses, told in (({}, "there are none"), ({"all": tuple("0123456789")}, "only one")):
        with pytest.raises(ConfigError, match=f"labels = 'superclasses': .*{told}"):
            Digits(superclasses=superclasses, labels="superclasses").facts()


def test_your_own_classes_may_be_in_superclasses(tmp_path):
    kinds = {"animals": ("cat", "dog"), "trees": ("oak", "pine")}
    names = [name for of in kinds.values() for name in of]
    for split in ("train", "test", "validation"):
        rows = [{"text": f"{split} {n}", "label": names[n % 4]} for n in range(40)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"path": str(tmp_path), "superclasses": kinds}
    benchmark = TextClasses(labels="superclasses", **options)
    assert benchmark.class_names == ("animals", "trees")
    assert {row.label for row in benchmark.training_set("validation")} == {0, 1}
    given, gone = (
        benchmark.probe(name, "subclass1_for_class") for name in ("forget_given", "forget")
    )
    assert {(row.label, row.subclass) for row in given} == {(0, 1)}
    assert {(row.label, row.subclass) for row in gone} == {(0, 0), (0, 1)}
    assert benchmark.meaning("subclass1_for_class") == (
        "data mismatch: 'dog' is given, all of 'animals' is to go"
    )
    with pytest.raises(ConfigError, match=r"superclasses\.pets: .* Did you mean 'cat'"):
        TextClasses(**{**options, "superclasses": {"pets": ("catt",)}}).facts()
