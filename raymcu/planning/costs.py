"""What a plan would cost: FLOPs, memory, disk. Rough, from characters and parameters alone."""

from collections.abc import Mapping
from typing import Protocol

from raymcu.planning.recipes import Recipe
from raymcu.study.search_space import Measurement, SearchSpace


class SetSize(Protocol):
    """What the plan asks of a benchmark's set, for cost estimates."""

    @property
    def num_examples(self) -> int:
        """Questions in the set."""
        ...

    @property
    def num_answers(self) -> int:
        """Answers to them, paraphrased and wrong ones included."""
        ...

    @property
    def num_characters(self) -> int:
        """Characters of all scored questions and answers."""
        ...

    @property
    def longest(self) -> int:
        """Characters of the longest question with its answer; 0 where that is not known."""
        ...


def estimates(
    space: SearchSpace,
    sets: Mapping[str, SetSize],
    num: int | None,
    recipes: Mapping[str, Recipe],
    num_points: Mapping[str, int],
    memory_gib: float | None,
) -> dict[str, float | None]:
    """Estimate cost: 6 FLOPs a parameter and trained token, 2 a measured one, 4 characters a token.

    Args:
        space: The study.
        sets: Sizes of the benchmark's sets.
        num: Parameters of the model; None if unknown.
        recipes: What is trained, by id.
        num_points: Points to measure, by forget set.
        memory_gib: What a device holds at most of the largest training.
    """
    train_tokens = sum(trained_characters(r, sets) for r in recipes.values()) / 4
    measure_tokens = (
        sum(
            count * probe_characters(space.measurement, size, sets)
            for size, count in num_points.items()
        )
        / 4
    )
    width = 4 if space.model.dtype == "float32" else 2
    widths = (4 if recipe.role == "memorizer" else width for recipe in recipes.values())
    return {
        "parameters": num,
        "train_flops": None if num is None else 6.0 * num * train_tokens,
        "measure_flops": None if num is None else 2.0 * num * measure_tokens,
        "memory_gib": memory_gib,
        "disk_gib": None if num is None else num * sum(widths) / 2**30,
    }


def trained_characters(recipe: Recipe, sets: Mapping[str, SetSize]) -> float:
    """Characters that a training reads, over all its epochs."""
    training = recipe.training
    if training is None or recipe.bend or recipe.step:  # made by its leader's training
        return 0.0
    examples, characters = anchor_of(recipe, sets)
    if training.steps:
        return training.steps * training.batch_size / max(1.0, examples) * characters
    return training.epochs * characters


def anchor_of(recipe: Recipe, sets: Mapping[str, SetSize]) -> tuple[float, float]:
    """Return the examples of an epoch of a training, and the characters that it reads.

    What a relearning learns that is none of the study's is taken to be as the forget set is.
    """
    if recipe.role == "relearned" and (lesson := recipe.lesson) is not None:
        known = sets.get(recipe.train_sets[0]) or sets[recipe.forget_size or ""]
        examples = float(lesson.count or known.num_examples * (lesson.share or 1.0))
        return examples, examples * known.num_characters / max(1, known.num_examples)
    names = recipe.train_sets or (recipe.forget_size or "",)
    examples = sum(sets[name].num_examples for name in names)
    characters = sum(sets[name].num_characters for name in names)
    return examples, characters if recipe.train_sets else 2 * characters  # as much retain


def probe_characters(asked: Measurement, forget_size: str, sets: Mapping[str, SetSize]) -> float:
    """Characters scored at one point, from the perturbed set where there is one."""
    total = 0.0
    for probe in asked.probes:
        name = {
            "forget": forget_size,
            "forget_given": forget_size,
            "holdout": forget_size.replace("forget", "holdout"),
        }.get(probe, probe)
        found = sets.get(f"{name}_perturbed") or sets.get(name)
        if found is None:
            continue
        is_cut = asked.max_examples is not None and probe != "forget"
        share = min(1.0, (asked.max_examples or 1) / max(1, found.num_examples)) if is_cut else 1.0
        total += share * found.num_characters
    return total
