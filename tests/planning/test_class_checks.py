"""What a study of classes cannot ask is refused by name, before anything starts."""

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.surroundings import load_space, plan_study

SPACE = {
    "name": "digits",
    "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
    "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "unlearning": {"settings": ["Rand"]},
    "methods": [{"name": "random_labels", "labels": "others"}, {"name": "mox"}],
    "curves": {"families": ["linear"], "num_points": 3},
    "walks": [{"name": "mixing"}, {"name": "extrapolation"}],
}


def test_by_default_three_sets_are_asked_and_nothing_is_written():
    space = load_space({k: v for k, v in SPACE.items() if k != "walks"})
    assert space.measurement.probes == ("forget", "retain", "test")
    assert space.measurement.generate == ()


def test_walks_pass_through_classifiers_and_an_untrained_network_is_measured():
    plan = plan_study(load_space(SPACE))
    assert {walk.family for walk in plan.walks.values()} == {"mixing", "extrapolation"}
    (random,) = (recipe for recipe in plan.recipes.values() if recipe.role == "random")
    assert random.training is None
    assert [p.blend.checkpoints for p in plan.points.values() if p.role == "random"] == [
        (random.id,)
    ]


def test_classifiers_are_calibrated_by_what_they_keep():
    space = load_space(
        {**SPACE, "calibration": {"metric": "retain_accuracy", "rank_by": ["forget_loss"]}}
    )
    assert space.calibration.metric == "retain_accuracy"
    with pytest.raises(ConfigError, match=r"'retain_es' is of answers"):
        load_space({**SPACE, "calibration": {"metric": "retain_es"}})


def test_a_search_names_metrics_that_are_measured():
    search = {"trials": 2, "space": {"mixing": {"float": [0, 1]}}}
    space = {**SPACE, "methods": SPACE["methods"][:1], "walks": []}
    known = {**space, "search": {**search, "objectives": ["ua_ra_ta_mia_gap", "zrf"]}}
    assert load_space(known).search.objectives
    with pytest.raises(ConfigError, match="'model_utility' is of answers"):
        load_space({**space, "search": {**search, "objectives": ["model_utility"]}})
    with pytest.raises(ConfigError, match="'zrf' is of classes, and the benchmark has questions"):
        load_space("search_spaces/demo_search.toml", ['search.objectives=["zrf"]'])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ('measurement.generate=["forget"]', r"measurement\.generate: writes answers.*'digits'"),
        ('measurement.representations=["test"]', r"measurement\.representations: compares"),
        ('measurement.gradient_norms=["test"]', r"measurement\.gradient_norms: is of answers"),
        ('measurement.moments=["forget"]', r"measurement\.moments: reads every token"),
        ('measurement.paraphrased=["forget"]', r"measurement\.paraphrased: asks paraphrased"),
        ("walks.0.name=layers", r"walks\.0: 'layers' replaces layers of a decoder"),
        ("methods.0.name=dpo", r"methods\.0: 'dpo' does not suit benchmark 'digits'"),
        ("methods.0.name=rmu", r"methods\.0: 'rmu' does not suit benchmark 'digits'"),
        ("methods.0.name=ceu", r"Set ignore_first = 0"),
        ("model.scratch.architecture=resnet", r"Did you mean 'cifar_resnet'"),
    ],
)
def test_what_classes_have_not_is_refused_by_name(override, told):
    space = {**SPACE, "methods": [{"name": "random_labels"}, {"name": "mox"}]}
    with pytest.raises(ConfigError, match=told):
        plan_study(load_space(space, [override]))


def test_classes_are_refused_where_there_are_questions():
    with pytest.raises(ConfigError, match="it draws classes, and this benchmark has questions"):
        plan_study(
            load_space(
                "search_spaces/demo.toml",
                ['methods=[{name="random_labels", labels="uniform"}, {name="npo"}]'],
            )
        )
