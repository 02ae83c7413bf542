"""What a training cannot do is told before one begins, once its tables are put together."""

import pytest

from raymcu.errors import ConfigError
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


def test_tables_that_fit_only_together_are_no_fault():
    plan = planned(
        unlearning={"milestones": [0.5], "optimizer": {"name": "sgd", "nesterov": True}},
        method={"schedule": "multi_step"},
    )
    found = next(recipe for recipe in plan.recipes.values() if recipe.role == "unlearner")
    assert found.training.places == (0.5,)
    assert found.training.optimizer.nesterov
