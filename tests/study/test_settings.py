"""The ten settings of the MCU paper's table 1: two rows (what differs) by five columns (how)."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymcu.study.settings import SETTINGS, UnlearnerKey, Variation

PLAIN, CL, SO = Variation(), Variation(has_curriculum=True), Variation(is_second_order=True)
COLUMNS = [(PLAIN, PLAIN), (CL, CL), (SO, SO), (CL, PLAIN), (PLAIN, SO)]
TABLE_1 = {
    False: ["Rand", "Rand-CL", "Rand-SO", "CL-Non-CL", "FO-SO"],
    True: ["Met", "Met-CL", "Met-SO", "Met-CL-Non-CL", "Met-FO-SO"],
}
SIX = [f"method{n}" for n in range(6)]


def all_pairs(methods, seeds):
    return [(name, pair) for name, one in SETTINGS.items() for pair in one.pairs(methods, seeds)]


def test_settings_are_the_ten_of_table_1():
    assert list(SETTINGS) == TABLE_1[False] + TABLE_1[True]
    for pairs_methods, names in TABLE_1.items():
        for name, (first, second) in zip(names, COLUMNS, strict=True):
            setting = SETTINGS[name]
            assert setting.pairs_methods is pairs_methods
            assert (setting.first, setting.second) == (first, second)


def test_six_methods_and_two_seeds_give_135_pairs_of_36_unlearners():
    pairs = all_pairs(SIX, [0, 1])
    assert len(pairs) == 135  # 5 x 6 of seeds, 3 x 15 unordered and 2 x 30 ordered of methods
    assert len({key for _, pair in pairs for key in pair}) == 36  # 6 methods x 2 seeds x 3 kinds


@pytest.mark.parametrize(
    ("name", "num_pairs"),
    [*[(name, 6) for name in TABLE_1[False]], ("Met", 15), ("Met-CL", 15), ("Met-SO", 15),
     ("Met-CL-Non-CL", 30), ("Met-FO-SO", 30)],
)  # fmt: skip
def test_setting_has_as_many_pairs_as_counted_by_hand(name, num_pairs):
    assert len(SETTINGS[name].pairs(SIX, [0, 1])) == num_pairs


def test_rand_pairs_every_two_seeds_of_each_method():
    pairs = SETTINGS["Rand"].pairs(["npo", "ga"], [3, 5, 9])
    assert [(a.label, b.label) for a, b in pairs] == [
        ("npo/seed3", "npo/seed5"),
        ("npo/seed3", "npo/seed9"),
        ("npo/seed5", "npo/seed9"),
        ("ga/seed3", "ga/seed5"),
        ("ga/seed3", "ga/seed9"),
        ("ga/seed5", "ga/seed9"),
    ]


def test_met_pairs_methods_at_the_first_seed():
    pairs = SETTINGS["Met"].pairs(["npo", "ga", "rmu"], [7, 1])
    assert [(a.label, b.label) for a, b in pairs] == [
        ("npo/seed7", "ga/seed7"),
        ("npo/seed7", "rmu/seed7"),
        ("ga/seed7", "rmu/seed7"),
    ]


def test_mixed_met_pairs_both_ways_round():
    pairs = SETTINGS["Met-FO-SO"].pairs(["npo", "ga"], [0])
    assert [(a.label, b.label) for a, b in pairs] == [
        ("npo/seed0", "ga+so/seed0"),
        ("ga/seed0", "npo+so/seed0"),
    ]


@pytest.mark.parametrize("name", ["CL-Non-CL", "Met-CL-Non-CL"])
def test_first_of_a_mixed_curriculum_pair_has_the_curriculum(name):
    for first, second in SETTINGS[name].pairs(["npo", "ga"], [0, 1]):
        assert first.variation.has_curriculum
        assert not second.variation.has_curriculum


@pytest.mark.parametrize("name", ["FO-SO", "Met-FO-SO"])
def test_second_of_a_mixed_order_pair_is_the_second_order_one(name):
    for first, second in SETTINGS[name].pairs(["npo", "ga"], [0, 1]):
        assert not first.variation.is_second_order
        assert second.variation.is_second_order


def test_label_names_method_variation_and_seed():
    labels = {key.label for _, pair in all_pairs(["npo"], [0, 1]) for key in pair}
    kinds = ("npo", "npo+cl", "npo+so")
    assert labels == {f"{kind}/seed{seed}" for kind in kinds for seed in (0, 1)}


@given(
    st.lists(st.sampled_from(SIX), unique=True, min_size=1),
    st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=4),
)
def test_no_pair_stands_twice_and_ends_differ(methods, seeds):
    for setting in SETTINGS.values():
        pairs = setting.pairs(methods, seeds)
        assert len(set(pairs)) == len(pairs)
        if setting.first == setting.second:
            assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        for first, second in pairs:
            assert first != second
            assert (first.method != second.method) is setting.pairs_methods
            assert (first.seed != second.seed) is not setting.pairs_methods
        assert {key.method for key in chain(*pairs)} <= set(methods)


@pytest.mark.parametrize("variation", [PLAIN, CL, SO, Variation(True, True)])
@pytest.mark.parametrize("method", ["npo", "npo.long run", "a/b"])
def test_an_unlearner_is_read_from_its_label(method, variation):
    key = UnlearnerKey(method, 12, variation)
    assert UnlearnerKey.read(key.label) == key
    assert UnlearnerKey.read(f"{key.label}/memorizer") is None
    assert UnlearnerKey.read(method) is None
