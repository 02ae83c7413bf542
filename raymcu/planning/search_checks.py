"""Whether a search can be had, every fault of a ``[search]`` table before anything starts.

Each value that stands for others is tried in a trial of its own.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from raymcu.errors import ConfigError, shown, unknown_name
from raymcu.metrics._base import METRICS
from raymcu.planning.objectives import objective_faults
from raymcu.planning.trials import (
    CHOOSES,
    NOT_OF_TRIALS,
    any_of,
    applied,
    context_of,
    exact,
    most_workers,
    named_keys,
    of_method,
    place_of,
    raw_trial,
    search_of,
    titles_of,
    tried_values,
)
from raymcu.planning.unread_keys import touches, unread_keys
from raymcu.study.after import Asked
from raymcu.study.curve_tables import ADAPTIVE
from raymcu.study.loading import Registries, checked
from raymcu.study.search_space import SearchSpace
from raymcu.study.search_table import Search

_FIXED = (
    *("name", "description", "store", "search", "execution", *NOT_OF_TRIALS),
    *("extensions", "extensions_folder"),
    # What all trials are compared with, and how: what a trial is asked is asked of these too.
    *("benchmark", "model", "models", "original", "retrained", "measurement", "analysis"),
    "attacks",
)

_MOST_LISTED = 100_000
"""Trials of the largest grid a search may go through."""


def search_faults(space: SearchSpace, registries: Registries) -> list[str]:
    """Say all that is wrong with a search, against the rest of its file, before it starts.

    Each parameter is tried at both its bounds, or at each of its choices, in a trial of its own.
    """
    if space.search is None:
        return []
    faults = [
        *_key_faults(space),
        *_choice_faults(space),
        *_when_faults(space.search),
        *_step_faults(space.search),
        *objective_faults(space),
        *_round_faults(space),
    ]
    if not faults:  # else what cannot be tried would be told as a fault of its value
        faults = list(_value_faults(space, registries)) or [
            *_pruner_faults(space),
            *_unread_faults(space),
        ]
    return list(dict.fromkeys(faults))


def _round_faults(space: SearchSpace) -> Iterator[str]:
    if space.curves.num_points == ADAPTIVE:
        yield (
            "curves.num_points: 'adaptive' measures where earlier points call for it, and trials "
            "have no rounds. Give a number."
        )


def _key_faults(space: SearchSpace) -> Iterator[str]:
    search, titles = search_of(space), titles_of(space)
    for where, key in named_keys(search):
        root = key.split(".")[0]
        found = of_method(space, key)
        if root == "methods" and found is None:
            title = key.removeprefix("methods").removeprefix(".").split(".")[0]
            told = unknown_name("method of this file", title, titles)
            yield f"{where}: {told} Write methods.TITLE.KEY."
        elif found and found[1] in {"name", "label"}:
            yield f"{where}: a method is chosen by its title. Search 'method' instead."
        elif root in _FIXED:
            instead = key == "benchmark.forget_sizes"
            yield (
                f"{where}: is the same for all trials. "
                f"{'Search forget_size instead' if instead else 'Leave it out'}."
            )
    families = [family.title for family in space.curves.families]
    if search.curve is not None and search.curve not in families:
        yield f"search.curve: {unknown_name('curve family of this file', search.curve, families)}"
    if search.curve is not None and not space.unlearning.settings:
        yield "search.curve: needs unlearners to connect, and unlearning.settings names no pairs."


def _choice_faults(space: SearchSpace) -> Iterator[str]:
    """Check what chooses a method, a forget set and the mixture."""
    search = search_of(space)
    known = {"method": titles_of(space), "forget_size": list(space.benchmark.forget_sizes)}
    for key, names in known.items():
        is_open = key not in search.space and key not in search.grid and len(names) > 1
        if is_open and not (key == "method" and search.curve is not None):
            yield (
                f"search.space: a trial has one {key.replace('_', ' ')}, and the file names "
                f"{len(names)}. Add {key} = {{ choice = {shown(names)} }}, or [search.grid]."
            )
    for where, key in named_keys(search):
        values = tried_values(search, key)
        if key in known:
            one = search.space.get(key)
            if one is not None and one.choice is None:
                yield f"{where}: is chosen by name. Write {{ choice = {shown(known[key])} }}."
                continue
            kind = f"{key.replace('_', ' ')} of this file"
            for value in values:
                if value not in known[key]:
                    yield f"{where}: {unknown_name(kind, str(value), known[key])}"
        if key == "mixing":
            yield from _mixing_faults(where, values, search)


def _mixing_faults(where: str, values: Sequence[Any], search: Search) -> Iterator[str]:
    for value in values:
        if isinstance(value, bool | str | list | dict) or not 0 <= value <= 1:
            yield f"{where}: is the unlearner's share, in [0, 1], got {shown(value)}. Correct it."
    if search.curve is not None:
        yield f"{where}: mixes one unlearner, and search.curve connects two. Leave out the one."


def _when_faults(search: Search) -> Iterator[str]:
    waits = {key: one.when.keys() for key, one in search.space.items()}
    for key, one in search.space.items():
        for other, wanted in one.when.items():
            where = f"search.space.{key}.when"
            known = [*search.space, *search.grid]
            if other not in known or other == key:
                yield f"{where}: {unknown_name('other parameter', other, known)}"
                continue
            held = search.space.get(other)
            if held is None or held.choice is not None:
                for value in any_of(wanted):
                    if value not in tried_values(search, other):
                        yield (
                            f"{where}: {other} is never {shown(value)}. It is one of "
                            f"{shown(list(tried_values(search, other)))}."
                        )
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        yield f"search.space: {' waits for '.join(error.args[1])}. Break the circle."


def _step_faults(search: Search) -> Iterator[str]:
    sizes = []
    for key, one in search.space.items():
        where = f"search.space.{key}"
        low, high = map(exact, one.float or one.int or (0, 0))
        if one.step and (high - low) % exact(one.step):
            top = high - (high - low) % exact(one.step)
            yield (
                f"{where}: its bounds are no whole number of steps apart, got "
                f"{low} to {high} by {one.step:g}. Let it end at {top}."
            )
        if search.sampler == "grid" and one.float and not one.step:
            yield f"{where}: has no end of values for a grid. Give step, or choice."
        else:
            sizes.append(len(one.choice or ()) or int((high - low) / exact(one.step or 1)) + 1)
    if search.sampler == "grid" and math.prod(sizes) > _MOST_LISTED:
        yield (
            f"search.sampler: a grid of up to {math.prod(sizes):.3g} trials is too many; "
            f"{_MOST_LISTED:g} are not. Give steps or fewer values, or another sampler."
        )


def gang_pruned(pruner: str) -> str:
    """Say that trials of several workers cannot be looked at."""
    return (
        f"search.pruner: '{pruner}' looks at unfinished trainings, which gangs of "
        "training.workers > 1 do not show. Set pruner = 'none' or workers = 1."
    )


def _pruner_faults(space: SearchSpace) -> Iterator[str]:
    search = search_of(space)
    if search.pruner == "none":
        return
    if most_workers(space) > 1:
        yield gang_pruned(search.pruner)
    for name in search.objectives:
        if (asked := Asked.parse(name)).how is not None:
            yield (
                f"search.pruner: '{search.pruner}' looks at unfinished trainings, which nothing "
                f"is done to, so that there is no '{name}'. Set pruner = 'none'."
            )
        if METRICS[asked.metric].kind in {"representations", "sharpness"}:
            yield (
                f"search.pruner: '{search.pruner}' looks at unfinished trainings by '{name}', "
                "which is not measured there. Set pruner = 'none' or take another objective."
            )


def _value_faults(space: SearchSpace, registries: Registries) -> Iterator[str]:
    """Try each value by itself, and tell what the search space alone is not guilty of."""
    search = search_of(space)
    told: set[str] = set()
    for where, key in named_keys(search):
        context = context_of(space, key)
        own = ".".join(place_of(space, key, "method" in context))
        base = {k: v for k, v in context.items() if k != key}
        known = set(trial_faults(space, base, registries)) if key not in CHOOSES else set()
        yield from (f"search: no trial can be made: {f}" for f in known - told)
        told |= known
        for value in tried_values(search, key):
            for fault in trial_faults(space, {**context, key: value}, registries):
                if fault not in known:
                    text = re.sub(rf"^{re.escape(own)}: ", "", fault) if own else fault
                    yield f"{where}: {text}"


def _unread_faults(space: SearchSpace) -> Iterator[str]:
    """Refuse to search what changes nothing: the one place where such a key is but a mistake."""
    search = search_of(space)
    for where, key in named_keys(search):
        context = context_of(space, key)
        own = ".".join(place_of(space, key, "method" in context))
        for value in tried_values(search, key) if own else ():
            trial = applied(space, {**context, key: value})
            for unread in unread_keys(trial.model_copy(update={"search": search})):
                if any(touches(own, one) for one in unread.keys):
                    yield f"{where}: changes no trial, as {unread.why}. Leave it out."


def trial_faults(
    space: SearchSpace, values: Mapping[str, Any], registries: Registries
) -> list[str]:
    """Say what is wrong with a trial of these values, options of its methods included."""
    try:
        return checked(raw_trial(space, values), registries)[1]
    except ConfigError as error:
        return error.faults
