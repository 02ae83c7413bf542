"""What a training cannot do is told before one begins, once its tables are put together."""

import pytest

from raymcu.errors import ConfigError
from raymcu.planning import training_checks
from raymcu.planning.surroundings import load_space, plan_study


def planned(original=None, unlearning=None, method=None, bend=None):
    return plan_study(
        load_space(
            {
                "name": "checks",
                "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
                "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
                "original": {"training": original or {}},
                "unlearning": {
                    "settings": ["Rand"],
                    "seeds": [0, 1],
                    "training": unlearning or {},
                },
                "methods": [{"name": "grad_diff", "training": method or {}}],
                "curves": {"bend": {"training": bend or {}}},
            }
        )
    )


def multi_step(*milestones, **more):
    return {"schedule": "multi_step", "milestones": milestones, **more}


NOTHING = {"padding": 0, "flips": False}
FAULTS = [
    ({"original": multi_step()}, "original.training.milestones: is missing"),
    ({"bend": multi_step(0.5, 0.25)}, "curves.bend.training.milestones: must ascend"),
    ({"original": multi_step(0.5, 0.5)}, "original.training.milestones: must ascend"),
    ({"original": multi_step(3, 0.5, epochs=4)}, "original.training.milestones: must ascend"),
    (
        {"original": multi_step(1, 4, epochs=4)},
        "original.training.milestones: must ascend, and be passed in 4 epochs, got [1.0, 4.0].",
    ),
    (  # neither table is wrong by itself
        {"unlearning": multi_step(3), "method": {"epochs": 2}},
        "unlearning.training.milestones: must ascend, and be passed in 2 epochs",
    ),
    (
        {
            "unlearning": {"optimizer": {"name": "sgd", "nesterov": True}},
            "method": {"optimizer": {"momentum": 0}},
        },
        "unlearning.training.optimizer.nesterov: needs momentum, which is 0.",
    ),
    (
        {"unlearning": {"augmentation": {"padding": 0}}, "method": {"augmentation": NOTHING}},
        "unlearning.training.augmentation: padding = 0 and flips = false change nothing.",
    ),
]


@pytest.mark.parametrize(("tables", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_fault_is_told_once(tables, told):
    with pytest.raises(ConfigError) as refused:
        planned(**tables)
    (fault,) = refused.value.faults
    assert fault.startswith(told)


def lean(dtype="float32", **training):
    return plan_study(
        load_space(
            {
                "name": "checks",
                "benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05"]},
                "model": {"scratch": {}, "dtype": dtype},
                "unlearning": {"settings": ["Rand"], "seeds": [0, 1], "training": training},
                "methods": [{"name": "grad_diff"}],
            }
        )
    )


EIGHT = {"optimizer": {"name": "adamw_8bit"}}
LEAN = [
    (
        {"weights": "kahan"},
        "weights: is 'kahan', which rounds to bfloat16, and model.dtype is 'float32'. Set "
        "model.dtype = 'bfloat16', or leave weights out.",
    ),
    (
        {"dtype": "bfloat16", "weights": "stochastic", "lora": {}},
        "weights: is 'stochastic', and adapters, which lora trains, are small and float32. Leave "
        "weights out.",
    ),
    (
        {"offload": True, "workers": 2},
        "workers: is 2, and offload = true is for one worker. Set workers = 1, or leave the other "
        "out.",
    ),
    ({"lora": {"base": "nf4"}, "workers": 2}, "workers: is 2, and lora.base = 'nf4' is for one"),
    (
        {"offload": True, "optimizer": {"order": "second", "name": "soul"}},
        "optimizer: 'soul' looks at all weights at once, and offload = true steps one after the "
        "other.",
    ),
    (
        EIGHT,
        "optimizer.name: is 'adamw_8bit', which is bitsandbytes', and that is not installed here. "
        "Install it: pip install 'raymcu[8bit]', or set optimizer.name = 'adamw'.",
    ),
]


@pytest.mark.parametrize(("changes", "told"), LEAN, ids=[told[:40] for _, told in LEAN])
def test_what_takes_less_memory_is_refused_where_it_cannot_be(monkeypatch, changes, told):
    monkeypatch.setattr(training_checks, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        lean(**changes)
    (fault,) = refused.value.faults
    assert fault.startswith(f"unlearning.training.{told}")


def test_what_takes_less_memory_is_planned_where_it_can_be(monkeypatch):
    monkeypatch.setattr(training_checks, "find_spec", lambda name: name)
    for changes in ({"weights": "kahan", "offload": True}, EIGHT, {"lora": {"base": "nf4"}}):
        plan = lean("bfloat16", **changes)
        assert any(recipe.role == "unlearner" for recipe in plan.recipes.values())


def test_tables_that_fit_only_together_are_no_fault():
    plan = planned(
        unlearning={"milestones": [0.5], "optimizer": {"name": "sgd", "nesterov": True}},
        method={"schedule": "multi_step"},
    )
    found = next(recipe for recipe in plan.recipes.values() if recipe.role == "unlearner")
    assert found.training.places == (0.5,)
    assert found.training.optimizer.nesterov
