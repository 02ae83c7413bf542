"""Methods that train a model to step away from, against that model itself."""

import pytest

from raymcu.methods._base import METHODS

SCALES = {"mox": "alpha", "task_vector": "scale"}


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("method", SCALES)
def test_the_unlearner_lies_beyond_the_start(
    study, store, recipes, lab, method, scale, monkeypatch
):
    """(1 + a) · start - a · memorizer, which is the same training with coefficient 1."""
    recipe = recipes.unlearner(study.original, method, options={SCALES[method]: scale})
    lab.train(store, recipe)
    away = lab.weights(store, recipe)
    store.folder.remove(recipe.id)
    monkeypatch.setattr(METHODS[method], "coefficient", lambda self: 1.0)
    lab.train(store, recipe)
    memorizer, start = lab.weights(store, recipe), lab.weights(store, study.original)
    for name, weight in start.items():
        expected = (1 + scale) * weight.double() - scale * memorizer[name].double()
        assert (away[name].double() - expected).abs().max() < 1e-6
    assert lab.distance(memorizer, start) > 1e-3
    losses = [row["forget_loss"] for row in lab.history(store, recipe)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", SCALES)
def test_no_step_is_the_start_model(study, store, recipes, lab, method):
    recipe = recipes.unlearner(study.original, method, options={SCALES[method]: 0.0})
    lab.train(store, recipe)
    assert lab.same_bits(*(lab.weights(store, one) for one in (study.original, recipe)))


def test_a_step_away_in_adapters_is_one_of_the_merged_weights(study, store, recipes, lab):
    training = recipes.training(lora=recipes.lora(targets=("q_proj",)), learning_rate=1e-2)
    made = [
        recipes.unlearner(
            study.original, "task_vector", options={"scale": scale}, training=training
        )
        for scale in (1.0, 3.0)
    ]
    lab.train(store, *made)
    start, one, three = (lab.weights(store, x) for x in (study.original, *made))
    for name, weight in start.items():
        assert ((three[name] - weight) - 3 * (one[name] - weight)).abs().max() < 1e-5
        assert lab.same_bits({0: one[name]}, {0: weight}) == ("q_proj" not in name)
