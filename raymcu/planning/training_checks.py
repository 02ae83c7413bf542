"""Whether the networks of a plan can be trained as the study asks, before one of them is."""

from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec

from raymcu.errors import shown
from raymcu.planning.facts import Surroundings
from raymcu.planning.recipes import Choice, Recipe
from raymcu.study.training_tables import Training

TABLES = {
    "original": "original.training",
    "retrained": "original.training",
    "bend": "curves.bend.training",
}
"""Where a role's training stands; others' in ``unlearning.training``, or that of their method."""


def training_faults(
    recipes: Collection[Recipe], around: Surroundings, asking: Sequence[Choice]
) -> list[str]:
    """Say what a training of these recipes cannot do with their networks, each thing once.

    Args:
        recipes: All of a plan.
        around: The benchmark's modality.
        asking: Methods, with their options, that learn from what another model says.
    """
    found = (
        f"{TABLES.get(recipe.role, 'unlearning.training')}.{fault}"
        for recipe in recipes
        for fault in (
            *_keys(recipe.training),
            *_augmentation(recipe, around, asking),
            *_lean(recipe, around),
            *_networks(recipe, around),
        )
    )
    orders = (fault for recipe in recipes for fault in _orders(recipe, around))
    return list(dict.fromkeys((*found, *orders)))


def _keys(training: Training | None) -> Iterator[str]:
    """Check keys against each other, once all tables that change a training are put together."""
    if training is None:
        return
    use, places = training.optimizer, training.places
    is_stepped = training.schedule == "multi_step"
    if is_stepped and not places:
        yield "milestones: is missing, and schedule is 'multi_step'. Give e.g. [0.5, 0.75]."
    elif is_stepped and (list(places) != sorted(set(places)) or places[-1] >= 1):
        yield (
            f"milestones: must ascend, and be passed in {training.epochs:g} epochs, got "
            f"{shown(list(training.milestones))}. Those below 1 are fractions of the training, the "
            "others epochs."
        )
    if use.resolved == "sgd" and use.nesterov and not use.momentum:
        yield "optimizer.nesterov: needs momentum, which is 0. Set momentum, e.g. to 0.9."
    if training.augmentation is not None and not any(training.augmentation.model_dump().values()):
        yield "augmentation: padding = 0 and flips = false change nothing. Leave it out."


def _augmentation(recipe: Recipe, around: Surroundings, asking: Sequence[Choice]) -> Iterator[str]:
    if recipe.training is None or recipe.training.augmentation is None:
        return
    if around.modality != "image":
        yield (
            f"augmentation: changes images, and benchmark '{recipe.benchmark.name}' has no inputs "
            "of one image each. Leave it out."
        )
    for method in recipe.methods:
        if method in asking:
            yield (
                f"augmentation: '{method.name}' learns from what another model said of an image, "
                "which is asked once and not of each of its crops. Leave augmentation out, or take "
                "a method, and a retain term, that asks none (raymcu list methods)."
            )


def lean_keys(training: Training) -> list[str]:
    """Return the choices of a training that take less memory, as they are written, of one worker.

    Several workers share what these make smaller.
    """
    base = training.lora.base if training.lora is not None else None
    found = {
        f"weights = '{training.weights}'": training.weights != "float32",
        "offload = true": training.offload,
        "optimizer.name = 'adamw_8bit'": training.optimizer.resolved == "adamw_8bit",
        f"lora.base = '{base}'": base is not None,
    }
    return [key for key, is_set in found.items() if is_set]


def _lean(recipe: Recipe, around: Surroundings) -> Iterator[str]:
    """Check the choices that take less memory."""
    training = recipe.training
    if training is None:
        return
    use, has_masters = training.optimizer.resolved, training.weights == "float32"
    base = training.lora.base if training.lora is not None else None
    for key in lean_keys(training):
        if training.world > 1:
            yield (
                f"workers: is {training.world}, and {key} is for one worker. Set workers = 1, or "
                "leave the other out."
            )
        if use in {"sophia_g", "soul"} and key[:4] in {"weig", "offl"}:
            yield (
                f"optimizer: '{use}' looks at all weights at once, and {key} steps one after the "
                "other. Take another optimizer, or leave that out."
            )
    if not has_masters and recipe.model.dtype != "bfloat16":
        yield (
            f"weights: is '{training.weights}', which rounds to bfloat16, and model.dtype is "
            f"'{recipe.model.dtype}'. Set model.dtype = 'bfloat16', or leave weights out."
        )
    if not has_masters and training.lora is not None:
        yield (
            f"weights: is '{training.weights}', and adapters, which lora trains, are small and "
            "float32. Leave weights out."
        )
    if use == "adamw_8bit" and find_spec("bitsandbytes") is None:
        yield (
            "optimizer.name: is 'adamw_8bit', which is bitsandbytes', and that is not installed "
            "here. Install it: pip install 'raymcu[8bit]', or set optimizer.name = 'adamw'."
        )
    if base is not None and around.is_classifier:
        yield (
            "lora.base: is for causal language models, and this study has classifiers. Leave it "
            "out."
        )


def _networks(recipe: Recipe, around: Surroundings) -> Iterator[str]:
    training = recipe.training
    if training is not None and training.packing == "packed" and around.is_classifier:
        yield (
            f"packing: is 'packed', and benchmark '{recipe.benchmark.name}' is of classes: a "
            "classifier looks at one input in a row. Set packing = 'auto'."
        )
    if training is None or getattr(recipe.model.scratch, "architecture", "") != "cifar_resnet":
        return
    if training.world > 1:
        yield (
            f"workers: is {training.world}, and model.scratch is a network with batch "
            "normalisation: each worker would normalise by its share of a batch, and the model "
            "would depend on their number. Set workers = 1."
        )
    if training.recompute == "blocks":
        yield (
            "recompute: is 'blocks', and model.scratch is a network with batch normalisation, "
            "which would count each batch twice. Set recompute = 'none'."
        )
    if training.lora is not None:
        yield (
            "lora: adapters go beside linear layers, and model.scratch is a ResNet, whose only one "
            "is its head. Leave lora out."
        )


def _orders(recipe: Recipe, around: Surroundings) -> Iterator[str]:
    curriculum = recipe.curriculum
    if around.is_classifier and curriculum and curriculum.options.get("by") == "length":
        yield (
            "unlearning.curriculum.by: is 'length', and every answer of a classifier is one class "
            "long. Order by 'loss' or 'gradient_norm'."
        )
