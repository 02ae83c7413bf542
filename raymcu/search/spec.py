"""What a trial is to the process that runs it, and what that process must be able to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from raymcu.planning.plan import Curve, Point
from raymcu.planning.recipes import Recipe

Look = Callable[[int, Mapping[str, float]], None]
"""Told the number of a look at an unfinished training, from 1, and the objective's value there; a
pruned trial ends in it."""
Progress = Callable[[str, float, float | None], None]
"""Told what is at work, how much of it is done in [0, 1], and its loss if it has one."""


class TrialSpec(BaseModel):
    """One trial: its values and all that has to exist and be measured for it. Travels as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    values: Mapping[str, Any]
    """Of the cell and of the parameters, by key."""
    levels: tuple[tuple[Recipe, ...], ...] = ()
    """Recipes it needs, parents in earlier levels."""
    points: tuple[Point, ...] = ()
    """What it is scored at, then the same after attacks."""
    curves: tuple[Curve, ...] = ()
    """What it is scored along, in a search with ``curve``."""


class Bench(Protocol):
    """Where trials are run: one to a worker process, kept warm from trial to trial."""

    def run(self, spec: TrialSpec, look: Look, progress: Progress) -> Mapping[str, float]:
        """Make and measure what a trial needs.

        Args:
            spec: The trial.
            look: To be called after each part of a training but the last, if the search prunes; one
                that goes on from a saved state goes on with the number. It does not return if
                the trial is hopeless.
            progress: May be called at any time.

        Returns:
            A finite number for each objective, and the violation of each constraint by its text,
            see `raymcu.planning.objectives.judged`.

        Raises:
            WorkError: If the trial has no such numbers; the trial fails with that message.
            StoreError: If a file is damaged; the search ends, and the trial stays open.
            StoppedError: If somebody asked to stop, and a training has saved how far it is.
        """
        ...


@dataclass(frozen=True)
class Work:
    """How values become a trial, what it still lacks, and who runs it."""

    spec_of: Callable[[Mapping[str, Any]], TrialSpec]
    """Plans a trial from the values of its cell and parameters; a ConfigError fails the trial."""
    missing_of: Callable[[TrialSpec], Sequence[str]]
    """Ids of the recipes it needs that have to be trained and are not in the store."""
    make_bench: Callable[[dict[str, Any]], Bench]
    """Called once in each worker process."""
    setup: dict[str, Any]
    """What it is called with: JSON values."""
    workers: int = 1
    """That share a trial's largest training."""
