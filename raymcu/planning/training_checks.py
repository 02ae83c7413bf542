"""Whether the networks of a plan can be trained as the study asks, before one of them is."""

from collections.abc import Iterable, Iterator

from raymcu.planning.plan import Surroundings
from raymcu.planning.recipes import Recipe

_TABLES = {
    "original": "original.training",
    "retrained": "original.training",
    "bend": "curves.bend.training",
}
"""Where a role's training stands; others' in ``unlearning.training``, or that of their method."""


def training_faults(recipes: Iterable[Recipe], around: Surroundings) -> list[str]:
    """Say what a training of these recipes cannot do with their networks, each thing once."""
    found = (fault for recipe in recipes for fault in _faults(recipe, around))
    return list(dict.fromkeys(found))


def _faults(recipe: Recipe, around: Surroundings) -> Iterator[str]:
    training, curriculum = recipe.training, recipe.curriculum
    if training is None or not around.is_classifier:
        return
    place = _TABLES.get(recipe.role, "unlearning.training")
    if getattr(recipe.model.scratch, "architecture", None) == "cifar_resnet":
        if training.workers > 1:
            yield (
                f"{place}.workers: is {training.workers}, and model.scratch is a network with "
                "batch normalisation: each worker would normalise by its share of a batch, and "
                "the model would depend on their number. Set workers = 1."
            )
        if training.lora is not None:
            yield (
                f"{place}.lora: adapters go beside linear layers, and model.scratch is a ResNet, "
                "whose only one is its head. Leave lora out."
            )
    if curriculum is not None and curriculum.options.get("by") == "length":
        yield (
            "unlearning.curriculum.by: is 'length', and every answer of a classifier is one class "
            "long. Order by 'loss' or 'gradient_norm'."
        )
