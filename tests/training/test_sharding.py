"""Two worker processes without Ray, against one."""

import pytest


def short(recipes, **changes):
    """Four steps of four sequences: uneven shares need more than one of them."""
    return recipes.few.model_copy(update={"batch_size": 5, "epochs": 1.0, **changes})


@pytest.fixture
def two_stores(study, tmp_path):
    """The study twice: for one worker and for two."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    return study.copy(tmp_path / "one"), study.copy(tmp_path / "two")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_workers_train_as_one(study, recipes, lab, gang, two_stores, optimizer):
    training = short(recipes, optimizer=optimizer)
    npo = recipes.unlearner(study.original, "npo", options={"retain": "kl"}, training=training)
    diff = recipes.unlearner(study.original, "grad_diff", training=training)
    bend = recipes.bend(study.first, study.second, study.original, training=training)
    made = [npo, diff, bend]
    one, two = two_stores
    lab.train(one, *made)
    gang(two, *made)
    for recipe in made:
        losses = [[row["loss"] for row in lab.history(store, recipe)] for store in (one, two)]
        norms = [
            [row["gradient_norm"] for row in lab.history(store, recipe)] for store in (one, two)
        ]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5, abs=1e-5)
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)
        assert lab.distance(lab.weights(one, recipe), lab.weights(two, recipe)) < 1e-4
