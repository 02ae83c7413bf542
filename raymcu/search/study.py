"""One cell of a search: an Optuna study that proposes trials, and goes on where it was."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from raymcu.errors import ConfigError
from raymcu.planning.objectives import directions
from raymcu.planning.trials import (
    MAY_CHANGE,
    Values,
    listed,
    search_identity,
    search_of,
    study_name,
    suggested,
)
from raymcu.search.samplers import Given, pruner_for, sampler_for
from raymcu.store.ids import canonical_json
from raymcu.study.search_space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.ERROR)

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_MODES = {"minimize": "min", "maximize": "max"}


class StudySearch(OptunaSearch):  # type: ignore[misc] # Ray is untyped
    """Ray's search by Optuna, over one cell of the grid, with what it lacks for us.

    Each trial has a sampler of its own (see `samplers`). A trial that a killed driver left open is
    taken up again as it is, with its number and parameters, before any new one is proposed: so a
    search that was stopped has the very trials of one that was not. Constraints, failures with
    their reason, and pruning by the looks in the study are told to Optuna.
    """

    def __init__(self, space: SearchSpace, cell: Values, storage: Any) -> None:
        search = search_of(space)
        ways = [_MODES[way] for way in directions(search)]
        names = list(search.objectives)
        self.search = search
        self.cell = cell
        self.name = study_name(space, cell)
        self._file = space
        self.is_alone = True
        """Whether trials run one at a time, see `sampler_for`."""
        self._values: Values = {}
        super().__init__(
            space=self._ask,
            metric=names if len(names) > 1 else names[0],
            mode=ways if len(ways) > 1 else ways[0],
            study_name=self.name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
        )
        self.study: optuna.Study = self._ot_study
        self.study.pruner = pruner_for(search)
        self._check_identity()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.set_metric_names(names)
        self._rows = listed(space, cell) if search.sampler == "grid" else None
        self._open = [t for t in self.trials() if not t.state.is_finished()]

    def _check_identity(self) -> None:
        """See to it that the study was begun by the same file.

        Raises:
            ConfigError: If it was not.
        """
        own = search_identity(self._file)
        if self.study.user_attrs.setdefault("search_space", own) != own:
            raise ConfigError(
                f"search: the study '{self.name}' there was begun with another search space. Only "
                f"{', '.join(sorted(MAY_CHANGE))} may change. Give another folder with --out."
            )
        self.study.set_user_attr("search_space", own)

    def _ask(self, trial: Any) -> None:
        self._values = suggested(self._file, self.cell, trial)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials so far, by number."""
        return list(self.study.get_trials(deepcopy=False))

    def count(self) -> int:
        """Return how many trials were begun by this process or ended by one before."""
        return len(self.trials()) - len(self._open)

    def has_more(self) -> bool:
        """Say whether there is a trial to take up or to propose."""
        bounds = [self.search.trials, None if self._rows is None else len(self._rows)]
        count = len(self.trials())
        return bool(self._open) or all(bound is None or count < bound for bound in bounds)

    def suggest(self, trial_id: str) -> Values:
        """Propose a trial, to be known by ``trial_id``; return its values, the cell's included."""
        if self._open:
            left = self._open.pop(0)
            number = left.number
            self._ot_trials[trial_id] = optuna.trial.Trial(self.study, left._trial_id)
        else:
            number = len(self.trials())
        if self._rows is None:
            sampler = sampler_for(self.search, self.name, number, is_alone=self.is_alone)
        else:
            sampler = Given(self._rows[number])
        self.study.sampler = sampler
        with warnings.catch_warnings():  # that GP takes its time
            warnings.filterwarnings("ignore", "Define-by-run function")
            super().suggest(trial_id)
        return dict(self._values)

    def number(self, trial_id: str) -> int:
        """Return the trial's number in the study."""
        return int(self._ot_trials[trial_id].number)

    def frozen(self, trial_id: str) -> FrozenTrial:
        """Return the trial as the study has it now."""
        return self.trials()[self.number(trial_id)]

    def begin(self, trial_id: str, point_ids: Sequence[str], trained: Sequence[str]) -> None:
        """Note what a trial is scored at, and what is trained for it."""
        trial = self._ot_trials[trial_id]
        before = trial.user_attrs.get("trained", [])
        trial.set_user_attr("point_ids", list(point_ids))
        trial.set_user_attr("trained", sorted({*before, *trained}))

    def look(self, trial_id: str, value: float, step: int) -> bool:
        """Note the objective at a look; say whether the trial is hopeless.

        Args:
            trial_id: The trial.
            value: Of the only objective.
            step: Number of the look, from 1.
        """
        trial = self._ot_trials[trial_id]
        if step in self.frozen(trial_id).intermediate_values:
            return False  # taken up again: it had passed here
        trial.report(value, step)
        return bool(trial.should_prune())

    def end(
        self,
        trial_id: str,
        state: TrialState,
        took_s: float,
        *,
        numbers: Mapping[str, float] | None = None,
        message: str | None = None,
    ) -> None:
        """Tell how a trial ended.

        Args:
            trial_id: The trial.
            state: COMPLETE, PRUNED or FAIL.
            took_s: Wall time in seconds.
            numbers: Of a complete trial: the objectives, and violations by constraint.
            message: Why it failed or was pruned.
        """
        trial = self._ot_trials[trial_id]
        trial.set_user_attr("took_s", took_s)
        if message is not None:
            trial.set_user_attr("message", message)
        values = None
        if state == TrialState.COMPLETE and numbers is not None:
            known = self.frozen(trial_id).constraints
            for text in self.search.constraints:
                if text not in known:
                    trial.set_constraint(text, numbers[text])
            values = [numbers[name] for name in self.search.objectives]
        self.study.tell(trial, values, state=state)

    def rows(self, trial: FrozenTrial) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a trial's rows of the tables ``trials`` and ``trial_values``."""
        label = f"{self.name}/{trial.number}"
        is_complete = trial.state == TrialState.COMPLETE
        notes = trial.user_attrs
        head = {
            "trial_id": label,
            "study": self.name,
            "number": trial.number,
            "state": _STATES.get(trial.state, "running"),
            "cell": canonical_json(self.cell),
            "params": canonical_json(trial.params),
            "point_ids": notes.get("point_ids"),
            "trained": notes.get("trained"),
            "is_feasible": all(v <= 0 for v in trial.constraints.values()) if is_complete else None,
            "took_s": notes.get("took_s"),
            "message": notes.get("message"),
        }
        scores: list[tuple[str, str, float, int | None]] = []
        if is_complete:
            told = zip(self.search.objectives, trial.values, strict=True)
            scores += [("objective", name, value, None) for name, value in told]
            scores += [("constraint", text, v, None) for text, v in trial.constraints.items()]
        (first, *_) = self.search.objectives
        looks = sorted(trial.intermediate_values.items())
        scores += [("look", first, value, step) for step, value in looks]
        names = ("trial_id", "kind", "name", "value", "look")
        return head, [dict(zip(names, (label, *row), strict=True)) for row in scores]
