"""What a relearned model learns: a part of a set, or something that is none of the study's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example
from raymcu.planning.recipes import Lesson, Recipe

_CHOICE = 20
"""Random stream besides those of `data` and `material`."""


def lesson_of(recipe: Recipe, benchmark: Benchmark) -> Sequence[Any]:
    """Return the examples that a relearning learns, in the order of their set.

    Args:
        recipe: Relearned.
        benchmark: The study's own.
    """
    lesson = recipe.lesson
    assert lesson is not None  # noqa: S101 - the caller saw to it
    match lesson.data:
        case "text":
            text = Path(lesson.path or "").expanduser().read_text("utf-8")
            examples: Sequence[Any] = [Example("", text)]
        case "benchmark":
            use = lesson.benchmark
            assert use is not None  # noqa: S101
            examples = BENCHMARKS[use.name](**use.options).training_set(use.forget_sizes[0])
        case "paraphrased" | "perturbed":
            return reworded(benchmark, lesson.data, recipe.forget_size or "")
        case _:
            examples = benchmark.training_set(recipe.train_sets[0])
    return [examples[number] for number in picked(lesson, len(examples), recipe.seed)]


def reworded(benchmark: Benchmark, how: str, forget_size: str) -> Sequence[Any]:
    """Return the questions of a forget set with other answers, of those that have some.

    Args:
        benchmark: With questions.
        how: ``paraphrased``: the true answer in other words; ``perturbed``: the first wrong one.
        forget_size: Whose questions.
    """
    found = []
    for example in benchmark.probe("forget", forget_size):
        wrong = example.perturbed_answers[0] if example.perturbed_answers else None
        answer = example.paraphrased_answer if how == "paraphrased" else wrong
        if answer is not None:
            found.append(Example(example.question, answer))
    return found


def picked(lesson: Lesson, total: int, seed: int) -> list[int]:
    """Return which of so many examples are learned, ascending; a larger part holds a smaller one.

    Args:
        lesson: How many.
        total: Examples there are.
        seed: Of the choice.
    """
    if lesson.count is None and lesson.share is None:
        return list(range(total))
    wanted = lesson.count or max(1, round((lesson.share or 1.0) * total))
    order = np.random.default_rng([seed, _CHOICE]).permutation(total)
    return sorted(int(number) for number in order[:wanted])


def tuned_keys(recipe: Recipe, benchmark: Benchmark) -> list[str]:
    """Return the keys of the study's own examples that a recipe's training has seen again."""
    if recipe.lesson is None or recipe.lesson.data not in ("forget", "retain"):
        return []
    return [example.key for example in lesson_of(recipe, benchmark)]
