"""An optimizer is named by its order, or by its name."""

import pytest
from pydantic import ValidationError

from raymcu.study.training_tables import ORDERS, OptimizerUse, Training


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


def test_milestones_are_fractions_or_epochs():
    training = Training(schedule="multi_step", epochs=4, milestones=(0.1, 1, 3))
    assert training.places == (0.1, 0.25, 0.75)
    with pytest.raises(ValidationError, match="greater than 0"):
        Training(milestones=(0.0, 0.5))
