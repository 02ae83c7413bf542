"""What a trial needs, planned like any study in the same surroundings; the plan of all so far."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from raymcu.errors import ConfigError
from raymcu.planning.facts import Surroundings
from raymcu.planning.ledger import Ledger
from raymcu.planning.objectives import asked_after
from raymcu.planning.plan import Plan
from raymcu.planning.planner import make_plan
from raymcu.planning.search_fitting import TrialFitting, plan_of_trial, unfit_search
from raymcu.planning.surroundings import look_again
from raymcu.planning.trials import most_trials, search_identity, search_of
from raymcu.search.bench import TrialBench, bench_setup
from raymcu.search.gangs import GangBench
from raymcu.search.spec import TrialSpec, Work
from raymcu.store.ids import content_id
from raymcu.study.search_space import SearchSpace


class TrialPlanner:
    """Plans trials, and adds each plan to the run folder's.

    Args:
        ledger: Its plan has the reference models.
        space: With a ``search``.
        around: What the space's plans have to know.
    """

    def __init__(self, ledger: Ledger, space: SearchSpace, around: Surroundings) -> None:
        self.ledger = ledger
        self.space = space
        self.search = search_of(space)
        self.around = around

    def recall(self) -> None:
        """Add the plans of the trials that the folder knows: it began with the reference models."""
        rows = self.ledger.run.read_table("trials").select(["cell", "params"]).to_pylist()
        plans = []
        for row in rows:
            with suppress(ConfigError):  # which failed that trial
                plans.append(self.plan({**json.loads(row["cell"]), **json.loads(row["params"])}))
        self.ledger.extend(plans)

    def count(self) -> tuple[int, int]:
        """Return how many trials have ended, and how many there are to be at most."""
        states = self.ledger.run.read_table("trials")["state"].to_pylist()
        done = sum(state != "running" for state in states)
        return done, max(done, most_trials(self.space) or 0)

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """Plan a trial. Raises as `raymcu.planning.search_fitting.plan_of_trial`."""
        return plan_of_trial(self.space, self.around, values)

    def spec(self, values: Mapping[str, Any]) -> TrialSpec:
        """Plan a trial, and keep its plan."""
        plan = self.plan(values)
        self.ledger.extend([plan])
        along = {point for curve in plan.curves.values() for _, point in curve.walk}
        roles = ("trial", "attacked")
        points = [p for p in plan.points.values() if p.id in along or p.role in roles]
        needed = {key for point in points for key in point.needs}
        for level in reversed(plan.levels):
            needed |= {p for r in level if r.id in needed for p in r.parents.values()}
        return TrialSpec(
            values=values,
            levels=tuple(tuple(r for r in level if r.id in needed) for level in plan.levels),
            points=tuple(points),
            curves=tuple(plan.curves.values()),
        )

    @cached_property
    def workers(self) -> int:
        """Processes that share the largest training of a trial."""
        return TrialFitting(self.space, self.around).workers

    def missing(self, spec: TrialSpec) -> Sequence[str]:
        """Return the recipes that have to be trained for a trial; a curve's bends are one."""
        store = self.ledger.run.checkpoints
        trained = (r for level in spec.levels for r in level if r.training is not None)
        return [r.id for r in trained if not r.bend and not store.is_done(r.id)]

    def work(self) -> Work:
        """Return what runs the trials; the reference models have been measured."""
        bench = GangBench if self.workers > 1 else TrialBench
        setup = bench_setup(self.ledger.run, self.space, self.workers)
        return Work(self.spec, self.missing, bench, setup, self.workers)


def too_large(space: SearchSpace, around: Surroundings, ledger: Ledger) -> Iterator[str]:
    """Say which trainings of a search do not fit the devices, as far as they are missing."""
    return unfit_search(space, around, ledger.plan, ledger.reused)


def reference_plan(space: SearchSpace, around: Surroundings) -> Plan:
    """Plan what trials are compared with; its id is the search's."""
    base = without_trials(space)
    plan = make_plan(base, look_again(around, base))
    return replace(plan, asked=content_id([plan.id, search_identity(space)]))


def without_trials(space: SearchSpace) -> SearchSpace:
    """Return the space of what trials are compared with: no pairs, no walks.

    It is attacked as trials are, by what objectives and constraints ask for.

    Raises:
        ConfigError: If it has no search.
    """
    search = search_of(space)
    after = {how.title for how in asked_after(search)} if search.curve is None else set()
    return space.model_copy(
        update={
            "unlearning": space.unlearning.model_copy(update={"settings": ()}),
            "walks": (),
            "blends": (),
            "calibration": None,
            "layer_choice": None,
            "audit": None,
            "attacks": tuple(use for use in space.attacks if use.title in after),
        }
    )
