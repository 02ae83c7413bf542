"""What a curriculum is: weights of a batch's sequences, or an order of a set's rows."""

from typing import ClassVar

from raymcu.registry import Component, Registry

CURRICULA: Registry[type["Curriculum"]] = Registry("curriculum", __package__ or "raymcu.curricula")


class Curriculum(Component):
    """A curriculum does one of two things, or both."""

    has_weights: ClassVar[bool] = False
    """Whether it weights the sequences of each batch by their losses."""
    has_order: ClassVar[bool] = False
    """Whether it orders the rows of each epoch by a difficulty measured before training."""
