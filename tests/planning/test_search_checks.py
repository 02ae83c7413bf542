"""Every fault of a [search] table, before anything starts."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import pytest

from raymcu.planning.search_checks import search_faults
from raymcu.planning.surroundings import REGISTRIES

MIX = {"mixing": {"float": [0.0, 1.0]}}

NPO = {"method": {"choice": ["npo"]}}


@pytest.fixture
def faults(space):
    """What is told of that [search] table; each fault is a sentence for people."""

    def told(search, **content):
        found = search_faults(space(search, **content), REGISTRIES)
        for fault in found:
            assert fault.endswith((".", "?")), fault
            assert not any(word in fault for word in ("True", "False", "None", "{'", "  ")), fault
        return found

    return told


def test_good_searches_have_no_fault(faults, conditional):
    assert not faults({"space": conditional})
    curve = {"curves.bend.training.epochs": {"float": [1.0, 2.0]}}
    assert not faults({"space": curve, "curve": "quadratic", "objectives": ["forget_barrier"]})
    order = {"unlearning.training.optimizer": [{"order": "first"}, {"name": "sgd"}]}
    assert not faults(
        {"space": {"mixing": {"float": [0, 1]}}, "grid": {"method": ["npo"], **order}}
    )


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"space": {**NPO, "unlearning.training.learing_rate": {"float": [1.0, 2.0]}}}, ["search.space.unlearning.training.learing_rate: there is no such key. Did you mean 'learning_rate'?"]),
        ({"space": {**NPO, "unlearning.training.learning_rate": {"float": [0.0, 2.0]}}}, ["search.space.unlearning.training.learning_rate: must be > 0, got 0.0."]),
        ({"space": {**NPO, "unlearning.training.batch_size": {"float": [1.5, 2.5]}}}, ["search.space.unlearning.training.batch_size: must be a whole number, got 1.5.", "search.space.unlearning.training.batch_size: must be a whole number, got 2.5."]),
        ({"space": {**NPO, "unlearning.training.schedule": {"choice": ["linear", "constnt"]}}}, ["search.space.unlearning.training.schedule: must be 'linear', 'constant', 'cosine' or 'multi_step', got 'constnt'. Did you mean 'constant'?"]),
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
def test_fault_is_told(search, expected, faults):
    found = faults(search)
    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start), fault


def test_several_forget_sets_need_a_choice(faults):
    sizes = {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}
    (fault,) = faults({"space": NPO}, benchmark=sizes)
    assert fault.startswith("search.space: a trial has one forget size, and the file names 2.")


def test_pairs_of_two_methods_need_two_methods(faults):
    found = faults(
        {"space": NPO, "curve": "linear", "objectives": ["forget_barrier"]},
        unlearning={"settings": ["Met"]},
    )
    assert found
    assert "setting 'Met' pairs two methods, got one" in found[0]


def test_curves_need_pairs(faults):
    (fault,) = faults(
        {"space": {"curves.num_points": {"int": [3, 5]}}, "curve": "linear",
         "objectives": ["forget_barrier"]},
        unlearning={"settings": []},
    )  # fmt: skip
    assert fault.startswith("search.curve: needs unlearners to connect")


def test_pruner_needs_an_objective_that_looks_measure(faults):
    (fault,) = faults(
        {"space": NPO, "objectives": ["retain_cka_retrained"], "pruner": "asha"},
        measurement={"representations": ["retain"]},
    )
    assert fault.startswith("search.pruner: 'asha' looks at unfinished trainings by 'retain_cka_re")
