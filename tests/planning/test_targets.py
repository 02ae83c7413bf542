"""A study whose target is no class: what the unlearner keeps, what the retrained model learns."""

from collections import Counter

import pytest

from raymcu.benchmarks import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.planning.inputs import check_inputs
from raymcu.planning.ledger import Ledger
from raymcu.planning.surroundings import load_space, look_around, plan_study
from raymcu.report.console import plan_table
from raymcu.store.run_folder import RunFolder

GROUPS = {"loops": ["0", "6", "8", "9"], "straight": ["1", "4", "7"], "bends": ["2", "3", "5"]}
SIZES = ["class0_for_superclass", "class0", "forget10"]
SPACE = {
    "name": "targets",
    "benchmark": {"name": "digits", "superclasses": GROUPS, "forget_sizes": SIZES},
    "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "unlearning": {"settings": ["Rand"], "seeds": [0, 1]},
    "methods": [{"name": "grad_ascent"}],
    "curves": {"families": ["linear"], "num_points": 3},
    "measurement": {"probes": ["forget", "forget_given", "retain", "test_kept"]},
}
TOLD = "target mismatch: '0' is given, all of 'loops' is to go"


@pytest.fixture(scope="module")
def space():
    return load_space(SPACE)


def labels(benchmark, name):
    return Counter(row.label for row in benchmark.training_set(name))


def test_the_unlearner_keeps_what_is_hidden_and_the_retrained_model_never_sees_it(space):
    benchmark = BENCHMARKS["digits"](**space.benchmark.options)
    recipes = {
        (recipe.role, recipe.forget_size): recipe for recipe in plan_study(space).recipes.values()
    }
    unlearner, retrained = (recipes[role, SIZES[0]] for role in ("unlearner", "retrained"))
    assert unlearner.retain_set == "retain_class0_for_superclass"
    assert retrained.train_sets == ("retain_superclass_of_class0",)
    full = labels(benchmark, "full")
    assert labels(benchmark, unlearner.forget_size) == {0: full[0]}
    assert labels(benchmark, unlearner.retain_set) == {n: full[n] for n in range(1, 10)}
    assert labels(benchmark, *retrained.train_sets) == {n: full[n] for n in (1, 2, 3, 4, 5, 7)}
    for size, kept in (("class0", "retain_class0"), ("forget10", "retain90")):
        assert recipes["unlearner", size].retain_set == kept
        assert recipes["retrained", size].train_sets == (kept,)
    check_inputs(space)


def test_a_plan_and_a_run_say_what_is_given_and_what_is_to_go(space, tmp_path):
    around = look_around(space)
    assert around.meanings == {
        "class0_for_superclass": TOLD,
        "class0": "all matched: '0' is given and is to go",
    }
    plan = plan_study(space)
    summary = {**plan.summary, "forget_sets": around.meanings}
    table = plan_table("targets", summary)
    shown = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert shown["forget set class0_for_superclass"] == TOLD
    ledger = Ledger(RunFolder(str(tmp_path)), plan)
    ledger.begin(space, extend=None)
    assert RunFolder(str(tmp_path)).plan["forget_sets"] == around.meanings
    plain = load_space({**SPACE, "benchmark": {"name": "digits", "forget_sizes": ["class0"]}})
    assert look_around(plain).meanings == {}


def test_names_that_the_options_do_not_have_are_refused_together():
    sizes = ["subclass3", "superclass7", "class3"]
    space = load_space({**SPACE, "benchmark": {**SPACE["benchmark"], "forget_sizes": sizes}})
    with pytest.raises(ConfigError) as error:
        plan_study(space)
    other, number = error.value.faults
    assert other == (
        "benchmark.forget_sizes: 'subclass3': with labels = 'classes' that is 'class3', as the "
        "model tells classes. Name it so, or set labels = 'superclasses'."
    )
    assert number == (
        "benchmark.forget_sizes: 'superclass7': the superclasses are 0 ('loops') to 2 ('bends')."
    )
