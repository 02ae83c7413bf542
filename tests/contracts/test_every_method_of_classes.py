"""Every method on small classifiers, trained by a workshop or refused with the reason: no Ray."""

import math

import pytest
import torch

from raymcu.curricula._base import CURRICULA
from raymcu.errors import ConfigError, WorkError
from raymcu.masks._base import MASKS
from raymcu.methods._base import METHODS
from raymcu.models.blending import load_weights
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.training_tables import ORDERS
from raymcu.training.group import Alone
from raymcu.training.workshop import Workshop

CLASSES = ("text", "image", "image_text")
OPTIONS = {"rmu": {"layer": 1}, "ceu": {"ignore_first": 0}}
"""What a method cannot do without on a classifier, or on a model of two layers."""
LABELS = {"random_labels": "uniform"}

RESNET = {"architecture": "cifar_resnet", "depth": 8, "width": 4}
VIT = {"architecture": "vit", "hidden_size": 16, "intermediate_size": 32}
BERT = {"architecture": "bert", "hidden_size": 16, "intermediate_size": 32, "vocab_size": 300}
SGD = {"optimizer": {"name": "sgd"}, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def study(options_of):
    """A study of one method, as its plan."""

    def of(name, network=RESNET, benchmark="digits", training=None, second=None, **more):
        content = {
            "name": "contract",
            "benchmark": {"name": benchmark, "forget_sizes": ["forget01"], **options_of(benchmark)},
            "model": {"scratch": network},
            "original": {"training": {**SGD, "epochs": 0.25}},
            "retrained": {"train": False},
            "unlearning": {
                "settings": ["Rand"],
                "seeds": [0, 1],
                "training": {**SGD, "batch_size": 16, **(training or {})},
                **more,
            },
            "methods": [{"name": name, **OPTIONS.get(name, {}), **(second or {})}],
            "curves": {"families": ["linear"], "num_points": 2},
        }
        return plan_study(load_space(content))

    return of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a plan's models but its last unlearner; gives the store, a recipe and its losses."""
    store = CheckpointStore(tmp_path_factory.mktemp("store").as_uri())
    shop = Workshop(store, 1e9)

    def of(plan):
        wanted = next(r for r in plan.recipes.values() if r.role in ("unlearner", "memorizer"))
        losses = []
        for recipe in plan.recipes.values():
            if recipe.id in wanted.parents.values():
                shop.make(recipe, lambda *told: None)
        shop.make(wanted, lambda step, steps, loss: losses.append(loss))
        return store, wanted, losses

    return of


def weights_of(store, recipe):
    return {k: v.clone() for k, v in load_weights(store.local_dir(recipe)).items()}


def moved(store, recipe):
    before, after = weights_of(store, recipe.parents["start"]), weights_of(store, recipe.id)
    assert before.keys() == after.keys()
    assert all(torch.isfinite(weight).all() for weight in after.values())
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


@pytest.mark.parametrize("name", [entry.name for entry in METHODS])
@pytest.mark.parametrize(
    ("benchmark", "network"), [("digits", RESNET), ("text_classes", BERT)], ids=["image", "text"]
)
def test_a_method_trains_a_classifier_or_says_why_not(name, benchmark, network, study, trained):
    method = METHODS[name](**OPTIONS.get(name, {}))
    reasons = {method.unfit(modality) for modality in CLASSES}
    assert len(reasons) == 1
    if (reason := reasons.pop()) is not None:
        with pytest.raises(ConfigError, match="does not suit benchmark") as refused:
            study(name, network, benchmark)
        assert reason in str(refused.value)
        return
    store, recipe, losses = trained(study(name, network, benchmark, {"epochs": 1}))
    assert losses
    assert all(map(math.isfinite, losses))
    assert moved(store, recipe)


def test_what_leaves_the_class_out_is_refused():
    assert "ignore_first" in METHODS["ceu"]().unfit("image")
    assert METHODS["ceu"](ignore_first=0).unfit("image") is None
    assert METHODS["random_labels"](labels="uniform").unfit("causal_lm")


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "first"])
def test_every_order_of_optimizer_moves_a_network_with_batch_normalisation(order, study, trained):
    training = {"optimizer": {"order": order}, "learning_rate": 1e-3, "epochs": 2}
    store, recipe, losses = trained(study("grad_diff", training=training))
    assert len(losses) == 2
    assert "norm.weight" in moved(store, recipe)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("mask", [entry.name for entry in MASKS])
def test_masked_weights_stay_to_the_bit(mask, optimizer, study, trained):
    """Scales and shifts of batch normalisation too; its statistics are no weights and follow."""
    training = {
        "optimizer": {"name": optimizer},
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "epochs": 2,
    }
    second = {"labels": "uniform", "mask": {"name": mask, "keep": 0.3}}
    store, recipe, _ = trained(study("random_labels", training=training, second=second))
    before, after = weights_of(store, recipe.parents["start"]), weights_of(store, recipe.id)
    names = [name for name in after if "running" not in name and "num_batches" not in name]
    same = {name: before[name] == after[name] for name in names}
    total = sum(weight.numel() for weight in same.values())
    share = sum(int(weight.sum()) for weight in same.values()) / total
    assert 0.7 - 1 / total <= share < 0.75  # of those that may move some have no gradient
    normalised = [name for name in names if ".bn" in name or name.startswith("norm.")]
    kept = torch.cat([same[name].flatten() for name in normalised])
    assert kept.any()
    assert not kept.all()
    assert not torch.equal(before["norm.running_mean"], after["norm.running_mean"])


def test_a_mask_that_keeps_all_is_none(study, trained):
    options = {"labels": "uniform"}
    _, plain, losses = trained(study("random_labels", second=options))
    masked = {**options, "mask": {"name": "salun", "keep": 1.0}}
    store, recipe, same = trained(study("random_labels", second=masked))
    assert recipe.id != plain.id
    assert losses == same
    own, other = weights_of(store, recipe.id), weights_of(store, plain.id)
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("name", [entry.name for entry in CURRICULA])
def test_a_curriculum_weighs_or_orders_inputs(name, study, trained):
    plan = study("grad_diff", settings=["Rand-CL"], curriculum={"name": name})
    store, recipe, losses = trained(plan)
    assert recipe.curriculum.name == name
    assert losses
    assert moved(store, recipe)


def test_no_order_by_length(study):
    with pytest.raises(ConfigError, match=r"unlearning\.curriculum\.by: is 'length'"):
        study(
            "grad_diff",
            settings=["Rand-CL"],
            curriculum={"name": "difficulty", "by": "length"},
        )


def test_an_average_of_weights(study, trained):
    store, recipe, _ = trained(study("grad_diff", training={"average": {"every": "step"}}))
    assert moved(store, recipe)


@pytest.mark.parametrize(
    ("benchmark", "network"), [("digits", VIT), ("text_classes", BERT)], ids=["image", "text"]
)
def test_adapters_of_transformers_are_merged(benchmark, network, study, trained):
    training = {"lora": {"rank": 2}, "epochs": 2, "learning_rate": 0.5}
    found = moved(*trained(study("grad_diff", network, benchmark, training))[:2])
    assert found
    heads = ("classifier", "embeddings")
    assert all(name.endswith("weight") and not name.startswith(heads) for name in found)


def test_a_resnet_has_nothing_for_adapters(study):
    with pytest.raises(ConfigError, match=r"unlearning\.training\.lora: .*ResNet"):
        study("grad_diff", training={"lora": {}})


def test_workers_do_not_share_batch_normalisation(study, tmp_path):
    """Refused before anything starts; and by workers whose model nobody looked at before."""
    with pytest.raises(ConfigError, match=r"unlearning\.training\.workers: is 2.*normalise"):
        study("grad_diff", training={"workers": 2})
    plan = study("grad_diff")
    original = next(recipe for recipe in plan.recipes.values() if recipe.role == "original")
    shop = Workshop(CheckpointStore(tmp_path.as_uri()), 1e9, group=Alone(size=2))
    with pytest.raises(WorkError, match=r"training\.workers = 1"):
        shop.make(original, lambda *told: None)
    assert study("grad_diff", VIT, training={"workers": 2}).recipes


@pytest.mark.parametrize("ready", ["model", "original"])
def test_the_untrained_model_has_the_shape_of_a_ready_original(ready):
    content = {
        "name": "ready",
        "benchmark": {"name": "digits", "forget_sizes": ["forget01"]},
        "model": {"scratch": RESNET},
        "unlearning": {"settings": ["Rand"], "seeds": [0, 1]},
        "methods": [{"name": "bad_teacher"}],
        ready: {"path": "someone/resnet"},
    }
    recipes = plan_study(load_space(content)).recipes.values()
    (untrained,) = (recipe for recipe in recipes if recipe.role == "random")
    assert untrained.model.path == "someone/resnet"
    taught = [recipe for recipe in recipes if recipe.role == "unlearner"]
    assert {recipe.parents["random"] for recipe in taught} == {untrained.id}


def test_the_untrained_model_is_a_parent_of_who_asks_it(study):
    plan = study("bad_teacher")
    untrained = next(recipe.id for recipe in plan.recipes.values() if recipe.role == "random")
    unlearners = [recipe for recipe in plan.recipes.values() if recipe.role == "unlearner"]
    assert {recipe.parents["random"] for recipe in unlearners} == {untrained}
    others = study("grad_diff").recipes.values()
    assert not any("random" in recipe.parents for recipe in others)
