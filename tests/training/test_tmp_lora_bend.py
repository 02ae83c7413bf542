from raymcu.search_space import Lora, OptimizerUse
from raymcu.plan import Choice
import pytest
@pytest.mark.parametrize("kind", ["bend", "mask", "so_lora", "plain"])
def test_it(study, store, recipes, kind):
    from raymcu.training.workshop import Workshop
    t = recipes.few.model_copy(update={"lora": Lora(), "epochs": 1.0})
    if kind == "bend":
        r = recipes.bend(study.first, study.second, study.original, training=t)
    elif kind == "mask":
        r = recipes.unlearner(study.original, training=t, retain_set="retain90", mask=Choice(name="wagle", options={"keep": 0.5, "mu": 1.0}))
    elif kind == "so_lora":
        r = recipes.unlearner(study.original, training=t.model_copy(update={"optimizer": OptimizerUse(order="second")}), retain_set="retain90")
    else:
        r = recipes.unlearner(study.original, training=t, retain_set="retain90")
    if kind=="bend": r = r.model_copy(update={"retain_set": "retain90"})
    Workshop(store, 1e9).make(r, lambda *_: None)
    assert store.is_done(r.id)
