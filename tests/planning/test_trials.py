"""Cells, parameters and spaces of trials."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.trials import (
    applied,
    cells,
    listed,
    mixing_of,
    most_workers,
    study_name,
    suggested,
)


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


# cells, parameters


def test_grid_gives_a_cell_for_each_combination_in_order(space):
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


def test_cells_that_differ_in_nothing_that_exists_are_one(space):
    grid = {"method": ["npo", "grad_diff"], "methods.npo.beta": [0.1, 0.2]}
    found = cells(space({"space": {"mixing": {"float": [0.0, 1.0]}}, "grid": grid}))
    assert found == [
        {"method": "npo", "methods.npo.beta": 0.1},
        {"method": "npo", "methods.npo.beta": 0.2},
        {"method": "grad_diff"},
    ]


def test_without_a_grid_there_is_one_study_named_after_the_space(space, conditional):
    one = space({"space": conditional})
    assert cells(one) == [{}]
    assert study_name(one, {}) == "toy"


def test_what_chooses_is_asked_first_and_only_what_exists_at_all(space, conditional):
    one = space({"space": conditional})
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


def test_parameter_of_a_method_waits_for_the_cells_method(space):
    one = space({
        "space": {RATE: {"float": [1e-4, 1e-2]}, "mixing": {"float": [0.0, 1.0]}},
        "grid": {"method": ["npo", "grad_diff"]},
    })  # fmt: skip
    asked = [list(suggested(one, cell, Script())) for cell in cells(one)]
    assert asked == [["method", RATE, "mixing"], ["method", "mixing"]]


def test_files_only_method_has_its_parameters(space):
    one = space({"space": {RATE: {"float": [1e-4, 1e-2]}}}, methods=[{"name": "npo", "beta": 0.2}])
    assert list(suggested(one, {}, Script())) == [RATE]


def test_what_waits_for_a_parameter_that_does_not_exist_does_not_either(space):
    one = space({"space": {
        "method": {"choice": ["npo", "grad_diff"]},
        "methods.npo.beta": {"choice": [0.1, 0.2]},
        "mixing": {"float": [0.0, 1.0], "when": {"methods.npo.beta": 0.1}},
    }})  # fmt: skip
    assert "mixing" in suggested(one, {}, Script(method="npo"))
    assert "mixing" not in suggested(one, {}, Script(method="grad_diff"))


def test_grid_sampler_lists_each_trial_once(space):
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


def test_trial_has_its_method_its_forget_set_and_its_values(space, conditional):
    sizes = {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}
    one = space({"space": conditional}, benchmark=sizes, walks=[{"name": "mixing"}])
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


def test_value_merges_into_the_methods_own_changes(space, conditional):
    trial = applied(space({"space": conditional}), {"method": "npo", RATE: 0.5})
    assert trial.methods[0].training == {"epochs": 3.0, "learning_rate": 0.5}
    assert trial.methods[0].options == {"beta": 0.2}


def test_trial_along_curves_keeps_the_pairs_and_its_family_only(space):
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


def test_values_that_do_not_fit_together_are_an_error(space, conditional):
    one = space({"space": conditional})
    with pytest.raises(ConfigError, match="is of order 'second', not 'first'"):
        applied(one, {"method": "npo", "unlearning.training.optimizer.name": "soul"})
    with pytest.raises(ConfigError, match="must be > 0, got 0"):
        applied(one, {"method": "npo", "unlearning.training.learning_rate": 0.0})


NPO = {"method": {"choice": ["npo"]}}
MIX = {"mixing": {"float": [0.0, 1.0]}}


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
def test_workers_of_a_trial_are_the_most_that_a_recipe_of_it_may_have(
    search, content, expected, space
):
    assert most_workers(space(search, **content)) == expected
