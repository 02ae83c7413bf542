"""An optimizer is named by its order, or by its name."""

import pytest
from pydantic import ValidationError

from raymcu.study.training_tables import ORDERS, Augmentation, OptimizerUse, Training


def test_name_of_an_optimizer_is_the_orders_first_unless_given():
    assert {order: OptimizerUse(order=order).resolved for order in ORDERS} == {
        "first": "adamw",
        "second": "sophia_g",
        "sign": "sign_sgd",
        "zeroth": "spsa",
        "hybrid": "alternating",
    }
    for order, names in ORDERS.items():
        assert [OptimizerUse(order=order, name=name).resolved for name in names] == list(names)


def test_nesterov_needs_momentum():
    assert OptimizerUse(name="sgd", nesterov=True).momentum
    with pytest.raises(ValidationError, match="nesterov needs momentum, which is 0"):
        OptimizerUse(name="sgd", nesterov=True, momentum=0)


@pytest.mark.parametrize(
    ("milestones", "told"),
    [
        ((), r"needs milestones, e\.g\. \[0\.5, 0\.75\]"),
        ((0.5, 0.25), r"must ascend .*got \[0\.5, 0\.25\]"),
        ((0.5, 0.5), "must ascend"),
        ((3, 0.6), "must ascend"),
        ((1, 4), "be passed in 4 epochs"),
        ((0.0, 0.5), "greater than 0"),
    ],
)
def test_milestones_ascend_and_are_passed(milestones, told):
    with pytest.raises(ValidationError, match=told):
        Training(schedule="multi_step", epochs=4, milestones=milestones)


def test_milestones_are_fractions_or_epochs():
    training = Training(schedule="multi_step", epochs=4, milestones=(0.1, 1, 3))
    assert training.places == (0.1, 0.25, 0.75)
    assert Training(milestones=(7, 3)).schedule == "linear"  # not read, so not looked at


def test_an_augmentation_changes_something():
    assert Augmentation(padding=0).flips
    with pytest.raises(ValidationError, match="change nothing"):
        Augmentation(padding=0, flips=False)
