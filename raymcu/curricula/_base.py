"""What a curriculum is: weights of a batch's sequences, or an order of a set's rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from raymcu.registry import Component, Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from jaxtyping import Float, Int
    from torch import Tensor


CURRICULA: Registry[type["Curriculum"]] = Registry("curriculum", __package__ or "raymcu.curricula")


class Curriculum(Component, ABC):
    """A curriculum is a `Weighing`, an `Ordering`, or both."""

    has_weights: ClassVar[bool] = False
    """Whether it weights the sequences of each batch by their losses."""
    has_order: ClassVar[bool] = False
    """Whether it orders the rows of each epoch by a difficulty measured before training."""


class Weighing(Curriculum):
    """Weights sequences by their losses; what it learns of them goes from step to step."""

    has_weights: ClassVar[bool] = True

    @abstractmethod
    def begin(self, losses: Tensor) -> dict[str, float]:
        """Return the memory of the first step, told its batch's losses or their mean."""

    @abstractmethod
    def weights(self, losses: Tensor, memory: Mapping[str, float]) -> Tensor:
        """Return the weight of each sequence of a batch by its loss."""

    @abstractmethod
    def remember(
        self, memory: Mapping[str, float], loss_sum: float, weight_sum: float, count: int
    ) -> dict[str, float]:
        """Return the memory of the next step.

        Args:
            memory: Of this step.
            loss_sum: Losses of this step's whole batch, not weighted.
            weight_sum: Weights of its sequences.
            count: Number of its sequences.
        """


class Ordering(Curriculum):
    """Orders rows by how difficult the start model finds them."""

    has_order: ClassVar[bool] = True

    by: Literal["loss", "gradient_norm", "length"] = "loss"
    """What a row's difficulty is, under the start model."""

    @abstractmethod
    def order(self, difficulty: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """Return the row numbers in order."""

    @abstractmethod
    def epoch(
        self,
        ordered: Int[np.ndarray, " rows"],
        progress: float,
        length: int,
        random: np.random.Generator,
    ) -> Int[np.ndarray, " length"]:
        """Return the rows of an epoch.

        Args:
            ordered: Row numbers as `order` returned them.
            progress: Fraction of the training done when the epoch begins.
            length: Rows of the epoch.
            random: For what the order leaves open.
        """
