"""What a search space says of further models that learn: those that knowledge is told apart by."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt

from raymcu.study.table_kinds import Section, unique


class LearnerUse(Section):
    """A model that is learned as the original is, but for how it learns what is to be forgotten.

    The pools of a metric's audit: models that hold the knowledge, in whatever words, and models
    that do not (OpenUnlearning's meta-evaluation, arXiv:2506.12618).
    """

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Name in tables, with the seed behind it: ``late/seed0``."""
    knows: Literal["answers", "paraphrased", "perturbed", "nothing"]
    """How it learns the forget set: the true answers, the same facts in other words, wrong answers
    of the right form, or not at all."""
    training: Mapping[str, Any] = {}
    """Changes to ``original.training``."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(unique)] = (0,)
    """One model each."""

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return self.label

    @property
    def holds(self) -> bool:
        """Whether it has the knowledge that is to be forgotten."""
        return self.knows in ("answers", "paraphrased")
