"""Cells, parameters and spaces of trials; every fault of a [search] table before anything starts."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.surroundings import REGISTRIES
from raymcu.planning.trials import (
    applied,
    cells,
    listed,
    mixing_of,
    most_workers,
    search_faults,
    study_name,
    suggested,
)
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

METHODS = [
    {"name": "npo", "beta": 0.2, "training": {"epochs": 3.0}},
    {"name": "grad_diff"},
    {"name": "npo", "label": "npo.long run"},
]


def space(search, **content):
    """A space with that [search] table, written as in TOML."""
    raw = {
        "name": "toy",
        "benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
        "model": {"scratch": {}},
        "methods": METHODS,
        **content,
        "search": {"trials": 4, "objectives": ["model_utility"], **search},
    }
    return strictly(SearchSpace, raw)


class Script:
    """Answers with the middle or first value, or as told; notes what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def suggest_float(self, name, low, high, *, step, log):
        return self._told(name, (name, low, high, step, log), (low + high) / 2)

    def suggest_int(self, name, low, high, *, step, log):
        return self._told(name, (name, low, high, step, log), (low + high) // 2)

    def suggest_categorical(self, name, choices):
        return self._told(name, (name, choices), choices[0])

    def _told(self, name, asked, default):
        self.asked.append(asked)
        return self.answers.get(name, default)


RATE = "methods.npo.training.learning_rate"
CONDITIONAL = {
    RATE: {"float": [1e-4, 1e-2], "log": True},
    "methods.npo.long run.beta": {"float": [0.1, 0.3], "step": 0.1},
    "unlearning.training.epochs": {"int": [1, 3], "when": {"mixing": [0.5, 1.0]}},
    "mixing": {"choice": [0.25, 0.5, 1.0]},
    "method": {"choice": ["npo", "grad_diff", "npo.long run"]},
}


# cells, parameters


def test_grid_gives_a_cell_for_each_combination_in_order():
    one = space({
        "space": {"mixing": {"float": [0.0, 1.0]}},
        "grid": {"method": ["npo", "grad_diff"], "unlearning.training.epochs": [1, 2]},
    })  # fmt: skip
    found = cells(one)
    assert [study_name(one, cell) for cell in found] == [
        "method=npo, unlearning.training.epochs=1",
        "method=npo, unlearning.training.epochs=2",
        "method=grad_diff, unlearning.training.epochs=1",
        "method=grad_diff, unlearning.training.epochs=2",
    ]
    assert found[1] == {"method": "npo", "unlearning.training.epochs": 2}


def test_cells_that_differ_in_nothing_that_exists_are_one():
    grid = {"method": ["npo", "grad_diff"], "methods.npo.beta": [0.1, 0.2]}
    found = cells(space({"space": {"mixing": {"float": [0.0, 1.0]}}, "grid": grid}))
    assert found == [
        {"method": "npo", "methods.npo.beta": 0.1},
        {"method": "npo", "methods.npo.beta": 0.2},
        {"method": "grad_diff"},
    ]


def test_without_a_grid_there_is_one_study_named_after_the_space():
    one = space({"space": CONDITIONAL})
    assert cells(one) == [{}]
    assert study_name(one, {}) == "toy"


def test_what_chooses_is_asked_first_and_only_what_exists_at_all():
    one = space({"space": CONDITIONAL})
    trial = Script(mixing=0.5)
    values = suggested(one, {}, trial)
    assert trial.asked == [
        ("method", ("npo", "grad_diff", "npo.long run")),
        (RATE, 1e-4, 1e-2, None, True),
        ("mixing", (0.25, 0.5, 1.0)),
        ("unlearning.training.epochs", 1, 3, 1, False),
    ]
    assert values == {"method": "npo", RATE: (1e-4 + 1e-2) / 2, "mixing": 0.5,
                      "unlearning.training.epochs": 2}  # fmt: skip
    other = Script(method="npo.long run")
    assert list(suggested(one, {}, other)) == ["method", "methods.npo.long run.beta", "mixing"]


def test_parameter_of_a_method_waits_for_the_cells_method():
    one = space({
        "space": {RATE: {"float": [1e-4, 1e-2]}, "mixing": {"float": [0.0, 1.0]}},
        "grid": {"method": ["npo", "grad_diff"]},
    })  # fmt: skip
    asked = [list(suggested(one, cell, Script())) for cell in cells(one)]
    assert asked == [["method", RATE, "mixing"], ["method", "mixing"]]


def test_files_only_method_has_its_parameters():
    one = space({"space": {RATE: {"float": [1e-4, 1e-2]}}}, methods=METHODS[:1])
    assert list(suggested(one, {}, Script())) == [RATE]


def test_what_waits_for_a_parameter_that_does_not_exist_does_not_either():
    one = space({"space": {
        "method": {"choice": ["npo", "grad_diff"]},
        "methods.npo.beta": {"choice": [0.1, 0.2]},
        "mixing": {"float": [0.0, 1.0], "when": {"methods.npo.beta": 0.1}},
    }})  # fmt: skip
    assert "mixing" in suggested(one, {}, Script(method="npo"))
    assert "mixing" not in suggested(one, {}, Script(method="grad_diff"))


def test_grid_sampler_lists_each_trial_once():
    one = space({"space": {
        "method": {"choice": ["npo", "grad_diff"]},
        "methods.npo.beta": {"float": [0.1, 0.3], "step": 0.1},
        "unlearning.training.epochs": {"int": [1, 5], "step": 2, "when": {"method": "grad_diff"}},
    }, "sampler": "grid"})  # fmt: skip
    assert listed(one, {}) == [
        *({"method": "npo", "methods.npo.beta": beta} for beta in (0.1, 0.2, 0.3)),
        *({"method": "grad_diff", "unlearning.training.epochs": n} for n in (1, 3, 5)),
    ]


# the space of a trial


def test_trial_has_its_method_its_forget_set_and_its_values():
    sizes = {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}
    one = space({"space": CONDITIONAL}, benchmark=sizes, walks=[{"name": "mixing"}])
    values = {"method": "npo.long run", "forget_size": "forget10", "mixing": 0.5,
              "methods.npo.long run.beta": 0.3, "methods.npo.long run.training.learning_rate": 2e-3,
              "unlearning.training.optimizer.order": "second"}  # fmt: skip
    trial = applied(one, values)
    (method,) = trial.methods
    assert (method.title, method.options) == ("npo.long run", {"beta": 0.3})
    assert method.training == {"learning_rate": 2e-3}
    assert trial.unlearning.training.optimizer.resolved == "sophia_g"
    assert trial.benchmark.forget_sizes == ("forget10",)
    assert (trial.search, trial.walks, trial.unlearning.settings) == (None, (), ())
    assert (mixing_of(values), mixing_of({})) == (0.5, 1.0)


def test_value_merges_into_the_methods_own_changes():
    trial = applied(space({"space": CONDITIONAL}), {"method": "npo", RATE: 0.5})
    assert trial.methods[0].training == {"epochs": 3.0, "learning_rate": 0.5}
    assert trial.methods[0].options == {"beta": 0.2}


def test_trial_along_curves_keeps_the_pairs_and_its_family_only():
    families = [{"name": "linear"}, {"name": "quadratic", "label": "bent"}]
    one = space(
        {"space": {"curves.bend.training.epochs": {"float": [1.0, 2.0]}}, "curve": "bent",
         "objectives": ["forget_barrier"]},
        curves={"families": families, "quadratic": "if_barrier", "ensemble": 3},
    )  # fmt: skip
    trial = applied(one, {"curves.bend.training.epochs": 1.5})
    assert [family.title for family in trial.curves.families] == ["bent"]
    assert (trial.curves.quadratic, trial.curves.ensemble) == ("always", None)
    assert trial.curves.bend.training.epochs == 1.5
    assert trial.unlearning.settings == one.unlearning.settings
    assert len(trial.methods) == 3


def test_values_that_do_not_fit_together_are_an_error():
    one = space({"space": CONDITIONAL})
    with pytest.raises(ConfigError, match="is of order 'second', not 'first'"):
        applied(one, {"method": "npo", "unlearning.training.optimizer.name": "soul"})
    with pytest.raises(ConfigError, match="must be > 0, got 0"):
        applied(one, {"method": "npo", "unlearning.training.learning_rate": 0.0})


# faults


def faults(search, **content):
    found = search_faults(space(search, **content), REGISTRIES)
    for fault in found:
        assert fault.endswith((".", "?")), fault
        assert not any(word in fault for word in ("True", "False", "None", "{'", "  ")), fault
    return found


def test_good_searches_have_no_fault():
    assert not faults({"space": CONDITIONAL})
    curve = {"curves.bend.training.epochs": {"float": [1.0, 2.0]}}
    assert not faults({"space": curve, "curve": "quadratic", "objectives": ["forget_barrier"]})
    order = {"unlearning.training.optimizer": [{"order": "first"}, {"name": "sgd"}]}
    assert not faults(
        {"space": {"mixing": {"float": [0, 1]}}, "grid": {"method": ["npo"], **order}}
    )


NPO = {"method": {"choice": ["npo"]}}
MIX = {"mixing": {"float": [0.0, 1.0]}}


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"space": {**NPO, "unlearning.training.learing_rate": {"float": [1.0, 2.0]}}}, ["search.space.unlearning.training.learing_rate: there is no such key. Did you mean 'learning_rate'?"]),
        ({"space": {**NPO, "unlearning.training.learning_rate": {"float": [0.0, 2.0]}}}, ["search.space.unlearning.training.learning_rate: must be > 0, got 0.0."]),
        ({"space": {**NPO, "unlearning.training.batch_size": {"float": [1.5, 2.5]}}}, ["search.space.unlearning.training.batch_size: must be a whole number, got 1.5.", "search.space.unlearning.training.batch_size: must be a whole number, got 2.5."]),
        ({"space": {**NPO, "unlearning.training.schedule": {"choice": ["linear", "constnt"]}}}, ["search.space.unlearning.training.schedule: must be 'linear' or 'constant', got 'constnt'. Did you mean 'constant'?"]),
        ({"space": {**NPO, "methods.npo.bta": {"float": [0.1, 1.0]}}}, ["search.space.methods.npo.bta: there is no such key. Did you mean 'beta'?"]),
        ({"space": {**NPO, "methods.npo.beta": {"float": [-1.0, 1.0]}}}, ["search.space.methods.npo.beta: must be > 0, got -1.0."]),
        ({"space": {**NPO, "methods.npo.long run.training.epochs": {"float": [-1.0, 1.0]}}}, ["search.space.methods.npo.long run.training.epochs: must be > 0, got -1.0."]),
        ({"space": {**NPO, "methods.simnpo.beta": {"float": [0.1, 1.0]}}}, ["search.space.methods.simnpo.beta: no method of this file is named 'simnpo'."]),
        ({"space": {**NPO, "methods.npo.name": {"choice": ["dpo"]}}}, ["search.space.methods.npo.name: a method is chosen by its title."]),
        ({"space": {**NPO, "execution.cpus_per_worker": {"int": [1, 2]}}}, ["search.space.execution.cpus_per_worker: is the same for all trials."]),
        ({"space": {**NPO, "unlearning.seeds.first": {"int": [1, 2]}}}, ["search.space.unlearning.seeds.first: 'unlearning.seeds' is a list of 2."]),
        ({"space": {**NPO, "unlearning.training.schedule.kind": {"int": [1, 2]}}}, ["search.space.unlearning.training.schedule.kind: 'unlearning.training.schedule' is a value, not a table."]),
        ({"space": {**NPO, "benchmark.num_authors": {"choice": [10, 20]}, "model.dtype": {"choice": ["bfloat16"]}, "original.seed": {"int": [0, 1]}, "retrained.train": {"choice": [False]}, "measurement.max_examples": {"int": [1, 2]}, "analysis.tolerance": {"float": [0.0, 0.1]}}}, [f"search.space.{key}: is the same for all trials. Leave it out." for key in ("benchmark.num_authors", "model.dtype", "original.seed", "retrained.train", "measurement.max_examples", "analysis.tolerance")]),
        ({"space": {**NPO, "methods.npo.training.workers": {"int": [1, 2]}}, "objectives": ["model_utility"], "pruner": "median"}, ["search.pruner: 'median' looks at unfinished trainings, which gangs of training.workers > 1 do not show."]),
        ({"space": {"method": {"choice": ["npo", "npoo"]}}}, ["search.space.method: no method of this file is named 'npoo'. Did you mean 'npo'?"]),
        ({"space": {"method": {"int": [0, 1]}}}, ["search.space.method: is chosen by name. Write { choice = ['npo', 'grad_diff', 'npo.long run'] }."]),
        ({"space": {**NPO, "forget_size": {"choice": ["forget01"]}}}, ["search.space.forget_size: no forget size of this file is named 'forget01'."]),
        ({"space": MIX}, ["search.space: a trial has one method, and the file names 3. Add method ="]),
        ({"space": MIX, "grid": {"method": ["npo", "dpo"]}}, ["search.grid.method: no method of this file is named 'dpo'."]),
        ({"space": MIX, "grid": {"method": ["npo"], "unlearning.training.epochs": [1, -1]}}, ["search.grid.unlearning.training.epochs: must be > 0, got -1."]),
        ({"space": {**NPO, "mixing": {"float": [0.0, 1.5]}}}, ["search.space.mixing: is the unlearner's share, in [0, 1], got 1.5."]),
        ({"space": MIX, "curve": "linear", "objectives": ["forget_barrier"]}, ["search.space.mixing: mixes one unlearner, and search.curve connects two."]),
        ({"space": {"curves.num_points": {"int": [3, 5]}}, "curve": "liner", "objectives": ["forget_barrier"]}, ["search.curve: no curve family of this file is named 'liner'. Did you mean 'linear'?"]),
        ({"space": {**NPO, "mixing": {"float": [0.0, 1.0], "when": {"methd": "npo"}}}}, ["search.space.mixing.when: no other parameter is named 'methd'. Did you mean 'method'?"]),
        ({"space": {**NPO, "mixing": {"float": [0.0, 1.0], "when": {"method": ["grad_diff"]}}}}, ["search.space.mixing.when: method is never 'grad_diff'. It is one of ['npo']."]),
        ({"space": {**NPO, "unlearning.training.epochs": {"int": [1, 2], "when": {"unlearning.training.batch_size": 1}}, "unlearning.training.batch_size": {"int": [1, 2], "when": {"unlearning.training.epochs": 1}}}}, ["search.space: unlearning.training.epochs waits for"]),
        ({"space": {**NPO, "mixing": {"float": [0.0, 1.0]}}, "sampler": "grid"}, ["search.space.mixing: has no end of values for a grid. Give step, or choice."]),
        ({"space": {**NPO, "mixing": {"float": [0.0, 1.0], "step": 0.3}}}, ["search.space.mixing: its bounds are no whole number of steps apart, got 0.0 to 1.0 by 0.3. Let it end at 0.9."]),
        ({"space": {**NPO, "unlearning.training.batch_size": {"int": [1, 200_000]}}, "sampler": "grid"}, ["search.sampler: a grid of up to 2e+05 trials is too many"]),
        ({"space": NPO, "objectives": ["model_utilty"]}, ["search.objectives: no metric is named 'model_utilty'. Did you mean 'model_utility'?"]),
    ],
)  # fmt: skip
def test_fault_is_told(search, expected):
    found = faults(search)
    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start), fault


def test_several_forget_sets_need_a_choice():
    sizes = {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}
    (fault,) = faults({"space": NPO}, benchmark=sizes)
    assert fault.startswith("search.space: a trial has one forget size, and the file names 2.")


def test_pairs_of_two_methods_need_two_methods():
    found = faults(
        {"space": NPO, "curve": "linear", "objectives": ["forget_barrier"]},
        unlearning={"settings": ["Met"]},
    )
    assert found
    assert "setting 'Met' pairs two methods, got one" in found[0]


def test_curves_need_pairs():
    (fault,) = faults(
        {"space": {"curves.num_points": {"int": [3, 5]}}, "curve": "linear",
         "objectives": ["forget_barrier"]},
        unlearning={"settings": []},
    )  # fmt: skip
    assert fault.startswith("search.curve: needs unlearners to connect")


def test_pruner_needs_an_objective_that_looks_measure():
    (fault,) = faults(
        {"space": NPO, "objectives": ["retain_cka_retrained"], "pruner": "asha"},
        measurement={"representations": ["retain"]},
    )
    assert fault.startswith("search.pruner: 'asha' looks at unfinished trainings by 'retain_cka_re")


# gangs


@pytest.mark.parametrize(
    ("search", "content", "expected"),
    [
        ({"space": NPO}, {}, 1),
        ({"space": NPO}, {"unlearning": {"training": {"workers": 4}}}, 4),
        ({"space": {**NPO, "methods.npo.training.workers": {"choice": [1, 3]}}}, {}, 3),
        ({"space": MIX, "grid": {"method": ["npo"], "unlearning.training": [{}, {"workers": 2}]}}, {}, 2),
        ({"space": NPO}, {"curves": {"bend": {"training": {"workers": 2}}}}, 1),
        ({"space": NPO, "curve": "quadratic", "objectives": ["forget_barrier"]}, {"curves": {"bend": {"training": {"workers": 2}}}}, 2),
    ],
)  # fmt: skip
def test_workers_of_a_trial_are_the_most_that_a_recipe_of_it_may_have(search, content, expected):
    assert most_workers(space(search, **content)) == expected
