"""Of which checkpoints the geometry of weights is asked for."""

from collections.abc import Collection
from dataclasses import dataclass

from raymcu.planning.plan import Plan
from raymcu.study.search_space import SearchSpace

WHOLE = "all"
"""Part of table ``geometry`` that `analysis` writes: of whole models and curves."""
NUM_LAYERS = b"num_layers"
"""What the metadata of each other part, a layer's, call the number of these parts."""


@dataclass(frozen=True)
class Directions:
    """The checkpoints whose directions from the original are compared."""

    original: str
    """Recipe id."""
    labels: tuple[tuple[str, str], ...]
    """Recipe id and label of each, in the order of the plan."""

    @property
    def key(self) -> tuple[str, ...]:
        """What decides the numbers."""
        return (self.original, *(key for key, _ in self.labels))


def is_asked(space: SearchSpace) -> bool:
    """Say whether a search space asks for it, or for what is worked out from it."""
    bend = space.curves.bend
    return (
        space.measurement.geometry or bool(space.surfaces) or bend.objective_along == "arc_length"
    )


def directions(plan: Plan, space: SearchSpace, done: Collection[str]) -> Directions | None:
    """Return what is to be compared of a plan; None if nothing is asked for, or there is nothing.

    Args:
        plan: What must exist.
        space: What is asked.
        done: Ids of the checkpoints that are there.
    """
    here = [recipe for recipe in plan.recipes.values() if recipe.id in done]
    original = next((recipe.id for recipe in here if recipe.role == "original"), None)
    others = [recipe for recipe in here if recipe.role not in {"original", "random"}]
    if not is_asked(space) or original is None or not others:
        return None
    many = len(space.benchmark.forget_sizes) > 1
    labels = []
    for recipe in others:
        label = f"{recipe.label} {recipe.curve}" if recipe.curve else recipe.label
        has_size = many and recipe.forget_size is not None and recipe.role != "retrained"
        labels.append((recipe.id, f"{recipe.forget_size}:{label}" if has_size else label))
    return Directions(original, tuple(labels))
