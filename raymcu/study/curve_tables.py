"""What a search space says of the curves between pairs, and of how their bends are found."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    Tag,
    model_validator,
)

from raymcu.errors import kind_tag
from raymcu.study.table_kinds import Counts, Section, Titled, unique
from raymcu.study.training_tables import Training


def _without_lora(training: Training) -> Training:
    if training.lora is not None:
        raise ValueError("has lora, but a bend is a point between whole weights. Leave lora out")
    if training.weights != "float32":
        raise ValueError(
            f"has weights = '{training.weights}', but a bend is float32 beside the model. Leave "
            "weights out"
        )
    return training


class Bend(Section):
    """How the midpoint of a curve is found."""

    objective: Literal["unlearning", "task"] = "unlearning"
    """``unlearning``: the loss of the unlearners' method (the mean of two methods' losses in a
    Met pair), without curriculum or mask, which are how the ends were found; ``task``: NLL on the
    retain set, as in standard curve finding and for methods that train what to step away from."""
    objective_along: Literal["uniform", "arc_length"] = "uniform"
    """Where the positions of the steps are drawn from: uniformly in t (Garipov et al.; MCU's code),
    or as much of the time as the curve passes of its length there (MCU's equations 5 to 7), by a
    grid of speeds that is worked out anew in every step, and through which no gradient goes."""
    seed: NonNegativeInt = 0
    """Of the order of examples and of the positions t of the steps."""
    training: Annotated[Training, AfterValidator(_without_lora)] = Training(epochs=2.0, warmup=0.0)
    """How a bend is trained."""


class FamilyUse(Titled):
    """A curve family; keys not listed here are its own options."""

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_mere_name(cls, use: Any) -> Any:
        return {"name": use} if isinstance(use, str) else use


def _families_differ(families: tuple[FamilyUse, ...]) -> tuple[FamilyUse, ...]:
    unique(tuple(family.title for family in families))
    return families


ADAPTIVE: Literal["adaptive"] = "adaptive"
COARSE = 5
"""Equal points that an adaptive curve begins with."""

NumPoints = Annotated[
    Annotated[int, Field(ge=2), Tag(kind_tag("number"))]
    | Annotated[Literal["adaptive"], Tag(kind_tag(ADAPTIVE))],
    Discriminator(lambda value: kind_tag(ADAPTIVE if value == ADAPTIVE else "number")),
]


class Curves(Section):
    """The walks between paired unlearners."""

    families: Annotated[
        tuple[FamilyUse, ...],
        Field(min_length=1),
        AfterValidator(_families_differ),
    ] = (FamilyUse(name="linear"), FamilyUse(name="quadratic"))
    """Names, or tables with options: ``["linear", { name = "bezier", num_bends = 2 }]``."""
    num_points: NumPoints = 16
    """Points per curve, equally spaced in [0, 1] with both ends (MCU: 16). ``adaptive``: five, then
    up to three more one after the other, each where its verdict or its barriers are still open by
    ``analysis.tolerance``; a step steeper than a quarter of the curve may be missed."""
    quadratic: Literal["always", "if_barrier"] = "always"
    """``if_barrier``: curves with a bend only between ends whose linear curve has a barrier
    beyond ``analysis.tolerance``."""
    bend: Bend = Bend()
    ensemble: Counts | None = None
    """Interior points, equally spaced, whose weights are averaged with those of both ends into one
    more model per curve (MCU: 3), or several such numbers, e.g. ``[1, 3, 5]``, for one model each;
    None makes none."""
