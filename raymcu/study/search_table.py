"""What a search space says of a search: which parameters, which objectives, how long."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from raymcu.errors import shown
from raymcu.study.table_kinds import Names, Section, unique

_Real = float
_Whole = int


class Range(Section):
    """What values a parameter may take: one of ``float``, ``int`` and ``choice``."""

    float: tuple[_Real, _Real] | None = None
    """Lowest and highest value."""
    int: tuple[_Whole, _Whole] | None = None
    """Lowest and highest value, both included."""
    choice: Annotated[tuple[bool | _Whole | _Real | str, ...], Field(min_length=1)] | None = None
    """The values themselves."""
    log: bool = False
    """Sample on a logarithmic scale."""
    step: PositiveFloat | None = None
    """Distance between values; a grid over a ``float`` needs it."""
    when: Mapping[str, Any] = {}
    """Other parameters (or cells of the grid) and the value, or list of values, that they must
    have for this one to exist. ``methods.TITLE.…`` always waits for ``method`` to be TITLE."""

    @model_validator(mode="after")
    def _is_one_range(self) -> Self:
        given = [k for k in ("float", "int", "choice") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"must have one of float, int and choice, got {given or 'none'}")
        bounds = self.float or self.int
        if bounds is None and (self.log or self.step):
            raise ValueError("has log or step, which choices do not know. Leave them out")
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"has its bounds in the wrong order, got {shown(list(bounds))}")
        if bounds and self.log and bounds[0] <= 0:
            raise ValueError(f"is logarithmic, so its bounds must be > 0, got {bounds[0]:g}")
        if self.log and self.step:
            raise ValueError("has log and step. Leave one of them out")
        if self.int and self.step and self.step != round(self.step):
            raise ValueError(f"is of whole numbers, so step must be one, got {self.step:g}")
        return self


class Search(Section):
    """An Optuna search: one study for each cell of the grid.

    Parameters are keys of this file. ``method`` and ``forget_size`` choose one of those that the
    file names; ``methods.TITLE.KEY`` is an option of one method, or its ``training``; ``mixing`` is
    the share of the unlearner in a mixture with the original. Any other key is written as it
    stands, e.g. ``unlearning.training.learning_rate``; but data, model, original, retrained and
    measurement are the same for all, as what trials are compared with is made once. A trial is
    scored at its unlearner, or, with ``curve``, along the curves of ``unlearning.settings``.
    """

    objectives: Names = ("model_utility", "forget_quality_log10")
    """Metrics, each improved in its own direction; several give a Pareto front. ``METRIC after
    ATTACK``, e.g. ``"forget_es after relearn@50"``, is the score after one of ``attacks`` by its
    title, behind ``@`` the strength if it has several. With ``curve``: columns of the findings
    table, e.g. ``forget_barrier``, the worst of the trial's curves."""
    constraints: tuple[str, ...] = ()
    """E.g. ``"retain_es >= 0.95 * original"``: a metric, <= or >=, and a number, or a multiple of
    the ``original``'s or ``retrained``'s; after an attack, of theirs attacked alike."""
    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    """Optuna's TPE (multivariate), NSGA-II (evolution, for Pareto fronts), Gaussian process (which
    draws at random what exists only under a condition), or none: random, or all values in turn."""
    seed: NonNegativeInt = 0
    """Of the sampler."""
    trials: PositiveInt | None = None
    """Trials of each study; None: no such bound."""
    hours: PositiveFloat | None = None
    """Begin no trial after so long, over all starts of the run; None: no such bound."""
    trainings: NonNegativeInt | None = None
    """Begin no trial that needs a training beyond so many in the whole search; None: no bound."""
    pruner: Literal["none", "median", "asha"] = "none"
    """Ends hopeless trainings early, by the objective at a few looks on the way, of the trial's
    first seed."""
    looks: Annotated[int, Field(ge=2)] = 4
    """Equal parts of a training after which, but for the last, a pruner looks at it."""
    look_examples: PositiveInt = 32
    """First examples of each probe that a look measures."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(unique)] = (0,)
    """Seeds of a trial's unlearner; it is scored by the mean over them."""
    curve: str | None = None
    """Title of a curve family: the trial is scored along its curves."""
    concurrent: PositiveInt | None = None
    """Trials at once; None fills the cluster. Only 1 repeats trial by trial, as what is proposed
    depends on what has ended before."""
    space: Annotated[Mapping[str, Range], Field(min_length=1)]
    """Parameters by key."""
    grid: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    """Keys and their values: an Optuna study for each cell of the grid."""

    @model_validator(mode="after")
    def _ends_and_prunes(self) -> Self:
        if self.sampler != "grid" and self.trials is None and self.hours is None:
            raise ValueError("never ends. Give trials or hours")
        if self.pruner != "none" and len(self.objectives) > 1:
            raise ValueError(
                f"has pruner = '{self.pruner}' and {len(self.objectives)} objectives: which of two "
                "unfinished trials is hopeless takes one. Set pruner = 'none' or keep one objective"
            )
        if self.pruner != "none" and self.curve is not None:
            raise ValueError("prunes curves, which only whole trainings have. Set pruner = 'none'")
        if twice := sorted(self.space.keys() & self.grid.keys()):
            raise ValueError(f"has {', '.join(twice)} in space and in grid. Leave one of them out")
        return self
