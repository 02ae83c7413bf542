"""Planes through checkpoints, bends along the arc, and whose directions are compared."""

from pathlib import Path

import pytest

import raymcu
from raymcu.errors import ConfigError
from raymcu.planning.geometry import directions, is_asked

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.toml"
PLANE = 'surfaces=[{label="p", corners=["original", "npo/seed0", "grad_diff/seed0"], num_points=3}]'
BENT = 'surfaces=[{label="q", corners=["npo/seed0", "npo/seed1", "bend"], margin=0, num_points=3}]'


@pytest.fixture(scope="module")
def plain():
    return raymcu.plan_study(raymcu.load_space(DEMO))


def planned(*sets):
    return raymcu.plan_study(raymcu.load_space(DEMO, sets))


def test_what_reads_weights_alone_changes_no_id(plain):
    assert planned("measurement.geometry=true").id == plain.id
    assert planned('curves.bend.objective_along="uniform"').id == plain.id


def test_a_bend_along_the_arc_is_another_checkpoint_and_nothing_else_is(plain):
    other = planned('curves.bend.objective_along="arc_length"')
    changed = {plain.recipes[key].role for key in plain.recipes.keys() - other.recipes.keys()}
    assert changed == {"bend"}
    assert len(other.recipes) == len(plain.recipes)


def test_a_sharpness_that_is_not_asked_for_is_in_no_id(plain):
    assert planned("measurement.sharpness_draws=4").id == plain.id
    assert planned('measurement.sharpness=["forget"]').id != plain.id


def test_a_plane_is_a_grid_of_blends_that_shares_what_is_there(plain):
    plan = planned(PLANE)
    assert plan.recipes.keys() == plain.recipes.keys()
    assert len(plan.surfaces) == 2  # one for each forget set
    for plane in plan.surfaces:
        assert [corner.label for corner in plane.corners] == [
            "original", "npo/seed0", "grad_diff/seed0",
        ]  # fmt: skip
        assert len(plane.points) == 25  # -1/2, 0, 1/2, 1, 3/2 both ways
        at = {(a, b): plan.points[key] for a, b, key in plane.points}
        ids = [corner.id for corner in plane.corners]
        assert at[0, 0].blend.terms == {ids[0]: 1}
        assert at[0, 0].role == "original"
        assert (at[1, 0].role, at[0, 1].role) == ("unlearner", "unlearner")
        assert at[1.5, -0.5].blend.terms == {ids[1]: 1.5, ids[2]: -0.5}
        assert at[0.5, 0.5].role == "curve"  # the middle of a linear one, t = 3/6
        assert at[0.5, 0].role == "surface"
        assert at[0.5, 0].blend.terms == {ids[0]: 0.5, ids[1]: 0.5}
    kept = plan.points.keys() & plain.points.keys()
    assert kept == plain.points.keys()
    told = plan.to_json()["surfaces"][0]
    assert told["corner_ids"] == [corner.id for corner in plan.surfaces[0].corners]


def test_a_corner_may_be_a_bend_which_comes_and_goes_with_its_curve():
    plan = planned(BENT, 'curves.quadratic="if_barrier"')
    bend = plan.surfaces[0].corners[2]
    assert bend.role == "bend"
    certain = plan.decided({})
    assert bend.id not in certain.recipes
    kept = [key for _, _, key in plan.surfaces[0].points if key in certain.points]
    assert len(kept) == 3  # of nine those between the two ends
    linear = {c.id for c in plan.curves.values() if c.family == "linear"}
    assert plan.decided(dict.fromkeys(linear, True)).points.keys() == plan.points.keys()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('corners=["original", "npo/seed0", "npo/seed0"]', "must be three different models"),
        ('corners=["original", "npo/seed0", "rmu/seed0"]', "corners: no checkpoint is named 'rmu"),
        ('corners=["original", "npo/seed0", "bend"]', "no setting of unlearning.settings pairs"),
        ('corners=["npo/seed0", "grad_diff/seed0", "retrained"], forget_sizes=["x"]', "forget set"),
    ],
)
def test_a_plane_that_cannot_be_is_told(text, fault):
    with pytest.raises(ConfigError, match=fault):
        planned(f'surfaces=[{{label="p", {text}}}]')


def test_a_bend_needs_a_family_with_one():
    with pytest.raises(
        ConfigError, match=r"surfaces.0.corners: 'bend' is that of a curve with one"
    ):
        planned(BENT, 'curves.families=["linear"]')


def test_directions_are_those_of_all_checkpoints_that_are_there(plain):
    space = raymcu.load_space(DEMO)
    everything = set(plain.recipes)
    assert directions(plain, space, everything) is None  # nobody asks
    asking = raymcu.load_space(DEMO, ["measurement.geometry=true"])
    found = directions(plain, asking, everything)
    assert plain.recipes[found.original].role == "original"
    assert len(found.labels) == len(everything) - 1
    labels = [label for _, label in found.labels]
    assert len(set(labels)) == len(labels)
    assert {"retrained/forget05", "forget10:npo/seed0"} <= set(labels)
    assert "forget05:bend(npo/seed0, npo/seed1) quadratic" in labels
    bends = {key for key, recipe in plain.recipes.items() if recipe.role == "bend"}
    fewer = directions(plain, asking, everything - bends)
    assert len(fewer.labels) == len(labels) - len(bends)
    assert fewer.key != found.key
    assert directions(plain, asking, everything - {found.original}) is None


def test_what_is_worked_out_from_geometry_asks_for_it():
    assert is_asked(raymcu.load_space(DEMO, [PLANE]))
    assert is_asked(raymcu.load_space(DEMO, ['curves.bend.objective_along="arc_length"']))
    assert not is_asked(raymcu.load_space(DEMO))
