"""What a plan needs of a cluster: processes at once, their CPUs, GPUs and memory, the time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raymcu.errors import ConfigError
from raymcu.planning import durations
from raymcu.planning.costs import SetSize
from raymcu.planning.plan import Plan
from raymcu.study.search_space import SearchSpace

_MOST = 8
"""Workers that are asked for where nobody says how many: more is for who pays to say."""
_ON_A_NODE = 4
"""Workers on a node where nobody says how many."""
_BASE_GIB = 4.0
"""Memory of a process beside its weights: torch, Ray's store, batches."""
_COPIES = 3
"""Times that the weights may lie in the memory of a machine whose worker computes on a GPU, in
float32: a checkpoint as it is read, as it is written, and what is blended."""


@dataclass(frozen=True)
class Wish:
    """What the user says of the cluster; None leaves it to the plan."""

    workers: int | None = None
    """Processes that train or measure at once."""
    per_node: int | None = None
    """Of them on one node."""
    device: str | None = None
    """GPU of each, as `raymcu plan --device` knows it; None of CPUs alone."""
    hours: float | None = None
    memory_gib: float | None = None
    """Of the machine, for each worker."""


@dataclass(frozen=True)
class Needs:
    """What to ask a cluster for."""

    nodes: int
    cpus: int
    """Of each node."""
    gpus: int
    """Of each node."""
    memory_gib: int
    """Of each node, its main memory."""
    hours: int
    told: tuple[str, ...]
    """Where the numbers come from, for people."""


def needs(
    plan: Plan, space: SearchSpace, sets: Mapping[str, SetSize], layers: int, wish: Wish
) -> Needs:
    """Work out what to ask for: enough for the widest stage, for the longest likely time.

    Args:
        plan: What must exist.
        space: The study.
        sets: Sizes of the benchmark's sets.
        layers: Of the model.
        wish: What the user says.

    Raises:
        ConfigError: If fewer workers are wished than one training takes, or the size of the model
            is not known and neither are time and memory.
    """
    workers = _workers(plan, wish)
    per_node = min(wish.per_node or _ON_A_NODE, workers)
    nodes = math.ceil(workers / per_node)
    share = space.execution.gpus_per_worker
    if share is None or wish.device is None:
        share = float(wish.device is not None)
    on = durations.device(wish.device, workers)
    lasts = durations.duration(plan, space, sets, layers, on)
    num = plan.estimates["parameters"]
    lacking = [
        f"{option}: the size of the model is not known here, so {what} cannot be estimated. Say it."
        for option, what, said in (
            ("--hours", "the time", wish.hours or lasts),
            ("--memory", "the memory", wish.memory_gib or num),
        )
        if not said
    ]
    if lacking:
        raise ConfigError(lacking)
    held = plan.estimates["memory_gib"] or 0.0
    main = _COPIES * 4.0 * (num or 0.0) / 2**30 if share else 2.0 * held
    told = [
        f"{workers} workers on {nodes} nodes, each with {space.execution.cpus_per_worker} CPUs and "
        + (f"{share:g} {wish.device}" if share else "no GPU (--device names one)")
    ]
    if lasts is not None:
        told.append(f"time: {lasts.sentence}")
    if held:
        told.append(f"memory of the largest training: {held:.1f} GiB a worker")
    return Needs(
        nodes=nodes,
        cpus=per_node * space.execution.cpus_per_worker,
        gpus=math.ceil(per_node * share),
        memory_gib=math.ceil(per_node * (wish.memory_gib or _BASE_GIB + main)),
        hours=math.ceil(wish.hours or max(1.0, _likely_hours(lasts))),
        told=tuple(told),
    )


def _likely_hours(lasts: durations.Duration | None) -> float:
    """Return the longest time that is likely."""
    return lasts.total_s * durations.SPREAD / 3600 if lasts is not None else 0.0


def _workers(plan: Plan, wish: Wish) -> int:
    """Return how many processes are of use at once: as wished, else up to a handful."""
    for option, number in (("--workers", wish.workers), ("--per-node", wish.per_node)):
        if number is not None and number < 1:
            raise ConfigError(f"{option}: there must be one or more, got {number}.")
    trained = [
        [recipe.training.world for recipe in level if recipe.training] for level in plan.levels
    ]
    gang = max((most for level in trained for most in level), default=1)
    widest = max(len(plan.points), *(sum(level) for level in trained), 1)
    wished = wish.workers or max(gang, min(widest, _MOST))
    if wished < gang:
        raise ConfigError(
            f"--workers = {wished}: a training of this study takes {gang} at once "
            f"(training.workers). Give {gang} or more."
        )
    return wished
