"""Known answers of layer choice: the order of layers, their nested sets, and which is chosen."""

import pytest

from raymcu.analysis.layers import Worth, choose_layers
from raymcu.blend import Blend
from raymcu.store import tables
from raymcu.study.walks import LayerChoice

ORIGINAL, UNLEARNER = Blend.of({"o": 1.0}), Blend.of({"u": 1.0})
NAMES = [f"model.layers.{number}." for number in range(4)]
CHOICE = LayerChoice(utility="model_utility", forget="forget_es", keep=0.9)


def point(layers, whole=UNLEARNER, names=NAMES):
    """Name a blend by its layers: ``o``, ``u``, or ``o+1+3``."""
    if whole is not UNLEARNER or len(layers) == len(names):
        return "u"
    return "+".join(["o", *map(str, layers)])


def rows_of_points(sets=(), second="npo/seed0", whole=UNLEARNER, names=NAMES, **head):
    """Return the original, the unlearner, each layer of it alone, and sets."""
    head = {"forget_size": "forget05"} | head
    mixed = [ORIGINAL.with_layers(whole, (n,), names) for n in range(len(names))]
    rows = [
        {"point_id": "o", "role": "original", "blend": ORIGINAL},
        {"point_id": "u", "role": "unlearner", "blend": whole},
        *(
            {"curve_id": "w", "family": "layers", "first": "original", "second": second,
             "t": float(n), "point_id": point((n,), names=names), "role": "walk", "blend": blend}
            for n, blend in enumerate(mixed)
        ),
        *(
            {"point_id": point(chosen), "role": "layers",
             "blend": ORIGINAL.with_layers(whole, chosen, names)}
            for chosen in sets
        ),
    ]  # fmt: skip
    return [head | row | {"blend": row["blend"].model_dump_json()} for row in rows]


def choose(rows, worths, choice=CHOICE, titles=("layers",)):
    """Choose by (utility, forget) on the validation half; the other half has their tenth."""
    known = {
        key: Worth(*pair, *(None if v is None else v / 10 for v in pair))
        for key, pair in worths.items()
    }
    table, sets = choose_layers(tables.from_rows("points", rows), titles, choice, known.get)
    assert table.schema.equals(tables.SCHEMAS["layer_choices"])
    return table.to_pylist(), sets


# forget_es: lower is better. Layers 0, 2 and 3 keep .9 of the original's utility, layer 1 does not.
SINGLES = {
    "o": (0.60, 0.9),
    "u": (0.30, 0.1),
    "o+0": (0.58, 0.7),
    "o+1": (0.50, 0.2),
    "o+2": (0.55, 0.5),
    "o+3": (0.56, 0.7),
}
NESTED = ((0, 2), (0, 2, 3), (0, 1, 2, 3))


def test_layers_that_keep_utility_come_first_by_what_they_forget():
    """2 forgets most of those that keep; 0 and 3 forget alike, and 0 keeps more; 1 breaks."""
    rows, sets = choose(rows_of_points(), SINGLES)
    assert sets == {"w": NESTED}
    assert [(row["kind"], row["layers"], row["point_id"]) for row in rows] == [
        ("original", [], "o"),
        ("unlearner", None, "u"),
        ("layer", [0], "o+0"),
        ("layer", [1], "o+1"),
        ("layer", [2], "o+2"),
        ("layer", [3], "o+3"),
        ("set", [2], "o+2"),
        ("set", [0, 1, 2, 3], "u"),  # all layers are the unlearner, which is measured anyway
    ]
    assert [row["keeps_utility"] for row in rows] == [
        True,
        False,
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert all((row["forget_size"], row["second"]) == ("forget05", "npo/seed0") for row in rows)


def test_layers_alike_in_all_come_by_number_and_those_that_break_by_utility():
    worths = {"o": (0.60, 0.9), "o+0": (0.2, 0.1), "o+1": (0.58, 0.7), "o+2": (0.3, 0.8)}
    _, sets = choose(rows_of_points(), worths | {"o+3": (0.58, 0.7)})
    assert sets["w"] == ((1, 3), (1, 2, 3), (0, 1, 2, 3))


def test_the_set_that_forgets_best_among_those_that_keep_is_chosen():
    worths = SINGLES | {"o+0+2": (0.57, 0.4), "o+0+2+3": (0.53, 0.2)}
    rows, sets = choose(rows_of_points(NESTED[:2]), worths)
    assert sets["w"] == NESTED
    chosen = {tuple(row["layers"] or ()): row for row in rows if row["kind"] == "set"}
    assert list(chosen) == [(2,), *NESTED]
    (row,) = [row for row in rows if row["is_chosen"]]
    assert row == {
        "forget_size": "forget05",
        "second": "npo/seed0",
        "kind": "set",
        "layers": [0, 2],
        "point_id": "o+0+2",
        "utility": 0.57,
        "forget": 0.4,
        "test_utility": pytest.approx(0.057),
        "test_forget": pytest.approx(0.04),
        "keeps_utility": True,
        "is_chosen": True,
    }
    assert chosen[0, 2, 3]["keeps_utility"] is False  # .53 < .9 * .6, though it forgets more


def test_no_layer_is_chosen_where_none_helps():
    worths = SINGLES | {"o+2": (0.55, 0.9), "o+0": (0.58, 0.95), "o+3": (0.56, 0.95)}
    rows, _ = choose(rows_of_points(), worths)
    assert [row["kind"] for row in rows if row["is_chosen"]] == ["original"]


def test_of_equal_sets_the_one_of_fewer_layers_is_chosen():
    worths = SINGLES | {"o+0+2": (0.60, 0.5), "o+0+2+3": (0.60, 0.5)}
    rows, _ = choose(rows_of_points(NESTED[:2]), worths)
    assert [row["layers"] for row in rows if row["is_chosen"]] == [[2]]


def test_higher_is_better_of_logarithms_and_their_bar_is_looser():
    choice = LayerChoice(utility="forget_quality_log10", forget="model_utility", keep=0.5)
    worths = {"o": (-1.0, 0.1), "o+0": (-2.0, 0.3), "o+1": (-2.1, 0.9), "o+2": (-1.5, 0.2)}
    rows, sets = choose(rows_of_points(), worths | {"o+3": (-0.5, 0.1)}, choice)
    assert sets["w"] == ((0, 2), (0, 2, 3), (0, 1, 2, 3))
    assert [row["layers"] for row in rows if row["is_chosen"]] == [[0]]


def test_a_layer_without_a_value_is_in_no_set():
    worths = SINGLES | {"o+2": (0.55, None)}
    del worths["o+3"]
    rows, sets = choose(rows_of_points(), worths)
    assert sets["w"] == ((0, 1),)
    there = {tuple(row["layers"] or ()): row for row in rows if row["kind"] == "layer"}
    assert there[2,]["keeps_utility"] is True
    assert there[3,]["keeps_utility"] is there[3,]["utility"] is None


def test_without_the_originals_utility_nothing_is_chosen():
    rows, sets = choose(rows_of_points(), SINGLES | {"o": (None, 0.9)})
    assert sets["w"] == ()
    assert not any(row["is_chosen"] for row in rows)
    assert all(row["keeps_utility"] is None for row in rows)
    assert "set" not in {row["kind"] for row in rows}


def test_an_unlearner_stepped_away_from_its_memorizer_has_layers_too():
    whole = Blend.of({"o": 3.0, "m": -2.0})
    worths = SINGLES | {"o+0+2": (0.57, 0.4)}
    rows, sets = choose(rows_of_points(NESTED[:1], whole=whole), worths)
    assert sets["w"] == NESTED
    assert {row["kind"]: row["point_id"] for row in rows}["unlearner"] == "u"
    assert [row["layers"] for row in rows if row["is_chosen"]] == [[0, 2]]


def test_the_only_layer_of_a_model_is_the_unlearner():
    rows, sets = choose(rows_of_points(names=NAMES[:1]), {"o": (0.6, 0.9), "u": (0.6, 0.1)})
    assert sets["w"] == ()
    assert [(row["kind"], row["layers"], row["point_id"]) for row in rows] == [
        ("original", [], "o"),
        ("unlearner", None, "u"),
        ("layer", [0], "u"),
        ("set", [0], "u"),
    ]
    assert [row["is_chosen"] for row in rows] == [False, False, False, True]


def test_each_unlearner_has_a_choice_of_its_own_and_only_of_walks_that_put_in():
    rows = [
        *rows_of_points(),
        *({**row, "curve_id": row.get("curve_id") and "v"} for row in rows_of_points()),
        *(
            {**row, "curve_id": row.get("curve_id") and "x", "forget_size": "forget01"}
            for row in rows_of_points(second="ga/seed0")
        ),
        *({**row, "family": "restored"} for row in rows_of_points(second="rmu/seed0")),
    ]
    found, sets = choose(rows, SINGLES)
    assert list(dict.fromkeys((row["forget_size"], row["second"]) for row in found)) == [
        ("forget01", "ga/seed0"),
        ("forget05", "npo/seed0"),
    ]
    assert sets == {"x": NESTED, "v": NESTED}  # of two walks through one unlearner the first by id
