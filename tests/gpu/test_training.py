"""A training on a CUDA device follows the CPU's; and gives the same bits when it is repeated."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raymcu.errors import WorkError
from raymcu.methods._base import METHODS
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Choice
from raymcu.study.training_tables import Average, Lora, Training
from raymcu.training.reading import longest_packed
from raymcu.training.workshop import Workshop

from .place import DEVICE, IS_REHEARSAL

pytestmark = pytest.mark.gpu

NEEDED = {"rmu": {"layer": 1}}
"""What a method cannot do without on a model of two layers."""
KINDS = {
    "muon": {"optimizer": "muon"},
    "sgd": {"optimizer": "sgd"},
    "spsa": {"optimizer": "spsa"},
    "lora": {"lora": Lora()},
    "average": {"average": Average(every="step")},
    "pieces": {"micro_batch_size": 3},
    "packed": {"packing": "packed", "micro_batch_size": 3},
    "padded": {"packing": "none"},
    "recomputed": {"recompute": "blocks"},
}
"""Changes to the training. Sophia samples labels, from a generator of the device's own."""
CHANGES = {
    "salun": {"mask": Choice(name="salun", options={"keep": 0.3})},
    "wagle": {"mask": Choice(name="wagle", options={"keep": 0.3})},
    "superloss": {"curriculum": Choice(name="superloss", options={"lam": 0.05})},
    "difficulty": {"curriculum": Choice(name="difficulty", options={"start": 0.3})},
}
"""Changes to the recipe."""


class Two:
    """Trains a recipe on both devices, and compares."""

    def __init__(self, lab, study, folder, on_cpu):
        self.lab, self.study, self.folder, self.on_cpu = lab, study, folder, on_cpu

    def train(self, recipe, place):
        (self.folder / place).mkdir()
        store = self.study.copy(self.folder / place)
        self.lab.train(store, recipe)
        return self.lab.weights(store, recipe), self.lab.history(store, recipe)

    def compare(self, recipe, loss=1e-3, update=2e-2):
        """Compare the losses of all steps, and the way that the weights went."""
        ours, our_steps = self.train(recipe, "device")
        with self.on_cpu():
            theirs, their_steps = self.train(recipe, "cpu")
        assert len(our_steps) == len(their_steps) > 1
        for one, other in zip(our_steps, their_steps, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=loss, abs=loss)
        home = recipe.parents.get("start") or recipe.parents["first"]
        start = self.lab.weights(self.study.store, self.study.by_id[home])
        apart = sum(float((ours[n] - theirs[n]).square().sum()) for n in ours)
        moved = sum(float((theirs[n] - start[n]).square().sum()) for n in ours)
        assert moved > 0
        assert (apart / moved) ** 0.5 < update


@pytest.fixture
def two(lab, study, tmp_path, on_cpu):
    study.by_id = {one.id: one for one in (study.original, study.first, study.second)}
    return Two(lab, study, tmp_path, on_cpu)


@pytest.mark.parametrize("method", [entry.name for entry in METHODS])
def test_every_method_follows_the_cpu(two, recipes, study, method):
    options = NEEDED.get(method, {})
    recipe = recipes.unlearner(study.original, method, options=options)
    needs = METHODS[method](**options).needs().values()
    if any(need.random_logits for need in needs):  # of a model in place of an untrained one
        parents = {**recipe.parents, "random": study.second.id}
        recipe = recipe.model_copy(update={"parents": parents})
    two.compare(recipe)


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_move_follows_the_cpu(two, recipes, study, kind):
    training = recipes.training(epochs=1.7, **KINDS[kind])
    options = {"retain": "kl"}
    two.compare(recipes.unlearner(study.original, "npo", options=options, training=training))


@pytest.mark.parametrize("change", CHANGES)
def test_masks_and_curricula_follow_the_cpu(two, recipes, study, change):
    options = {"retain": "kl"}
    two.compare(recipes.unlearner(study.original, "npo", options=options, **CHANGES[change]))


@pytest.mark.parametrize("curve", ["quadratic", "bezier", "polygon"])
def test_bends_follow_the_cpu(two, recipes, study, curve):
    two.compare(recipes.bend(study.first, study.second, study.original, curve=curve))


@pytest.mark.parametrize("kind", ["plain", "bend", "lora", "muon"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_recipe_gives_the_same_bits(two, recipes, study, kind, dtype):
    model = study.original.model.model_copy(update={"dtype": dtype})
    training = recipes.training(**KINDS.get(kind, {}))
    if kind == "bend":
        recipe = recipes.bend(study.first, study.second, study.original, model=model)
    else:
        options = {"retain": "kl"}
        recipe = recipes.unlearner(
            study.original, "npo", options=options, model=model, training=training
        )
    one, other = (two.train(recipe, place) for place in ("one", "two"))
    assert two.lab.same_bits(one[0], other[0])
    assert one[1] == other[1]


@pytest.mark.parametrize("kind", ["plain", "muon", "packed"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_that_was_killed_ends_with_the_same_bits(two, recipes, study, kind, dtype):
    model = study.original.model.model_copy(update={"dtype": dtype})
    training = recipes.training(**KINDS.get(kind, {}))
    recipe = recipes.unlearner(study.original, "npo", model=model, training=training)
    whole = two.train(recipe, "whole")
    (two.folder / "killed").mkdir()
    store = two.study.copy(two.folder / "killed")
    two.lab.train(store, recipe, save_every_s=0, stop_after=2)
    assert not store.is_done(recipe.id)
    two.lab.train(store, recipe)
    assert two.lab.same_bits(whole[0], two.lab.weights(store, recipe))
    assert whole[1] == two.lab.history(store, recipe)


@pytest.mark.parametrize("recompute", ["none", "blocks"])
@pytest.mark.parametrize("method", ["grad_diff", "npo", "rmu", "dpo"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_passes_are_the_padded_ones(two, recipes, study, method, dtype, recompute):
    model = study.original.model.model_copy(update={"dtype": dtype})
    options = NEEDED.get(method, {})
    found = []
    for packing in ("packed", "none"):
        training = recipes.training(packing=packing, recompute=recompute)
        recipe = recipes.unlearner(
            study.original, method, options=options, model=model, training=training
        )
        found.append(two.train(recipe, packing)[1])
    bound = 1e-4 if dtype == "float32" else 3e-2
    assert [row["loss"] for row in found[0]] == pytest.approx(
        [row["loss"] for row in found[1]], rel=bound, abs=bound
    )


def test_what_can_be_packed_is_packed_here(tiny_llama):
    """On a device without being asked; in a rehearsal, as on any CPU, not."""
    scorer = Scorer(tiny_llama.to(DEVICE))
    assert (longest_packed(scorer, Training(), DEVICE) > 0) == (not IS_REHEARSAL)
    assert longest_packed(scorer, Training(packing="packed"), DEVICE) > 0


@pytest.mark.parametrize("method", ["npo", "grad_diff", "rmu", "undial"])
def test_bfloat16_follows_float32(two, recipes, study, method):
    options = NEEDED.get(method, {})
    recipe = recipes.unlearner(study.original, method, options=options)
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    steps = [
        two.train(one, place)[1]
        for place, one in (("float", recipe), ("half", recipe.model_copy(update={"model": half})))
    ]
    assert [row["loss"] for row in steps[1]] == pytest.approx(
        [row["loss"] for row in steps[0]], rel=0.05, abs=0.05
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sharded_training_is_that_of_one_worker(two, recipes, study, dtype):
    model = study.original.model.model_copy(update={"dtype": dtype})
    recipe = recipes.unlearner(study.original, "npo", options={"retain": "kl"}, model=model)
    alone = two.train(recipe, "alone")
    (two.folder / "gang").mkdir()
    store = two.study.copy(two.folder / "gang")
    worker = Path(__file__).with_name("worker.py")
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541"}
    command = [sys.executable, worker, store.folder.url, recipe.model_dump_json(), DEVICE.type]
    subprocess.run(command, check=True, env=environment, timeout=300)
    shared = two.lab.weights(store, recipe), two.lab.history(store, recipe)
    bound = 1e-4 if dtype == "float32" else 3e-2
    assert [row["loss"] for row in shared[1]] == pytest.approx(
        [row["loss"] for row in alone[1]], rel=bound, abs=bound
    )
    if dtype == "float32":
        assert two.lab.distance(alone[0], shared[0]) < bound


@pytest.mark.skipif(IS_REHEARSAL, reason="a CPU's memory is not bounded")
def test_what_does_not_fit_is_told_and_the_workshop_goes_on(study, recipes, store):
    workshop = Workshop(store, 1e9)
    workshop.make(recipes.unlearner(study.original, "npo", seed=2), lambda *_: None)
    recipe = recipes.unlearner(study.original, "npo", seed=3)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(WorkError, match=r"training\.micro_batch_size"):
            workshop.make(recipe, lambda *_: None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not store.is_done(recipe.id)
    workshop.make(recipe, lambda *_: None)
    assert store.is_done(recipe.id)
