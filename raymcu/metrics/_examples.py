"""Joins one right answer of each example with its perturbed answers, as flat arrays."""

from dataclasses import dataclass

import numpy as np

from raymcu.metrics._base import Floats, Ints, Measured, shared

EPSILON = 1e-10
"""What OpenUnlearning adds to the denominators of ratios and shares of probabilities."""


@dataclass(frozen=True)
class WrongAnswers:
    """Mean NLL per token, in nats, of one right and some perturbed answers of each example."""

    keys: tuple[str, ...]  # (examples,)
    right_nll: Floats  # (examples,)
    wrong_nll: Floats  # (perturbed answers,), those of one example side by side
    starts: Ints  # (examples,) where the perturbed answers of each example start
    note: str | None
    """Says how many examples were left out, if any."""

    @property
    def counts(self) -> Ints:
        """Perturbed answers of each example: (examples,)."""
        return np.diff(np.append(self.starts, len(self.wrong_nll)))


@shared
def wrong_answers(point: Measured, probe: str, right: str) -> WrongAnswers:
    """Return each example of ``probe`` that has a right answer and perturbed ones.

    ``right`` is the kind of the right answer: ``answer`` or ``paraphrased_answer``.
    """
    good = point.rows(probe, right)
    bad = point.rows(probe, "perturbed_answer")
    examples, in_good, _ = np.intersect1d(good.example, bad.example, return_indices=True)
    is_wanted = np.isin(bad.example, examples)
    num_all = len(np.union1d(good.example, bad.example))
    num_left_out = num_all - len(examples)
    return WrongAnswers(
        keys=tuple(good.key[row] for row in in_good),
        right_nll=good.nll_mean[in_good],
        wrong_nll=bad.nll_mean[is_wanted],
        starts=np.searchsorted(bad.example[is_wanted], examples),
        note=f"{num_left_out} of {num_all} examples lack a {right} or a perturbed answer"
        if num_left_out
        else None,
    )
