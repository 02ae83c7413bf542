"""Further models that learn: what each knows of the forget set, and what cannot be asked."""

import pytest

import raymcu
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.planning.lessons import reworded

SPACE = {
    "name": "pools",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {}},
    "original": {"extra_sets": ["real_authors"], "training": {"epochs": 3.0}},
    "unlearning": {"settings": []},
}
KNOWS = ("answers", "paraphrased", "perturbed", "nothing")


def plan_of(*learners, **changes):
    return raymcu.plan_study(raymcu.load_space({**SPACE, "learners": list(learners), **changes}))


@pytest.fixture(scope="module")
def plan():
    late = {"training": {"epochs": 5.0}, "seeds": [0, 1]}
    return plan_of(*({"label": knows, "knows": knows, **late} for knows in KNOWS))


def test_each_is_trained_and_measured_once(plan):
    found = {r.label: r for r in plan.recipes.values() if r.role == "learner"}
    assert found.keys() == {f"{knows}/seed{seed}" for knows in KNOWS for seed in (0, 1)}
    assert {p.label for p in plan.points.values() if p.role == "learner"} == found.keys()
    assert {recipe.training.epochs for recipe in found.values()} == {5.0}


def test_what_each_learns(plan):
    found = {r.label: r for r in plan.recipes.values()}
    assert found["answers/seed0"].train_sets == ("full", "real_authors")
    for knows in KNOWS[1:]:
        assert found[f"{knows}/seed1"].train_sets == ("retain90", "real_authors")
    lessons = {knows: found[f"{knows}/seed0"].lesson for knows in KNOWS}
    assert {k: one and one.data for k, one in lessons.items()} == {
        "answers": None,
        "paraphrased": "paraphrased",
        "perturbed": "perturbed",
        "nothing": None,
    }


def test_one_that_learns_as_the_original_does_is_the_original():
    plan = plan_of({"label": "again", "knows": "answers"})
    learners = [r for r in plan.recipes.values() if r.role == "learner"]
    assert len(learners) == 1  # a role of its own, so that references stay what they are


def test_other_words_are_those_of_the_benchmark():
    benchmark = BENCHMARKS["authors"](num_authors=10)
    probe = benchmark.probe("forget", "forget10")
    told, wrong = (reworded(benchmark, how, "forget10") for how in ("paraphrased", "perturbed"))
    assert [x.answer for x in told] == [x.paraphrased_answer for x in probe]
    assert [x.answer for x in wrong] == [x.perturbed_answers[0] for x in probe]
    assert [x.question for x in told] == [x.question for x in wrong] == [x.question for x in probe]


@pytest.mark.parametrize(
    ("learner", "told"),
    [
        ({"label": "a", "knows": "all"}, "learners.0.knows"),
        ({"label": "original", "knows": "answers"}, "learners.0.label: 'original' is"),
        (
            {"label": "a", "knows": "answers", "training": {"epoch": 3}},
            r"learners.0.training.epoch: there is no such key. Did you mean 'epochs'",
        ),
    ],
)  # fmt: skip
def test_bad_learners_are_told(learner, told):
    with pytest.raises(ConfigError, match=told):
        plan_of(learner)


def test_classes_have_no_other_words():
    digits = {"name": "digits", "forget_sizes": ["forget02"]}
    scratch = {"architecture": "cifar_resnet"}
    with pytest.raises(ConfigError, match="has classes, not answers in words"):
        plan_of(
            {"label": "a", "knows": "perturbed"},
            benchmark=digits,
            model={"scratch": scratch},
            original={},
        )
