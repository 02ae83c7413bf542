"""The plan: equal work has one id, whatever spells it; what differs has another."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymcu.benchmarks._base import BENCHMARKS, complement
from raymcu.blend import Blend
from raymcu.curves._base import CURVES
from raymcu.errors import ConfigError
from raymcu.models.shapes import known_shape
from raymcu.planning.facts import MethodFacts, Surroundings
from raymcu.planning.planner import make_plan
from raymcu.planning.recipes import Choice, Recipe
from raymcu.planning.surroundings import look_around
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import SETTINGS

SIZES = ("forget01", "forget05", "forget10")
SET_NAMES = ("full", *SIZES, "retain99", "retain95", "retain90", "real_authors", "world_facts")


@dataclass(frozen=True)
class Size:
    num_examples: int = 40
    num_answers: int = 40
    num_characters: int = 10_000
    longest: int = 300


def space_of(**changes):
    """Two methods, two seeds, Rand and Met, both curves, three points each."""
    return SearchSpace.model_validate(
        {
            "name": "toy",
            "benchmark": {"name": "tofu", "forget_sizes": ["forget05"]},
            "model": {"scratch": {}},
            "methods": [{"name": "grad_diff"}, {"name": "npo"}],
            "curves": {"num_points": 3},
            **changes,
        }
    )


def facts_of(space, beta=0.1, learners=()):
    """What is told of the methods; ``learners`` step away from what they learn."""
    return {
        (method.title, is_second_order): MethodFacts(
            {"beta": beta, **space.use_of(method, is_second_order=is_second_order)[0].options},
            step="alpha" if method.title in learners else None,
            coefficient=-1.0 if method.title in learners else 1.0,
        )
        for method in space.methods
        for is_second_order in (False, True)
    }


def chosen(use):
    return Choice(name=use.name, options=use.options)


def around(space, **changes):
    facts = Surroundings(
        fingerprint="0123456789abcdef",
        sets=dict.fromkeys(SET_NAMES, Size()),
        families={name: CURVES[name]() for name in ("linear", "quadratic")},
        retain_sets={size: complement(size) for size in SIZES},
        retrained_sets={size: complement(size) for size in SIZES},
        methods=facts_of(space),
        masks={m.title: chosen(m.mask) for m in space.methods if m.mask},
        curriculum=chosen(space.unlearning.curriculum),
        model_fingerprints={},
        num_parameters=1000,
    )
    return replace(facts, **changes)


def plan_of(**changes):
    space = space_of(**changes)
    return make_plan(space, around(space))


def by_label(plan, label):
    (found,) = [recipe for recipe in plan.recipes.values() if recipe.label == label]
    return found


def walk_of(plan, family, setting="Rand"):
    found = [c for c in plan.curves.values() if (c.family, c.setting) == (family, setting)]
    return found[0]


def ids(plan):
    return set(plan.recipes), set(plan.curves), set(plan.points)


@pytest.fixture(scope="module")
def toy():
    return plan_of()


@pytest.fixture(scope="module")
def grid():
    """MCU's TOFU grid: 6 methods, 3 forget sizes, 10 settings, linear and quadratic, 16 points."""
    return plan_of(
        benchmark={"name": "tofu", "forget_sizes": list(SIZES)},
        methods=[{"name": f"method{n}"} for n in range(6)],
        unlearning={"settings": list(SETTINGS), "seeds": [0, 1]},
        curves={},
    )


# counts


def test_papers_tofu_grid_trains_each_of_108_unlearners_once(grid):
    found = grid.summary
    assert found["pairs"] == 405  # 135 pairs x 3 sizes
    assert found["endpoints"] == {"naive": 810, "unique": 108}  # 36 unlearners x 3 sizes
    assert found["endpoints"]["naive"] / found["endpoints"]["unique"] >= 7
    assert found["bends"] == 405
    assert found["curves"] == 810
    assert found["trainings"] == {"unique": 1 + 3 + 108 + 405}
    # original and retrained at 3 sizes, the unlearners, 14 points inside each curve
    assert found["points"] == 3 * 2 + 108 + 810 * 14


@pytest.mark.parametrize("size", SIZES)
def test_papers_grid_is_135_pairs_of_36_unlearners_at_each_size(grid, size):
    own = [r for r in grid.recipes.values() if r.role == "unlearner" and r.forget_size == size]
    pairs = {
        (c.setting, c.first.id, c.second.id) for c in grid.curves.values() if c.forget_size == size
    }
    assert len(own) == 36
    assert len(pairs) == 135
    assert {r.id for r in own} == {end for _, *ends in pairs for end in ends}
    kinds = [(r.curriculum is not None, r.training.optimizer.order) for r in own]
    assert sorted(set(kinds)) == [(False, "first"), (False, "second"), (True, "first")]
    assert {kinds.count(kind) for kind in kinds} == {12}


def test_summary_has_exactly_these_keys(toy):
    def flat(table, prefix=""):
        for key, value in table.items():
            if isinstance(value, dict) and key != "estimates":
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    assert list(flat(toy.summary)) == [
        "endpoints.naive",
        "endpoints.unique",
        "bends",
        "bends_if_barrier",
        "trainings.unique",
        "pairs",
        "curves",
        "walks",
        "points",
        "estimates",
    ]


def test_estimates_match_a_count_by_hand(toy):
    found = toy.summary["estimates"]
    # 10,000 characters are 2,500 tokens. Original and retrained: 5 epochs of one set; 4 unlearners:
    # 5 epochs of two; 3 bends (2 of Rand, 1 of Met): 2 epochs of two.
    tokens = 2_500 * (2 * 5 + 4 * 5 * 2 + 3 * 2 * 2)
    assert found["train_flops"] == 6 * 1000 * tokens
    # original, retrained, 4 unlearners, one point inside each of 6 curves, 4 probes, one unknown
    assert found["measure_flops"] == 2 * 1000 * 2_500 * 3 * (2 + 4 + 6)
    assert found["memory_gib"] is None  # of no shape that is known
    assert found["disk_gib"] == pytest.approx(1000 * 4 * 9 / 2**30)


def test_estimates_are_unknown_for_a_model_on_a_hub():
    space = space_of()
    found = make_plan(space, around(space, num_parameters=None)).summary["estimates"]
    assert set(found.values()) == {None}


def test_ready_models_are_recipes_but_no_trainings():
    plan = plan_of(original={"path": "org/full"}, retrained={"paths": {"forget05": "org/retain"}})
    assert plan.summary["trainings"]["unique"] == len(plan.recipes) - 2
    assert by_label(plan, "original").training is None
    assert by_label(plan, "retrained/forget05").model.path == "org/retain"


def test_retrained_models_may_be_left_out():
    plan = plan_of(retrained={"train": False})
    assert "retrained" not in {recipe.role for recipe in plan.recipes.values()}


def test_retrained_model_learns_the_complement_of_the_forget_set():
    plan = plan_of(original={"extra_sets": ["real_authors"]})
    assert by_label(plan, "original").train_sets == ("full", "real_authors")
    assert by_label(plan, "retrained/forget05").train_sets == ("retain95", "real_authors")


def test_unlearners_and_bends_keep_the_set_that_the_benchmark_names():
    space = space_of()
    kept = {**around(space).retain_sets, "forget05": "real_authors"}
    learned = {**around(space).retrained_sets, "forget05": "world_facts"}
    plan = make_plan(space, around(space, retain_sets=kept, retrained_sets=learned))
    assert by_label(plan, "retrained/forget05").train_sets[0] == "world_facts"
    roles = {r.role: r.retain_set for r in plan.recipes.values()}
    assert roles == {
        "original": None,
        "retrained": None,
        "unlearner": "real_authors",
        "bend": "real_authors",
    }


# the graph


def test_plan_lists_parents_before_children(grid):
    seen = set()
    for key, recipe in grid.recipes.items():
        assert key == recipe.id
        assert seen.issuperset(recipe.parents.values())
        seen.add(key)


def test_levels_put_parents_first(grid):
    done = set()
    for level in grid.levels:
        assert all(done.issuperset(recipe.parents.values()) for recipe in level)
        done |= {recipe.id for recipe in level}
    assert done == set(grid.recipes)
    roles = [{recipe.role for recipe in level} for level in grid.levels]
    assert roles == [{"original", "retrained"}, {"unlearner"}, {"bend"}]


def test_bend_of_two_methods_descends_on_both_and_of_one_on_it(toy):
    mixed = by_label(toy, "bend(grad_diff/seed0, npo/seed0)")
    assert [method.name for method in mixed.methods] == ["grad_diff", "npo"]
    same = by_label(toy, "bend(npo/seed0, npo/seed1)")
    assert [method.name for method in same.methods] == ["npo"]
    assert set(same.parents) == {"first", "second", "reference"}


def test_bend_may_be_found_by_the_task_instead():
    plan = plan_of(curves={"num_points": 3, "bend": {"objective": "task"}})
    bends = [recipe for recipe in plan.recipes.values() if recipe.role == "bend"]
    assert {tuple(m.name for m in bend.methods) for bend in bends} == {("finetune",)}


def bends_of(plan):
    return [recipe for recipe in plan.recipes.values() if recipe.role == "bend"]


@pytest.mark.parametrize("learners", [{"npo"}, {"npo", "grad_diff"}], ids=len)
def test_methods_that_step_away_from_what_they_learn_get_bends_by_the_task(learners):
    """A bend by their loss would relearn what is to be forgotten."""
    space = space_of()
    plan = make_plan(space, around(space, methods=facts_of(space, learners=learners)))
    for bend in bends_of(plan):
        is_task = any(learner in bend.label for learner in learners)
        names = [m.name for m in bend.methods]
        assert (names == ["finetune"]) is is_task
    assert not make_plan(space, around(space)).recipes.keys() >= plan.recipes.keys()


def test_the_plan_is_told_what_components_say_of_themselves():
    space = space_of(
        benchmark={"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
        methods=[
            {"name": "task_vector", "scale": 2.0},
            {"name": "mox", "label": "far", "second_order": {"alpha": 1.0}},
            {"name": "npo", "mask": {"name": "wagle", "mu": 0.1}},
        ],
    )
    told = look_around(space)
    learners = {title for (title, _), facts in told.methods.items() if facts.step}
    assert learners == {"task_vector", "far"}
    assert [told.methods["far", so].options["alpha"] for so in (False, True)] == [4.0, 1.0]
    assert told.masks == {"npo": Choice(name="wagle", options={"keep": 0.95, "mu": 0.1})}
    assert told.curriculum == Choice(name="superloss", options={"lam": 10.0, "mean": "corrected"})
    assert told.retain_sets["forget05"] == "retain95"
    plan = make_plan(space, told)
    found = {bend.label: [m.name for m in bend.methods] for bend in bends_of(plan)}
    assert found["bend(npo/seed0, npo/seed1)"] == ["npo"]
    assert set(map(tuple, found.values())) == {("npo",), ("finetune",)}


def test_bend_is_found_without_curriculum_and_mask_of_its_ends():
    """They are how the ends were found; and the bend has its own training."""
    plan = plan_of(
        unlearning={"settings": ["Rand-CL", "Rand-SO"]},
        methods=[{"name": "npo", "mask": {"name": "wagle", "keep": 0.9}}],
    )
    assert len(bends_of(plan)) == 2
    for bend in bends_of(plan):
        assert (bend.curriculum, bend.mask) == (None, None)
        assert bend.training.optimizer.order == "first"
        assert bend.training.epochs == 2.0


# settings: curricula, masks, second order


def test_cl_settings_add_the_curriculum_and_nothing_else():
    plan = plan_of(
        unlearning={
            "settings": ["CL-Non-CL"],
            "curriculum": {"name": "difficulty", "by": "length"},
        }
    )
    with_it, without = by_label(plan, "npo+cl/seed0"), by_label(plan, "npo/seed1")
    assert with_it.curriculum == Choice(name="difficulty", options={"by": "length"})
    assert without.curriculum is None
    same = {"curriculum": None, "label": without.label, "seed": 1}
    assert with_it.model_copy(update=same) == without


def test_so_settings_train_by_a_second_order_optimizer_and_nothing_else():
    plan = plan_of(unlearning={"settings": ["FO-SO"], "training": {"epochs": 3.0}})
    first, second = by_label(plan, "npo/seed0"), by_label(plan, "npo+so/seed1")
    assert (first.training.optimizer.order, second.training.optimizer.order) == ("first", "second")
    same = {"training": first.training, "label": first.label, "seed": 0}
    assert second.model_copy(update=same) == first
    assert second.training.epochs == 3.0


def test_so_settings_change_options_and_training_of_their_method_alone():
    changed = {"beta": 0.7, "training": {"learning_rate": 0.5, "optimizer": {"rho": 0.3}}}
    methods = [{"name": "grad_diff"}, {"name": "npo", "beta": 0.2, "second_order": changed}]
    plan = plan_of(methods=methods, unlearning={"settings": ["FO-SO"]})
    first, second = by_label(plan, "npo/seed0"), by_label(plan, "npo+so/seed1")
    assert [r.methods[0].options["beta"] for r in (first, second)] == [0.2, 0.7]
    assert second.training.learning_rate == 0.5
    assert (second.training.optimizer.order, second.training.optimizer.rho) == ("second", 0.3)
    assert first.training.learning_rate == 1e-5
    other = by_label(plan, "grad_diff+so/seed1")
    assert other.methods[0].options["beta"] == 0.1
    assert other.training.optimizer.rho == 0.04
    plain = plan_of(methods=[{"name": "grad_diff"}, {"name": "npo", "beta": 0.2}])
    assert by_label(plain, "npo/seed0").id == first.id


def test_every_unlearner_of_a_masked_method_has_the_mask():
    mask = {"name": "salun", "keep": 0.3}
    plan = plan_of(
        methods=[{"name": "grad_diff"}, {"name": "npo", "mask": mask}],
        unlearning={"settings": ["CL-Non-CL", "FO-SO"]},
    )
    for recipe in plan.recipes.values():
        if recipe.role == "unlearner":
            masked = recipe.label.startswith("npo")
            assert (recipe.mask == Choice(name="salun", options={"keep": 0.3})) is masked
            assert (recipe.mask is None) is not masked


# curves with a bend only where the linear one has a barrier


@pytest.fixture(scope="module")
def choosy():
    return plan_of(
        curves={"num_points": 3, "quadratic": "if_barrier"},
        unlearning={"settings": ["Rand", "Rand-CL", "Met"]},
    )


def linear_of(plan):
    return [c for c in plan.curves.values() if c.family == "linear"]


def test_curve_with_a_bend_waits_for_the_linear_one_between_its_ends(choosy):
    for curve in choosy.curves.values():
        if not curve.bends:
            assert curve.waits_for is None
        else:
            awaited = choosy.curves[curve.waits_for]
            assert awaited.family == "linear"
            ends = (curve.setting, curve.first, curve.second)
            assert (awaited.setting, awaited.first, awaited.second) == ends
    assert choosy.has_choice
    assert not plan_of().has_choice


def test_choice_is_none_of_the_plans_work_but_the_order_of_it(choosy):
    at_once = plan_of(curves={"num_points": 3}, unlearning={"settings": ["Rand", "Rand-CL", "Met"]})
    assert ids(at_once) == ids(choosy)
    assert at_once.id == choosy.id
    conditional = {"bends_if_barrier": 5}  # 2 of Rand, 2 of Rand-CL, 1 of Met
    assert choosy.summary == {**at_once.summary, **conditional}
    assert at_once.summary["bends_if_barrier"] == 0


def test_nothing_is_bent_before_a_verdict(choosy):
    certain = choosy.decided({})
    assert bends_of(certain) == []
    assert list(certain.curves.values()) == linear_of(choosy)
    assert not certain.has_choice
    assert certain.id == choosy.id
    dropped = choosy.points.keys() - certain.points.keys()
    assert dropped == {
        point for c in choosy.curves.values() if c.bends for t, point in c.walk if 0 < t < 1
    }


def test_verdicts_bring_back_exactly_the_curves_with_a_barrier(choosy):
    first, second, *others = linear_of(choosy)
    certain = choosy.decided({first.id: True, second.id: False})  # the others are not judged yet
    (bent,) = [c for c in certain.curves.values() if c.bends]
    assert bent.waits_for == first.id
    assert bends_of(certain) == list(bent.bends)
    assert [c.id for c in linear_of(certain)] == [c.id for c in (first, second, *others)]
    walked = {p for c in certain.curves.values() for _, p in c.walk}
    assert {p.id for p in certain.points.values() if p.role == "curve"} == {
        p for p in walked if choosy.points[p].role == "curve"
    }
    assert set(bent.walk) <= {(t, p) for t, p in bent.walk if p in certain.points}
    roles = ("original", "retrained", "unlearner")
    for kind in ("recipes", "points"):
        ours, theirs = (
            {k for k, x in getattr(plan, kind).items() if x.role in roles}
            for plan in (certain, choosy)
        )
        assert ours == theirs
    assert certain.id == choosy.id
    assert json.loads(json.dumps(certain.to_json()))["plan_id"] == choosy.id


@pytest.mark.parametrize("has_barriers", [True, False])
def test_full_verdicts_bend_all_or_nothing(choosy, has_barriers):
    certain = choosy.decided({c.id: has_barriers for c in linear_of(choosy)})
    assert certain.id == choosy.id
    assert ids(certain) == (ids(choosy) if has_barriers else ids(choosy.decided({})))


def test_plan_without_a_choice_is_decided_as_it_is(toy):
    assert ids(toy.decided({})) == ids(toy)


# points


@pytest.mark.parametrize("family", ["linear", "quadratic"])
def test_end_of_a_curve_is_the_point_of_its_unlearner(toy, family):
    single = {p.label: p.id for p in toy.points.values() if p.role == "unlearner"}
    for curve in toy.curves.values():
        assert curve.walk[0] == (0.0, single[curve.first.label])
        assert curve.walk[-1] == (1.0, single[curve.second.label])


def test_curves_of_both_families_share_their_ends_and_nothing_between(toy):
    linear, quadratic = walk_of(toy, "linear").walk, walk_of(toy, "quadratic").walk
    assert set(linear) & set(quadratic) == {linear[0], linear[-1]}


def test_points_are_equally_spaced_with_both_ends(grid):
    for curve in grid.curves.values():
        assert [t for t, _ in curve.walk] == [step / 15 for step in range(16)]


def test_linear_point_weighs_the_first_by_1_minus_t():
    plan = plan_of(curves={"families": ["linear"], "num_points": 5})
    curve = walk_of(plan, "linear")
    blend = plan.points[curve.walk[1][1]].blend
    assert dict(zip(blend.checkpoints, blend.coefficients, strict=True)) == {
        curve.first.id: 0.75,
        curve.second.id: 0.25,
    }


def test_swapped_pair_shares_its_linear_points_but_has_a_bend_of_its_own(toy):
    other = plan_of(methods=[{"name": "npo"}, {"name": "grad_diff"}])
    ours, theirs = (walk_of(plan, "linear", "Met") for plan in (toy, other))
    assert [p for _, p in ours.walk] == [p for _, p in reversed(theirs.walk)]
    assert ours.id != theirs.id
    bends = [walk_of(plan, "quadratic", "Met").bends[0].id for plan in (toy, other)]
    assert bends[0] != bends[1]


def test_same_blend_of_two_forget_sizes_is_two_points():
    plan = plan_of(benchmark={"name": "tofu", "forget_sizes": ["forget05", "forget10"]})
    original = [p for p in plan.points.values() if p.role == "original"]
    assert [p.forget_size for p in original] == ["forget05", "forget10"]
    assert len({p.blend.id for p in original}) == 1


@pytest.mark.parametrize(
    "changes", [{"max_new_tokens": 9}, {"generate": ["forget"]}, {"max_examples": 5}], ids=str
)
def test_asking_otherwise_makes_other_points_of_the_same_recipes(toy, changes):
    other = plan_of(measurement=changes)
    assert set(other.recipes) == set(toy.recipes)
    assert not set(other.points) & set(toy.points)


# ids


def test_these_three_ids_never_change_by_accident(toy):
    """If this fails, every checkpoint ever made is trained anew. Then raise RECIPE_VERSION."""
    pinned = {
        "original": "36c1bad24c063b0b",
        "npo/seed1": "169e9ebba06821e8",
        "bend(npo/seed0, npo/seed1)": "c91120a996eb51c9",
    }
    assert {label: by_label(toy, label).id for label in pinned} == pinned


def test_ids_say_where_logits_are_made_in_chunks():
    """In float32, of a causal LM with a large vocabulary; what is in no file is taken for one."""

    def chunked(model, **told):
        space = space_of(model=model, methods=[{"name": "npo"}], unlearning={"settings": ["Rand"]})
        plan = make_plan(space, around(space, model_fingerprints={"/a": "a"}, **told))
        (original,) = (r for r in plan.recipes.values() if r.role == "original")
        assert {r.is_chunked for r in plan.recipes.values() if r.training} == {original.is_chunked}
        plain = Recipe(**{**original.model_dump(), "is_chunked": False})
        assert (plain.id != original.id) == original.is_chunked
        return original.is_chunked

    known = known_shape("llama-3.2-1b")
    assert not chunked({"scratch": {}})
    assert not chunked({"scratch": {"vocab_size": 8192}})
    assert chunked({"scratch": {"vocab_size": 8193}})
    assert chunked({"path": "/a"}, shape=known)
    assert chunked({"path": "/a"})
    assert not chunked({"path": "/a", "dtype": "bfloat16"}, shape=known)
    assert not chunked({"path": "/a"}, shape=replace(known, vocabulary=2048))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other", "description": "words", "store": "/elsewhere"},
        {"unlearning": {"training": {"workers": 4, "weight_decay": 0.01, "warmup": 0.2}}},
        {"unlearning": {"second_order": {"optimizer": {"order": "second", "rho": 0.2}}}},
        {"unlearning": {"curriculum": {"name": "difficulty"}}},
        {"unlearning": {"g_effect_examples": 9}},
        {"methods": [{"name": n, "second_order": {"beta": 9.0}} for n in ("grad_diff", "npo")]},
        {"methods": [{"name": n, "training": {"workers": 2}} for n in ("grad_diff", "npo")]},
        {"unlearning": {"seeds": [1, 0]}},
        {"measurement": {"batch_tokens": 64}},
        {"analysis": {"tolerance": 1.0}},
        {"execution": {"cpus_per_worker": 3, "measure_actors": 2, "save_every_s": 0}},
        {"benchmark": {"name": "tofu", "forget_sizes": ["forget05"], "path": "/elsewhere"}},
        {"methods": [{"name": "grad_diff", "label": "gd"}, {"name": "npo", "label": "n"}]},
        {"methods": [{"name": "npo"}, {"name": "grad_diff"}]},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_what_decides_no_weight_changes_no_id_of_an_unlearner(toy, changes):
    def unlearners(plan):
        return {key for key, recipe in plan.recipes.items() if recipe.role != "bend"}

    if changes.get("unlearning", {}).get("seeds"):
        changes = {**changes, "unlearning": {**changes["unlearning"], "settings": ["Rand"]}}
    assert unlearners(plan_of(**changes)) == unlearners(toy)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other", "store": "/elsewhere"},
        {"measurement": {"batch_tokens": 64}},
        {"execution": {"cpus_per_worker": 3}},
        {"benchmark": {"name": "tofu", "forget_sizes": ["forget05"], "path": "/elsewhere"}},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_where_and_how_fast_it_runs_changes_no_id_at_all(toy, changes):
    assert plan_of(**changes).id == toy.id
    assert ids(plan_of(**changes)) == ids(toy)


def test_model_of_the_same_content_elsewhere_is_the_same_model():
    plans = []
    for path in ("/a/model", "org/model"):
        space = space_of(model={"path": path, "revision": f"of {path}"})
        plans.append(make_plan(space, around(space, model_fingerprints={path: "same"})))
    assert ids(plans[0]) == ids(plans[1])


def test_scratch_is_not_used_where_a_path_is_given():
    def plan(**model):
        space = space_of(model={"path": "org/model", **model})
        return make_plan(space, around(space, model_fingerprints={"org/model": "content"}))

    both = plan(scratch={"num_layers": 7})
    assert both.id == plan().id
    assert {recipe.model.scratch for recipe in both.recipes.values()} == {None}


@pytest.mark.parametrize(
    "changes",
    [
        {"unlearning": {"seeds": [2, 3]}},
        {"unlearning": {"training": {"learning_rate": 1e-3}}},
        {"methods": [{"name": n, "training": {"epochs": 1.0}} for n in ("grad_diff", "npo")]},
        {"methods": [{"name": n, "beta": 0.2} for n in ("grad_diff", "npo")]},
        {"methods": [{"name": n, "mask": {"name": "wagle"}} for n in ("grad_diff", "npo")]},
        {"unlearning": {"training": {"optimizer": {"name": "muon"}}}},
        {"unlearning": {"training": {"optimizer": {"betas": [0.8, 0.9]}}}},
        {"unlearning": {"training": {"lora": {"rank": 2}}}},
        {"unlearning": {"g_effect_every": 5}},
        {"original": {"seed": 7}},
        {"original": {"extra_sets": ["world_facts"]}},
        {"model": {"scratch": {"num_layers": 3}}},
        {"model": {"scratch": {}, "dtype": "bfloat16"}},
        {"model": {"scratch": {}, "prompt": "chat"}},
        {"benchmark": {"name": "tofu", "forget_sizes": ["forget10"]}},
        {"unlearning": {"settings": ["Rand-CL", "Met-CL"]}},
        {"unlearning": {"settings": ["Rand-SO", "Met-SO"]}},
    ],
    ids=json.dumps,
)
def test_what_decides_the_weights_changes_the_id_of_every_unlearner_and_bend(toy, changes):
    def ours(plan):
        return {k for k, recipe in plan.recipes.items() if recipe.role in ("unlearner", "bend")}

    other = plan_of(**changes)
    assert len(ours(other)) == len(ours(toy)) == 7
    assert not ours(other) & ours(toy)


def test_a_record_of_g_effects_is_asked_of_unlearners_only(toy):
    plan = plan_of(unlearning={"g_effect_every": 5, "g_effect_examples": 9})
    asked = {(r.role, (r.g_effects.every, r.g_effects.examples) if r.g_effects else None)
             for r in plan.recipes.values()}  # fmt: skip
    assert asked == {("original", None), ("retrained", None), ("unlearner", (5, 9)), ("bend", None)}
    learned = [{r.id for r in p.recipes.values() if not r.parents} for p in (toy, plan)]
    assert learned[0] == learned[1]


LOSS = {"curriculum": {"name": "superloss"}}


@pytest.mark.parametrize(
    ("settings", "changes", "others"),
    [
        ("Rand-CL", LOSS, {"curriculum": {"name": "superloss", "lam": 2.0}}),
        ("Rand-CL", LOSS, {"curriculum": {"name": "difficulty"}}),
        ("Rand-SO", {}, {"second_order": {"optimizer": {"order": "second", "name": "soul"}}}),
        ("Rand-SO", {}, {"second_order": {"optimizer": {"order": "second", "rho": 0.1}}}),
        ("Rand-SO", {}, {"second_order": {"optimizer": {"order": "second"}, "epochs": 1.0}}),
    ],
)
def test_what_a_setting_adds_decides_the_weights_there(settings, changes, others):
    found = [
        {k for k, r in plan.recipes.items() if r.role == "unlearner"}
        for plan in (
            plan_of(unlearning={"settings": [settings], **more}) for more in (changes, others)
        )
    ]
    assert [len(x) for x in found] == [4, 4]
    assert not found[0] & found[1]


def test_masks_of_other_options_are_other_unlearners():
    def unlearners(keep):
        masks = {"name": "wagle", "keep": keep}
        plan = plan_of(methods=[{"name": n, "mask": masks} for n in ("grad_diff", "npo")])
        return {key for key, recipe in plan.recipes.items() if recipe.role == "unlearner"}

    assert unlearners(0.9) == unlearners(0.9)
    assert not unlearners(0.9) & unlearners(0.8)


@pytest.mark.parametrize("changes", [{"fingerprint": "other data"}, {"methods": None}])
def test_other_data_or_resolved_options_are_other_unlearners(toy, changes):
    space = space_of()
    if "methods" in changes:
        changes = {"methods": facts_of(space, beta=0.5)}
    other = make_plan(space, around(space, **changes))
    labels = [recipe.label for recipe in toy.recipes.values() if recipe.role == "unlearner"]
    assert all(by_label(other, label).id != by_label(toy, label).id for label in labels)


def test_other_questions_are_other_points_and_the_same_models():
    space = space_of()
    plans = [make_plan(space, around(space, asked=asked)) for asked in ("", "10-shot", "9-shot")]
    assert len({frozenset(plan.recipes) for plan in plans}) == 1
    points = [point for plan in plans for point in plan.points]
    assert len(set(points)) == len(points)


def test_other_model_content_behind_one_path_is_another_original():
    space = space_of(model={"path": "org/model"})
    plans = [make_plan(space, around(space, model_fingerprints={"org/model": f})) for f in "ab"]
    assert not set(plans[0].recipes) & set(plans[1].recipes)


def test_recipe_survives_json_with_its_id(toy):
    for recipe in toy.recipes.values():
        assert Recipe.model_validate_json(recipe.model_dump_json()).id == recipe.id


def test_order_of_keys_changes_no_id(toy):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(v) for v in value] if isinstance(value, list) else value

    raw = space_of().model_dump(mode="json")
    space = SearchSpace.model_validate(turned(raw))
    facts = dict(reversed(facts_of(space).items()))
    assert make_plan(space, around(space, methods=facts)).id == toy.id


STUDIES = st.fixed_dictionaries(
    {
        "benchmark": st.lists(st.sampled_from(SIZES), min_size=1, unique=True).map(
            lambda sizes: {"name": "tofu", "forget_sizes": sizes}
        ),
        "methods": st.lists(
            st.tuples(st.sampled_from(["ga", "npo", "rmu"]), st.sampled_from([0.1, 0.5])),
            min_size=2,
            max_size=4,
            unique=True,
        ).map(lambda uses: [{"name": n, "label": f"{n}{b}", "beta": b} for n, b in uses]),
        "unlearning": st.fixed_dictionaries(
            {
                "settings": st.lists(st.sampled_from(list(SETTINGS)), min_size=1, unique=True),
                "seeds": st.lists(st.integers(0, 9), min_size=2, max_size=3, unique=True),
            }
        ),
    }
)


@settings(deadline=None, max_examples=25)
@given(STUDIES)
def test_no_two_recipes_of_any_plan_are_equal(study):
    plan = plan_of(**study)
    contents = [r.model_dump_json(exclude={"label", "benchmark"}) for r in plan.recipes.values()]
    assert len(set(contents)) == len(contents)
    assert len({curve.walk for curve in plan.curves.values()}) <= len(plan.curves)
    assert all(key == recipe.id for key, recipe in plan.recipes.items())


@settings(deadline=None, max_examples=25)
@given(STUDIES, st.randoms(use_true_random=False))
def test_order_of_methods_and_settings_changes_no_unlearner(study, random):
    def unlearners(methods, names):
        unlearning = {**study["unlearning"], "settings": names}
        plan = plan_of(**{**study, "methods": methods, "unlearning": unlearning})
        return {key for key, recipe in plan.recipes.items() if recipe.role == "unlearner"}

    methods, names = study["methods"], study["unlearning"]["settings"]
    turned = random.sample(methods, len(methods)), random.sample(names, len(names))
    assert unlearners(*turned) == unlearners(methods, names)


# blends


def test_blend_adds_up_equal_ids_and_drops_what_has_no_weight():
    blend = Blend.of([("b", 0.25), ("a", 0.5), ("b", 0.25), ("c", 0.0), ("d", 0.5), ("d", -0.5)])
    assert blend.checkpoints == ("a", "b")
    assert blend.coefficients == (0.5, 0.5)


def test_blend_of_all_weight_on_one_checkpoint_is_that_checkpoint():
    assert Blend.of([("a", 1.0), ("b", -0.0)]).id == Blend.of({"a": 1}).id


def test_blend_forgets_the_order_of_its_terms_but_not_whose_weight_is_whose():
    assert Blend.of([("a", 0.25), ("b", 0.75)]).id == Blend.of([("b", 0.75), ("a", 0.25)]).id
    assert Blend.of([("a", 0.25), ("b", 0.75)]).id != Blend.of([("a", 0.75), ("b", 0.25)]).id


def test_blend_may_extrapolate():
    assert Blend.of({"ref": 1.5, "mem": -0.5}).coefficients == (-0.5, 1.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_blend_refuses_what_is_not_finite(bad):
    with pytest.raises(ConfigError, match=r"coefficients must be finite, got "):
        Blend.of({"a": bad, "b": 1.0})


@pytest.mark.parametrize("terms", [{}, {"a": 0.5}, {"a": 1.0, "b": 1e-6}])
def test_blend_refuses_coefficients_that_do_not_sum_to_1(terms):
    with pytest.raises(ConfigError, match=r"coefficients must sum to 1, got "):
        Blend.of(terms)
    with pytest.raises(ConfigError, match=r"coefficients of layer 'model\.' must sum to 1"):
        Blend.of({"a": 1.0}, {"model.": terms})


def test_blend_of_layers_takes_the_longest_prefix():
    blend = Blend.of(
        {"a": 1.0},
        {"model.layers.1": {"b": 1.0}, "model.layers.1.mlp": {"a": 0.5, "c": 0.5}},
    )
    assert blend.checkpoints == ("a", "b", "c")
    assert blend.coefficients_of("model.embed") == (1.0, 0.0, 0.0)
    assert blend.coefficients_of("model.layers.1.attn.q") == (0.0, 1.0, 0.0)
    assert blend.coefficients_of("model.layers.1.mlp.up") == (0.5, 0.0, 0.5)


def test_blend_survives_json_with_its_id():
    blend = Blend.of({"a": 0.1, "b": 0.9}, {"x": {"b": 1.0}})
    assert Blend.model_validate_json(blend.model_dump_json()).id == blend.id


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5))
def test_blend_that_is_accepted_sums_to_1(weights):
    terms = [(f"c{n}", weight) for n, weight in enumerate(weights)]
    blend = Blend.of([*terms, ("rest", 1 - math.fsum(weights))])
    assert math.fsum(blend.coefficients) == pytest.approx(1, abs=1e-9)
    assert 0.0 not in blend.coefficients


# what a plan refuses


def test_forget_size_that_the_benchmark_has_no_facts_for_is_named():
    use = {"name": "authors", "num_authors": 20, "forget_sizes": ["forget01", "forget05"]}
    space = space_of(benchmark=use)
    sets = BENCHMARKS["authors"](num_authors=20).facts().sets
    with pytest.raises(ConfigError) as caught:
        make_plan(space, around(space, sets=sets))
    assert caught.value.faults == [
        "benchmark.forget_sizes: 'forget01' is empty in this benchmark (name = 'authors', "
        "num_authors = 20). It has: forget05, forget10. Choose among them, or make the benchmark "
        "larger."
    ]


def test_extra_set_that_the_benchmark_lacks_is_named():
    said = r"^original\.extra_sets: no set is named 'real_author'\. Did you mean 'real_authors'\?"
    with pytest.raises(ConfigError, match=said):
        plan_of(original={"extra_sets": ["real_author"]})


# purity

PURE = """
import json, sys
from raymcu.models.shapes import known_shape
from raymcu.planning.facts import MethodFacts, Surroundings
from raymcu.planning.recipes import Choice
from raymcu.planning.planner import make_plan
from raymcu.study.search_space import SearchSpace

class Line:
    num_bends = 0
    def coefficients(self, t):
        return (1 - t, t)

class Size:
    num_examples = num_characters = 1

space = SearchSpace(
    name="toy",
    benchmark={"name": "x", "forget_sizes": ["forget05"]},
    model={"scratch": {}},
    methods=[{"name": "a"}, {"name": "b"}],
    curves={"families": ["linear"]},
)
sets = {name: Size() for name in ("full", "forget05", "retain95")}
around = Surroundings(
    fingerprint="f",
    sets=sets,
    families={"linear": Line()},
    retain_sets={"forget05": "retain95"},
    retrained_sets={"forget05": "retain95"},
    methods={(name, False): MethodFacts({}) for name in "ab"},
    masks={},
    curriculum=Choice(name="c", options={}),
    model_fingerprints={},
    num_parameters=1,
)
plan = make_plan(space, around)
assert plan.summary["pairs"] == 3
print(json.dumps(sorted({"torch", "ray", "transformers"} & set(sys.modules))))
"""


def test_planning_needs_neither_torch_nor_ray():
    done = subprocess.run([sys.executable, "-c", PURE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_plan_as_json_names_every_recipe_curve_and_point(toy):
    told = json.loads(json.dumps(toy.to_json()))
    assert [r["id"] for r in told["recipes"]] == list(toy.recipes)
    assert [c["id"] for c in told["curves"]] == list(toy.curves)
    assert [p["id"] for p in told["points"]] == list(toy.points)
    assert len(told["curve_points"]) == sum(len(c.walk) for c in toy.curves.values())
    level = {r["id"]: r["level"] for r in told["recipes"]}
    assert all(level[p] < r["level"] for r in told["recipes"] for p in r["parents"])
    assert told["counts"]["endpoints"] == {"naive": 6, "unique": 4}
