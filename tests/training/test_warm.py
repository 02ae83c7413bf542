"""A warm workshop makes the same bits as a fresh one, whatever it made before."""

from contextlib import suppress

import pytest

from raymcu.errors import WorkError
from raymcu.training.workshop import Workshop


@pytest.fixture(scope="module")
def made(study, recipes):
    """Recipes that leave something behind: adapters, frozen weights, an order, gradients."""
    kl = {"retain": "kl", "kl_mask": "all"}

    def npo(**changes):
        return recipes.unlearner(study.original, "npo", options=kl, **changes)

    first = npo()
    return {
        "lora": npo(training=recipes.training(lora=recipes.lora())),
        "rmu": recipes.unlearner(study.original, "rmu", options={"layer": 1}),
        "mask": npo(mask=recipes.choice("wagle", keep=0.2)),
        "difficulty": npo(curriculum=recipes.choice("difficulty", by="gradient_norm", start=0.4)),
        "npo": first,
        "bend": recipes.bend(study.first, study.second, study.original, methods=first.methods),
        "spsa": npo(training=recipes.training("spsa")),
        "diverged": recipes.unlearner(
            study.original, "grad_diff", training=recipes.training(max_abs_loss=1e-9)
        ),
        "mox": recipes.unlearner(study.original, "mox", seed=1),
    }


@pytest.fixture(scope="module")
def fresh(study, made, lab, tmp_path_factory):
    """What a workshop of its own makes of each recipe."""
    store = study.copy(tmp_path_factory.mktemp("fresh"))
    for kind, recipe in made.items():
        if kind != "diverged":
            lab.train(store, recipe)
    return store


@pytest.mark.parametrize(
    "kinds",
    [
        ("diverged", "npo", "lora", "rmu", "bend", "difficulty", "mox"),
        ("rmu", "npo", "mask", "spsa", "bend", "lora"),
        ("mox", "bend", "npo", "diverged", "rmu"),
        ("lora", "npo"),
    ],
    ids="-".join,
)
def test_what_was_made_before_leaves_no_trace(study, fresh, made, lab, tmp_path, kinds):
    store = study.copy(tmp_path)
    workshop = Workshop(store, 1e9)
    workshop._encoded = lab._encoded
    for kind in kinds:
        with suppress(WorkError):
            workshop.make(made[kind], lambda *_: None)
        assert store.is_done(made[kind].id) == (kind != "diverged")
        if kind != "diverged":
            weights = (lab.weights(where, made[kind]) for where in (store, fresh))
            assert lab.same_bits(*weights), kind
            assert lab.history(store, made[kind]) == lab.history(fresh, made[kind])
