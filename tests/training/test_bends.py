"""Curves of several bends, found by one training; and the quadratic curve's, which stays."""

import json
from itertools import pairwise

import pytest
import torch

from raymcu.curves._base import CURVES
from raymcu.models.blending import combine
from raymcu.planning.recipes import siblings
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training import workshop
from raymcu.training.walk import Walk
from raymcu.training.workshop import Workshop


@pytest.fixture
def bends(recipes, study):
    """Recipes of all bends of a curve, the leader first."""

    def build(num_bends, family="bezier", optimizer="adamw", **changes):
        leader = recipes.bend(
            study.first,
            study.second,
            study.original,
            curve=family,
            curve_options={"num_bends": num_bends},
            training=recipes.training(optimizer, epochs=1.7),
            **changes,
        )
        return [leader, *siblings(leader, num_bends)]

    return build


class _OneBend:
    """A quadratic curve's walk as it was when curves had one bend: three terms, scaled losses."""

    def __init__(self, weights, first, second):
        self.weights, self.first, self.second = weights, first, second
        self.bend = {name: torch.empty_like(weight.detach()) for name, weight in weights.items()}
        for name, bend in self.bend.items():
            combine(bend, [(0.5, first[name]), (0.5, second[name])])

    def movable(self, names):
        return {name: self.bend[name] for name in names}

    def position(self, share):
        return share

    def place(self, t):
        c = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        for name, weight in self.weights.items():
            terms = [(c[0], self.first[name]), (c[1], self.bend[name]), (c[2], self.second[name])]
            combine(weight.detach(), terms)

    def slope(self, t):
        return 2 * t * (1 - t)

    def take_gradients(self, t, weights):
        for name, weight in self.weights.items():
            self.bend[name].grad, weight.grad = weight.grad, None


@pytest.mark.parametrize("optimizer", ["adamw", "sophia_g", "spsa"])
@pytest.mark.parametrize(("family", "options"), [("quadratic", {}), ("bezier", {"num_bends": 1})])
def test_a_curve_with_one_bend_trains_to_the_bits_it_did(
    make, study, lab, recipes, family, options, optimizer
):
    ends = [lab.weights(study.store, one) for one in (study.first, study.second)]
    training = recipes.training(optimizer)
    before = make("grad_diff", training=training, walk=lambda w: _OneBend(w, *ends))
    losses = [progress.history[-1]["loss"] for progress in before.run()]
    coefficients = CURVES[family](**options).coefficients
    now = make("grad_diff", training=training, walk=lambda w: Walk.on_chord(coefficients, w, *ends))
    assert [progress.history[-1]["loss"] for progress in now.run()] == losses
    assert lab.same_bits(now.walk.bends[0], before.walk.bend)
    assert lab.distance(before.walk.bend, Walk.on_chord(coefficients, now.weights, *ends).bends[0])


@pytest.mark.parametrize(("family", "num_bends"), [("bezier", 3), ("polygon", 2)])
def test_one_training_finds_all_bends(store, bends, lab, family, num_bends):
    leader, *others = made = bends(num_bends, family)
    lab.train(store, leader)
    assert all(store.is_done(one.id) for one in made)
    found = [lab.weights(store, one) for one in made]
    assert all(lab.distance(one, two) > 1e-4 for one, two in pairwise(found))
    for one in made:
        content = json.loads((store.local_dir(one.id) / "recipe.json").read_text())
        assert content["id"] == one.id
        assert store.manifest(one.id)["label"] == one.label
        assert lab.history(store, one) == lab.history(store, leader)

    def report(*_):
        raise AssertionError("it trains")

    for one in others:
        Workshop(store, 0).make(one, report)


def test_a_process_that_dies_while_bends_are_saved_leaves_the_leader_to_do(
    store, bends, lab, monkeypatch
):
    """Or its siblings would be made at once, each by a training of all of them."""
    made = bends(3)
    saved, keep = [], workshop.keep_checkpoint

    def dying(store, group, job, recipe, progress):
        if len(saved) == 2:
            raise MemoryError
        saved.append(recipe)
        keep(store, group, job, recipe, progress)

    with monkeypatch.context() as patch:
        patch.setattr(workshop, "keep_checkpoint", dying)
        with pytest.raises(MemoryError):
            lab.train(store, made[0])
    assert [store.is_done(one.id) for one in made] == [False, True, True]
    lab.train(store, made[0])
    assert store.is_done(made[0].id)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sophia_g", "spsa"])
def test_bends_are_found_again_after_an_interruption(store, bends, lab, optimizer):
    """The state covers all of them: each ends with the bits of an undisturbed training."""
    made = bends(2, optimizer=optimizer)
    lab.train(store, made[0])
    found = [lab.weights(store, one) for one in made]
    for one in made:
        store.folder.remove(one.id)
    for stop in (1, 3):
        lab.train(store, made[0], save_every_s=0, stop_after=stop)
    assert not any(store.is_done(one.id) for one in made)
    lab.train(store, made[0])
    for one, weights in zip(made, found, strict=True):
        assert lab.same_bits(lab.weights(store, one), weights)
    assert not store.is_done(f".partial/{made[0].id}")


def test_a_bend_that_is_missing_alone_is_trained_again_to_the_same_bits(store, bends, lab):
    made = bends(3)
    lab.train(store, made[0])
    found = lab.weights(store, made[1])
    written = [(store.local_dir(one.id) / "manifest.json").stat().st_mtime_ns for one in made]
    store.folder.remove(made[1].id)
    lab.train(store, made[1])
    assert lab.same_bits(lab.weights(store, made[1]), found)
    again = [(store.local_dir(one.id) / "manifest.json").stat().st_mtime_ns for one in made]
    assert [one == two for one, two in zip(written, again, strict=True)] == [True, False, True]


def test_swapping_the_ends_mirrors_the_bends(make, study, lab, monkeypatch):
    """The same steps from the other side: t becomes 1 - t, the last bend the first."""
    ends = [lab.weights(study.store, one) for one in (study.first, study.second)]
    coefficients = CURVES["bezier"]().coefficients
    found = []
    for first, second in (ends, ends[::-1]):
        loop = make(
            "grad_diff",
            double=True,
            walk=lambda w, a=first, b=second: Walk.on_chord(
                coefficients, w, *({n: v.double() for n, v in end.items()} for end in (a, b))
            ),
        )
        is_back = bool(found)
        position = loop.stream.position
        monkeypatch.setattr(
            loop.stream,
            "position",
            lambda n, at=position, back=is_back: 1 - at(n) if back else at(n),
        )
        list(loop.run())
        found.append(loop.walk.bends)
    assert lab.distance(found[0][0], found[1][1]) < 1e-6
    assert lab.distance(found[0][1], found[1][0]) < 1e-6
    assert lab.distance(found[0][0], found[0][1]) > 1e-4


def test_a_store_without_the_leader_has_it_made_too(study, bends, lab, tmp_path):
    made = bends(2)
    store = study.copy(tmp_path)
    lab.train(store, made[1])
    assert all(CheckpointStore(str(tmp_path)).is_done(one.id) for one in made)
