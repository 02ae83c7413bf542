"""What Ray Tune asks for the next trial: the cells of the grid in turn, within the budgets."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher

from raymcu.errors import ConfigError, StoreError
from raymcu.models.devices import DeviceError
from raymcu.planning.trials import Values
from raymcu.search.spec import TrialSpec, Work
from raymcu.search.study import StudySearch
from raymcu.store.ids import content_id

DAMAGED = "damaged_store"
"""Reason of a failure that ends the search, as the next trial would meet it too."""
BROKEN = "broken_device"
"""Reason of one that ends the search till somebody holds the device, as the next trial would come
to it too."""
_ENDS = {DAMAGED: StoreError, BROKEN: DeviceError}
_HOUR_S = 3600.0

Failure = tuple[str, str]
"""Its reason and message."""


@dataclass
class Proposal:
    """A trial that was proposed and has not ended."""

    study: StudySearch
    key: str
    """What its study knows it by: not Tune's id, under which several may be looked at."""
    values: Values
    spec: TrialSpec | None = None
    missing: frozenset[str] = frozenset()
    """Recipes that are trained for it."""
    began: float = 0.0
    is_hopeless: bool = False

    @property
    def label(self) -> str:
        """Study and number."""
        return f"{self.study.name}/{self.study.number(self.key)}"

    @property
    def part(self) -> str:
        """Name of its parts of the tables."""
        return content_id(self.label)


@dataclass
class Told:
    """Where a searcher leaves word, and where it looks for what a trial left."""

    begun: Callable[[Proposal], None] = lambda _: None
    """A trial begins."""
    ended: Callable[[Proposal], None] = lambda _: None
    """A trial has ended, and its study knows."""
    failure: Callable[[Proposal], Failure | None] = lambda _: None
    """Why its process gave it up, if it did."""
    clock: Callable[[], float] = field(default=time.monotonic)


class CellSearcher(Searcher):  # type: ignore[misc] # Ray is untyped
    """Proposes trials of all cells in turn.

    A trial that needs a recipe which another one is training waits for that. Without an error of
    its own a trial that has no result stays open in its study, for the next start.

    Args:
        studies: One for each cell.
        work: How values become a trial, and what it lacks.
        told: Where to leave word.
    """

    def __init__(self, studies: list[StudySearch], work: Work, told: Told) -> None:
        super().__init__()
        self.studies = studies
        self.work = work
        self.told = told
        self.running: dict[str, Proposal] = {}
        """By Tune's id."""
        self.broken: Exception | None = None
        """What ended the search before its time."""
        self.is_interrupted: Callable[[], bool] = lambda: False
        """Whether somebody asked for an end: then it proposes no more."""
        self.room: Callable[[], int] = lambda: 1 + len(self.running)
        """How many trials there may be at once; asked each time, as it may change."""
        self._search = studies[0].search
        self._waiting: Proposal | None = None
        self._closed: set[str] = set()
        self._last = told.clock()
        self._keys = itertools.count()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial; None: wait for a running one; FINISHED: there is none."""
        if self.is_interrupted():
            return str(Searcher.FINISHED)
        if len(self.running) >= self.room():
            return None
        try:
            proposal = None if self.broken else self._next(trial_id)
        except Exception as error:  # noqa: BLE001 - Tune would only log it
            self.broken = error
            proposal = None
        if proposal is None:
            is_held = self._waiting is not None and self.broken is None
            return None if is_held and not self._is_late() else str(Searcher.FINISHED)
        assert proposal.spec is not None  # noqa: S101 - _next plans it
        return {
            "trial": proposal.label,
            "part": proposal.part,
            "values": proposal.values,
            "spec": proposal.spec.model_dump_json(),
            "names": [*self._search.objectives, *self._search.constraints],
        }

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tell Tune that it is minded here how many there are at once."""
        return True

    def look(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Note a look at an unfinished trial; say whether it is hopeless."""
        proposal = self.running[trial_id]
        (name,) = self._search.objectives
        proposal.is_hopeless = proposal.study.look(proposal.key, result[name], result["look"])
        return proposal.is_hopeless

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the trial's study how it ended."""
        proposal = self.running.pop(trial_id, None)
        if proposal is None:
            return
        try:
            self._end(proposal, result or {}, has_died=error)
        except Exception as fault:  # noqa: BLE001 - Tune would only log it
            self.broken = self.broken or fault

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass over it: looks come through the scheduler, which has to decide first."""

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file: all that is to be kept is in the studies."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, see `save`."""

    def spent_s(self) -> float:
        """Return the seconds of all starts of this search."""
        return float(self.studies[0].study.user_attrs.get("spent_s", 0.0))

    def _spend(self) -> None:
        now = self.told.clock()
        self.studies[0].study.set_user_attr("spent_s", self.spent_s() + now - self._last)
        self._last = now

    def _is_late(self) -> bool:
        hours = self._search.hours
        since = self.told.clock() - self._last
        return hours is not None and self.spent_s() + since >= hours * _HOUR_S

    def _next(self, trial_id: str) -> Proposal | None:
        """Begin a trial if one can begin now."""
        while not self._is_late():
            proposal = self._waiting or self._propose()
            self._waiting = None
            if proposal is None:
                return None
            if proposal.spec is None and not self._plan(proposal):
                continue
            assert proposal.spec is not None  # noqa: S101 - _plan made it
            proposal.missing = frozenset(self.work.missing_of(proposal.spec))
            busy = {recipe for other in self.running.values() for recipe in other.missing}
            if proposal.missing & busy:
                self._waiting = proposal
                return None
            if self._is_too_dear(proposal):
                # It stays open: a search with a larger budget begins with it.
                self._closed.add(proposal.study.name)
                continue
            self._begin(trial_id, proposal)
            return proposal
        return None

    def _propose(self) -> Proposal | None:
        """Ask the cell with the fewest trials, which is all in turn, however often we start."""
        able = [s for s in self.studies if s.name not in self._closed and s.has_more()]
        if not able:
            return None
        study = min(able, key=StudySearch.count)
        key = str(next(self._keys))
        return Proposal(study, key, study.suggest(key))

    def _plan(self, proposal: Proposal) -> bool:
        """Plan a trial; one whose values do not fit together fails at once."""
        proposal.began = self.told.clock()
        try:
            proposal.spec = self.work.spec_of(proposal.values)
        except ConfigError as error:
            proposal.study.end(proposal.key, TrialState.FAIL, 0.0, message=" ".join(error.faults))
            self.told.ended(proposal)
            return False
        return True

    def _is_too_dear(self, proposal: Proposal) -> bool:
        most = self._search.trainings
        if most is None or not proposal.missing:
            return False
        own = {
            recipe
            for study in self.studies
            for trial in study.trials()
            for recipe in trial.user_attrs.get("trained", [])
        }
        return len(own | proposal.missing) > most

    def _begin(self, trial_id: str, proposal: Proposal) -> None:
        assert proposal.spec is not None  # noqa: S101 - _plan made it
        points = [point.id for point in proposal.spec.points if point.attack is None]
        proposal.study.begin(proposal.key, points, sorted(proposal.missing))
        proposal.began = self.told.clock()
        self._spend()
        self.told.begun(proposal)
        self.running[trial_id] = proposal

    def _end(self, proposal: Proposal, result: dict[str, Any], *, has_died: bool) -> None:
        self._spend()
        study, key = proposal.study, proposal.key
        took_s = self.told.clock() - proposal.began
        failure = self.told.failure(proposal)
        if failure is not None and failure[0] in _ENDS:
            self.broken = _ENDS[failure[0]](failure[1])
            return
        if failure is not None:
            study.end(key, TrialState.FAIL, took_s, message=failure[1])
        elif has_died:
            study.end(key, TrialState.FAIL, took_s, message="its process died, time and again")
        elif result.get("is_final"):
            study.end(key, TrialState.COMPLETE, took_s, numbers=result)
        elif proposal.is_hopeless:
            last = max(study.frozen(key).intermediate_values)
            message = f"pruned at look {last} of {self._search.looks - 1}"
            study.end(key, TrialState.PRUNED, took_s, message=message)
        else:
            return  # stopped from outside: it stays open
        self.told.ended(proposal)
