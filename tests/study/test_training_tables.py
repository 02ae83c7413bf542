"""An optimizer is named by its order, or by its name."""

from raymcu.study.training_tables import ORDERS, OptimizerUse


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
