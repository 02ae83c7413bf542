"""What a search space says of blends beyond the curves of pairs: walks, calibration, layers."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from raymcu.study.table_kinds import Names, Section, Titled


class WalkUse(Titled):
    """A walk from the original through one trained model; other keys are the walk's own options."""

    methods: Names | None = None
    """Titles of the methods, and labels of the ``models``, it is walked for; None: all that it
    suits."""
    seeds: tuple[NonNegativeInt, ...] | None = None
    """Seeds of the models it goes through; None: the first of ``unlearning.seeds``."""


BEND = "bend"
"""The corner of a surface that is the bend of the curve between the two others."""

Coefficients = Annotated[Mapping[str, float], Field(min_length=1)]


class BlendUse(Section):
    """A blend written by hand: coefficients of checkpoints, which sum to 1.

    Checkpoints go by label: ``original``, ``retrained``, ``npo/seed0``, ``npo+cl/seed1``, that of
    one of ``models``, and ``mox/seed0/memorizer`` for the model that a method trains to step away
    from.
    """

    label: str
    """Name in tables and figures."""
    terms: Coefficients
    """By checkpoint."""
    layers: Mapping[str, Coefficients] = {}
    """By beginning of weight names, e.g. ``"model.layers.3."``: other coefficients for those."""
    forget_sizes: Names | None = None
    """Forget sets whose checkpoints are meant; None: all of the study, a blend each."""


class SurfaceUse(Section):
    """The plane through three checkpoints, measured on a grid of blends.

    A point of it is (1 - a - b)·first + a·second + b·third.
    """

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Name in tables and figures: letters, digits, ``_``, ``.`` and ``-``."""
    corners: tuple[str, str, str]
    """Three checkpoints by label, as in ``terms`` of blends: ``original``, ``retrained``,
    ``npo/seed0``, that of one of ``models``. One may be ``bend``: that of the curve between the two
    others, which are then paired by a setting."""
    num_points: Annotated[int, Field(ge=2)] = 7
    """Points from one corner to the next, both counted."""
    margin: NonNegativeInt = 1
    """Points beyond the corners on each side, at the same distance."""
    forget_sizes: Names | None = None
    """Forget sets whose checkpoints are meant; None: all of the study, a plane each."""

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return self.label

    @property
    def grid(self) -> list[tuple[float, float, float]]:
        """Coefficients of the three corners at every point, row by row."""
        last = self.num_points - 1
        steps = range(-self.margin, last + self.margin + 1)
        return [((last - i - j) / last, i / last, j / last) for j in steps for i in steps]

    @model_validator(mode="after")
    def _corners_differ(self) -> Self:
        if len(set(self.corners)) < 3:
            raise ValueError(f"corners must be three different models, got {self.corners}")
        return self


class Calibration(Section):
    """How far along a walk or curve enough is retained (UWC, model mixing).

    The last position whose ``metric`` is at least ``keep`` times the original's, by the positions
    of the grid and then by halving the step after it. Curves are compared there by ``rank_by``.
    """

    curves: Names = ("mixing",)
    """Titles of walks, or of curve families."""
    metric: str = "retain_es"
    """What is to be kept. If lower is better, at most the original's divided by ``keep``. Here and
    in ``rank_by`` also ``METRIC after ATTACK``, of an attack on all positions."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the original's value (UWC's paper .95, its code .9)."""
    rank_by: Names = ("forget_es",)
    """Metrics by which methods are ranked before and after."""
    resolution: PositiveFloat = 0.01
    """Halving stops when the step is no longer than this."""


class LayerChoice(Section):
    """Which layers of an unlearner are put into the original (CRU, layer replacement).

    On one half of the examples (even rows), layers are ordered by how much each, put in alone,
    improves ``forget`` while ``utility`` keeps its share; the nested sets of the best 1, 2, … are
    measured, and the set with the best ``forget`` that keeps the utility is chosen. The other half
    tells what that choice is worth.
    """

    utility: str = "model_utility"
    """Metric that must keep its share."""
    forget: str = "forget_quality_log10"
    """Metric that is to be improved."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the original's utility that a set must keep, on the validation half."""
