"""Plans beyond pairs: walks, memorizers, ensembles, hand-written blends, trials."""

from pathlib import Path

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.plan import More
from raymcu.planning.planner import make_plan, plan_trial
from raymcu.planning.surroundings import load_space, look_around

BASE = """
name = "beyond"
[benchmark]
name = "authors"
num_authors = 10
forget_sizes = ["forget10"]
[model.scratch]
num_layers = 3
hidden_size = 48
num_heads = 2
intermediate_size = 96
vocab_size = 600
[unlearning]
settings = []
[[methods]]
name = "npo"
[[methods]]
name = "mox"
"""
WALKS = """
[[walks]]
name = "mixing"
at = [0.0, 0.5, 1.0]
[[walks]]
name = "extrapolation"
at = [-1.0, 0.0, 2.0, 4.0]
[[walks]]
name = "layers"
methods = ["npo"]
"""


@pytest.fixture
def planned(tmp_path: Path):
    def plan(text: str = "", *sets: str, more: More | None = None):
        path = tmp_path / "space.toml"
        path.write_text(BASE + text)
        space = load_space(path, sets)
        return make_plan(space, look_around(space), more)

    return plan


def only(items, **wanted):
    (found,) = [x for x in items if all(getattr(x, k) == v for k, v in wanted.items())]
    return found


def recipe(plan, label):
    return only(plan.recipes.values(), label=label)


def terms(plan, walk, t):
    point = next(key for at, key, _ in walk.steps if at == t)
    labels = {key: recipe.label for key, recipe in plan.recipes.items()}
    return {labels[key]: c for key, c in plan.points[point].blend.terms.items()}


def test_without_pairs_only_what_walks_need_is_trained(planned):
    plan = planned(WALKS)
    assert sorted(r.label for r in plan.recipes.values()) == [
        "mox/seed0/memorizer",
        "npo/seed0",
        "original",
        "retrained/forget10",
    ]
    assert plan.summary["pairs"] == 0
    assert not plan.curves
    assert [(w.family, w.label) for w in plan.walks.values()] == [
        ("mixing", "npo/seed0"),
        ("mixing", "mox/seed0"),
        ("extrapolation", "mox/seed0"),
        ("layers", "npo/seed0"),
    ]


def test_walks_share_the_original_and_the_unlearner_with_everything_else(planned):
    plan = planned(WALKS)
    original = only(plan.points.values(), role="original").id
    starts = {walk.steps[0][1] for walk in plan.walks.values() if walk.family == "mixing"}
    assert starts == {original}
    roles = [point.role for point in plan.points.values()]
    # .5 of npo; .5 of mox, which steps 4 away and so is alpha 2; alpha -1; three layers
    assert roles.count("walk") == 1 + 1 + 1 + 3
    assert roles.count("unlearner") == 2


def test_extrapolation_goes_from_memorizer_through_original(planned):
    plan = planned(WALKS)
    walk = only(plan.walks.values(), family="extrapolation")
    assert terms(plan, walk, -1.0) == {"mox/seed0/memorizer": 1.0}
    assert terms(plan, walk, 0.0) == {"original": 1.0}
    assert terms(plan, walk, 2.0) == {"original": 3.0, "mox/seed0/memorizer": -2.0}


def test_an_unlearner_stepped_away_from_is_mixed_without_being_made(planned):
    plan = planned(WALKS, "methods.1.alpha=2.0")
    walk = only(plan.walks.values(), family="mixing", label="mox/seed0")
    assert terms(plan, walk, 1.0) == {"original": 3.0, "mox/seed0/memorizer": -2.0}
    assert terms(plan, walk, 0.5) == {"original": 2.0, "mox/seed0/memorizer": -1.0}


def test_every_alpha_has_one_memorizer(planned):
    ids = {recipe(planned(WALKS, f"methods.1.alpha={a}"), "mox/seed0/memorizer").id for a in (1, 8)}
    assert len(ids) == 1
    others = {
        recipe(planned(WALKS, f"methods.1.memorizer={m}"), "mox/seed0/memorizer").id
        for m in ("ce", "negnpo")
    }
    assert len(others) == 2


def test_pairs_end_at_an_unlearner_made_from_its_memorizer(planned):
    plan = planned("", 'unlearning.settings=["Met"]', "methods.1.alpha=2.0")
    unlearner = recipe(plan, "mox/seed0")
    memorizer = recipe(plan, "mox/seed0/memorizer")
    assert unlearner.training is None
    assert unlearner.coefficient == -2.0
    assert unlearner.parents == {"start": recipe(plan, "original").id, "memorizer": memorizer.id}
    assert "alpha" in unlearner.methods[0].options
    assert "alpha" not in memorizer.methods[0].options
    assert [len(level) for level in plan.levels[:3]] == [2, 2, 1]


def test_layers_are_replaced_one_at_a_time(planned):
    plan = planned(WALKS)
    walk = only(plan.walks.values(), family="layers")
    original, npo = recipe(plan, "original").id, recipe(plan, "npo/seed0").id
    for t, point, label in walk.steps:
        blend = plan.points[point].blend
        layer = f"model.layers.{int(t)}."
        assert label == f"layer {int(t)}"
        coefficients = dict(zip(blend.checkpoints, blend.coefficients_of(layer + "x"), strict=True))
        assert coefficients == {original: 0.0, npo: 1.0}
        for other in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
            assert dict(zip(blend.checkpoints, blend.coefficients_of(other), strict=True)) == {
                original: 1.0,
                npo: 0.0,
            }


def test_what_findings_call_for_is_added_and_the_rest_stays(planned):
    plan = planned(WALKS)
    mixing = only(plan.walks.values(), family="mixing", label="npo/seed0")
    layers = only(plan.walks.values(), family="layers")
    more = More({mixing.id: (0.25, 0.5)}, {layers.id: ((0, 2),)})
    richer = planned(WALKS, more=more)
    assert [t for t, _, _ in richer.walks[mixing.id].steps] == [0.0, 0.25, 0.5, 1.0]
    added = richer.points.keys() - plan.points.keys()
    assert sorted(richer.points[key].label for key in added) == [
        "layers 0, 2 of npo/seed0",
        "mixing(npo/seed0) alpha=0.25",
    ]
    assert plan.points.keys() <= richer.points.keys()
    assert plan.recipes.keys() == richer.recipes.keys()


@pytest.mark.parametrize(("family", "interior"), [("linear", 3), ("quadratic", 1)])
def test_an_ensemble_is_the_mean_of_points_of_its_curve(planned, family, interior):
    plan = planned(
        "",
        'unlearning.settings=["Rand"]',
        f'curves.families=["{family}"]',
        f"curves.ensemble={interior}",
        "curves.num_points=3",
    )
    curve = next(c for c in plan.curves.values() if c.first.label == "npo/seed0")
    mean = dict.fromkeys([r.id for r in (curve.first, *curve.bends, curve.second)], 0.0)
    for step in range(interior + 2):
        t = step / (interior + 1)
        weights = (1 - t, t) if family == "linear" else ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        for key, weight in zip(mean, weights, strict=True):
            mean[key] += weight / (interior + 2)
    found = plan.points[dict(curve.ensembles)[interior]]
    assert found.role == "ensemble"
    assert found.blend.terms == pytest.approx(mean, abs=1e-12)


def test_bends_of_one_curve_are_one_training_and_its_siblings(planned):
    families = 'curves.families=[{ name = "bezier", num_bends = 3 }]'
    plan = planned("", 'unlearning.settings=["Rand"]', families, "curves.num_points=3")
    curve = next(iter(plan.curves.values()))
    assert [bend.bend for bend in curve.bends] == [0, 1, 2]
    assert [bend.parents.get("leader") for bend in curve.bends] == [None, *[curve.bends[0].id] * 2]
    middle = plan.points[curve.walk[1][1]].blend.terms
    controls = [curve.first.id, *(b.id for b in curve.bends), curve.second.id]
    assert [middle[key] for key in controls] == [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]


def test_a_hand_written_blend_names_checkpoints_by_label(planned):
    plan = planned("""
[[blends]]
label = "mine"
terms = { original = 0.5, "npo/seed3" = 1.5, "mox/seed0/memorizer" = -1.0 }
layers = { "model.layers.0." = { retrained = 1.0 } }
""")
    blend = only(plan.points.values(), role="blend", label="mine").blend
    labels = [plan.recipes[key].label for key in blend.checkpoints]
    assert dict(zip(labels, blend.coefficients, strict=True)) == {
        "original": 0.5,
        "npo/seed3": 1.5,
        "mox/seed0/memorizer": -1.0,
        "retrained/forget10": 0.0,
    }
    first = dict(zip(labels, blend.coefficients_of("model.layers.0.x"), strict=True))
    assert first == {**dict.fromkeys(labels, 0.0), "retrained/forget10": 1.0}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[[walks]]\nname = "extrapolation"\nmethods = ["npo"]\n',
            "walks.0: 'extrapolation' steps away from a memorizer, and npo trains none",
        ),
        ('[[walks]]\nname = "mixing"\nmethods = ["npoo"]\n', "Did you mean 'npo'?"),
        (
            '[[walks]]\nname = "mixing"\n[[walks]]\nname = "mixing"\nat = [0.5]\n',
            "walks: 'mixing' stands there twice. Give each use a label of its own",
        ),
        (
            '[[blends]]\nlabel = "x"\nterms = { original = 0.5 }\n',
            "blends.0.terms: coefficients must sum to 1, got 0.5",
        ),
        ('[[blends]]\nlabel = "x"\nterms = { "npo/seed" = 1.0 }\n', "Did you mean 'npo/seed0'?"),
        ('[[blends]]\nlabel = "x"\nterms = { "npo/seed0/memorizer" = 1.0 }\n', "is named"),
        ("[calibration]\n", "calibration.curves: no walk or curve of this file is named 'mixing'"),
        ("[layer_choice]\n", "layer_choice: chooses among layers"),
    ],
)
def test_what_a_study_cannot_have_is_told(planned, text, fault):
    with pytest.raises(ConfigError, match=r".") as told:
        planned(text)
    assert fault in str(told.value)


def test_a_trial_is_its_unlearner_at_each_seed_mixed(planned, tmp_path):
    planned()
    space = load_space(tmp_path / "space.toml")
    space = space.model_copy(update={"methods": space.methods[:1]})
    plan = plan_trial(space, look_around(space), (0, 4), mixing=0.25)
    original = recipe(plan, "original").id
    assert [point.role for point in plan.points.values()] == ["trial", "trial"]
    for point, seed in zip(plan.points.values(), (0, 4), strict=True):
        npo = recipe(plan, f"npo/seed{seed}").id
        assert point.blend.terms == {original: 0.75, npo: 0.25}


def test_several_ensembles_of_a_curve_are_points_of_their_own_and_the_one_keeps_its_id(planned):
    asked = ('unlearning.settings=["Rand"]', 'curves.families=["quadratic"]')
    (one, several) = (
        planned("", *asked, f"curves.ensemble={ensemble}") for ensemble in ("3", "[1, 3]")
    )
    for key, curve in several.curves.items():
        found = dict(curve.ensembles)
        assert list(found) == [1, 3]
        assert dict(one.curves[key].ensembles) == {3: found[3]}
        assert several.points[found[1]].label == f"ensemble 1 of {_curve_label(curve)}"
        assert one.points[found[3]].label == f"ensemble of {_curve_label(curve)}"
    rows = several.to_json()["curves"]
    assert [len(row["ensembles"]) for row in rows] == [2] * len(rows)


def _curve_label(curve):
    return f"quadratic({curve.first.label}, {curve.second.label})"
