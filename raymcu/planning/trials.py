"""What the trials of a search are: cells of its grid, parameters in order, and their spaces.

Pure: Optuna's trial is known by its three questions only.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from pydantic import ValidationError

from raymcu.errors import ConfigError, shown, unknown_name, validation_faults
from raymcu.metrics._base import METRICS
from raymcu.planning.objectives import objective_faults
from raymcu.store.ids import canonical_json, content_id
from raymcu.study.loading import Registries, checked, strictly
from raymcu.study.search_space import SearchSpace
from raymcu.study.search_table import Range, Search

_CHOOSES = ("method", "forget_size")
"""Parameters that choose among what the file names; all others may hang on them."""
_NOT_OF_TRIALS = ("walks", "blends", "calibration", "layer_choice")
_FIXED = (
    *("name", "description", "store", "extensions", "search", "execution", *_NOT_OF_TRIALS),
    # What all trials are compared with, and how: what a trial is asked is asked of these too.
    *("benchmark", "model", "original", "retrained", "measurement", "analysis"),
)
MAY_CHANGE = {"trials", "hours", "trainings", "concurrent", "sampler", "seed", "pruner"}
"""Keys of a search that may differ from start to start: its trials stay what they are."""
_MOST_LISTED = 100_000
"""Trials of the largest grid a search may go through."""

Values = dict[str, Any]


class Suggests(Protocol):
    """What is asked of Optuna's trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """Choose a number between two, both included."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Choose a whole number between two, both included."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of several values."""
        ...


def search_of(space: SearchSpace) -> Search:
    """Return the space's search.

    Raises:
        ConfigError: If it has none.
    """
    if space.search is None:
        raise ConfigError("search: is missing. Add a [search] table, or use `raymcu run`.")
    return space.search


def cells(space: SearchSpace) -> list[Values]:
    """Return the cells of the grid in order, each without what does not exist in it."""
    grid = search_of(space).grid
    found: list[Values] = []
    for values in itertools.product(*grid.values()):
        cell = dict(zip(grid, values, strict=True))
        cell = {key: value for key, value in cell.items() if _exists(space, key, cell)}
        if cell not in found:
            found.append(cell)
    return found


def search_identity(space: SearchSpace) -> str:
    """Name what a search is, whatever its budgets: trials of another one are not its own."""
    out: dict[str, Any] = {"description": True, "store": True, "execution": True}
    return content_id(space.model_dump(mode="json", exclude={**out, "search": MAY_CHANGE}))


def search_summary(space: SearchSpace) -> dict[str, Any]:
    """Return how many studies and trials a search has; nothing if the file has none."""
    if space.search is None:
        return {}
    return {"search": {"studies": len(cells(space)), "trials": most_trials(space)}}


def most_trials(space: SearchSpace) -> int | None:
    """Return how many trials there are at most over all studies; None if only time ends them."""
    search, studies = search_of(space), cells(space)
    if search.sampler != "grid":
        return None if search.trials is None else search.trials * len(studies)
    sizes = [len(listed(space, cell)) for cell in studies]
    return sum(min(size, search.trials or size) for size in sizes)


def study_name(space: SearchSpace, cell: Values) -> str:
    """Name a cell's study: its values, or the search space's name if there is no grid."""
    words = {k: v if isinstance(v, str) else canonical_json(v) for k, v in cell.items()}
    return ", ".join(f"{key}={word}" for key, word in words.items()) or space.name


def suggested(space: SearchSpace, cell: Values, trial: Suggests) -> Values:
    """Ask for each parameter that exists, in a fixed order; return them with the cell's values."""
    values = dict(cell)
    for key, one in _in_order(search_of(space)).items():
        if not _exists(space, key, values):
            continue
        if one.float is not None:
            values[key] = trial.suggest_float(key, *one.float, step=one.step, log=one.log)
        elif one.int is not None:
            values[key] = trial.suggest_int(key, *one.int, step=int(one.step or 1), log=one.log)
        else:
            values[key] = trial.suggest_categorical(key, one.choice or ())
    return values


def listed(space: SearchSpace, cell: Values) -> list[Values]:
    """Return all trials of a cell, of sampler ``grid``, without the cell's own values."""
    rows = [dict(cell)]
    for key, one in _in_order(search_of(space)).items():
        rows = [
            {**row, key: value} if exists else row
            for row in rows
            for exists in (_exists(space, key, row),)
            for value in (_values_of(one) if exists else (None,))
        ]
    return [{k: v for k, v in row.items() if k not in cell} for row in rows]


def applied(space: SearchSpace, values: Mapping[str, Any]) -> SearchSpace:
    """Return the search space of one trial: its method and forget set, its values at their keys.

    What a trial has no use for (walks, blends, pairs unless it is scored along curves) is left
    out. ``mixing`` is none of the space's business; see `mixing_of`.

    Raises:
        ConfigError: If the values do not fit the file's rules.
    """
    try:
        return strictly(SearchSpace, _raw(space, values))
    except ValidationError as error:
        raise ConfigError(list(validation_faults(error, SearchSpace))) from error


def mixing_of(values: Mapping[str, Any]) -> float:
    """Return the share of the unlearner in the trial's mixture with the original."""
    return float(values.get("mixing", 1.0))


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
    ]
    if not faults:  # else what cannot be tried would be told as a fault of its value
        faults = list(_value_faults(space, registries)) or list(_pruner_faults(space))
    return list(dict.fromkeys(faults))


def _in_order(search: Search) -> dict[str, Range]:
    """Return what is searched: what chooses first, else as the file has it, after its ``when``."""
    ordered: dict[str, Range] = {}

    def place(key: str) -> None:
        if key in search.space and key not in ordered:
            for other in search.space[key].when:
                place(other)
            ordered[key] = search.space[key]

    for key in (*_CHOOSES, *search.space):
        place(key)
    return ordered


def _titles(space: SearchSpace) -> list[str]:
    return [method.title for method in space.methods]


def _of_method(space: SearchSpace, key: str) -> tuple[str, str] | None:
    """Split ``methods.TITLE.KEY`` into title and key; None if it is none of a method here."""
    for title in sorted(_titles(space), key=len, reverse=True):
        start = f"methods.{title}."
        if key.startswith(start) and len(key) > len(start):
            return title, key.removeprefix(start)
    return None


def _exists(space: SearchSpace, key: str, values: Mapping[str, Any]) -> bool:
    found = _of_method(space, key)
    if found and values.get("method", found[0]) != found[0]:
        return False
    one = search_of(space).space.get(key)
    conditions = one.when if one else {}
    return all(
        other in values and values[other] in _any_of(wanted) for other, wanted in conditions.items()
    )


def _any_of(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else (wanted,)


def _values_of(one: Range) -> Sequence[Any]:
    """Return all values of a range that has so many."""
    if one.choice is not None:
        return one.choice
    if one.int is not None:
        return range(one.int[0], one.int[1] + 1, int(one.step or 1))
    low, high = map(_exact, one.float or (0.0, 0.0))
    step = _exact(one.step or 1.0)
    return [float(low + step * i) for i in range(int((high - low) / step) + 1)]


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def _raw(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a trial's space.

    Raises:
        ConfigError: If a key leads through what is no table.
    """
    search = search_of(space)
    raw = space.model_dump(mode="json", exclude_none=True, exclude={"search", *_NOT_OF_TRIALS})
    places = {key: _place(space, key, "method" in values) for key in values}
    if "method" in values:
        chosen = _titles(space).index(values["method"])
        raw["methods"] = [raw["methods"][chosen]]
    if "forget_size" in values:
        raw["benchmark"]["forget_sizes"] = [values["forget_size"]]
    for key, place in places.items():
        _write(raw, place, values[key])
    if search.curve is None:
        raw["unlearning"]["settings"] = []
    else:
        titles = [family.title for family in space.curves.families]
        raw["curves"]["families"] = [raw["curves"]["families"][titles.index(search.curve)]]
        raw["curves"] |= {"quadratic": "always", "ensemble": None}
    return raw


def _place(space: SearchSpace, key: str, is_chosen: bool) -> list[str]:
    """Return the way to a key in the table of a trial's space; empty for what is not in it."""
    if key in {*_CHOOSES, "mixing"}:
        return []
    found = _of_method(space, key)
    if found:
        index = 0 if is_chosen else _titles(space).index(found[0])
        return ["methods", str(index), *found[1].split(".")]
    return key.split(".")


def _write(raw: dict[str, Any], place: Sequence[str], value: Any) -> None:
    here: Any = raw
    for depth, part in enumerate(place):
        where = ".".join(place[:depth])
        if isinstance(here, list) and not (part.isdecimal() and int(part) < len(here)):
            raise ConfigError(f"'{where}' is a list of {len(here)}. Give an index from 0.")
        if not isinstance(here, dict | list):
            raise ConfigError(f"'{where}' is a value, not a table. Search it as a whole.")
        index: Any = int(part) if isinstance(here, list) else part
        if depth == len(place) - 1:
            here[index] = value
        else:
            here = here.setdefault(index, {}) if isinstance(here, dict) else here[index]


def _named(search: Search) -> Iterator[tuple[str, str]]:
    """Yield where each key of the search stands, and the key."""
    yield from ((f"search.space.{key}", key) for key in search.space)
    yield from ((f"search.grid.{key}", key) for key in search.grid)


def _key_faults(space: SearchSpace) -> Iterator[str]:
    search, titles = search_of(space), _titles(space)
    for where, key in _named(search):
        root = key.split(".")[0]
        found = _of_method(space, key)
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
    known = {"method": _titles(space), "forget_size": list(space.benchmark.forget_sizes)}
    for key, names in known.items():
        is_open = key not in search.space and key not in search.grid and len(names) > 1
        if is_open and not (key == "method" and search.curve is not None):
            yield (
                f"search.space: a trial has one {key.replace('_', ' ')}, and the file names "
                f"{len(names)}. Add {key} = {{ choice = {shown(names)} }}, or [search.grid]."
            )
    for where, key in _named(search):
        values = _tried(search, key)
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
                for value in _any_of(wanted):
                    if value not in _tried(search, other):
                        yield (
                            f"{where}: {other} is never {shown(value)}. It is one of "
                            f"{shown(list(_tried(search, other)))}."
                        )
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        yield f"search.space: {' waits for '.join(error.args[1])}. Break the circle."


def _step_faults(search: Search) -> Iterator[str]:
    sizes = []
    for key, one in search.space.items():
        where = f"search.space.{key}"
        low, high = map(_exact, one.float or one.int or (0, 0))
        if one.step and (high - low) % _exact(one.step):
            top = high - (high - low) % _exact(one.step)
            yield (
                f"{where}: its bounds are no whole number of steps apart, got "
                f"{low} to {high} by {one.step:g}. Let it end at {top}."
            )
        if search.sampler == "grid" and one.float and not one.step:
            yield f"{where}: has no end of values for a grid. Give step, or choice."
        else:
            sizes.append(len(one.choice or ()) or int((high - low) / _exact(one.step or 1)) + 1)
    if search.sampler == "grid" and math.prod(sizes) > _MOST_LISTED:
        yield (
            f"search.sampler: a grid of up to {math.prod(sizes):.3g} trials is too many; "
            f"{_MOST_LISTED:g} are not. Give steps or fewer values, or another sampler."
        )


def _pruner_faults(space: SearchSpace) -> Iterator[str]:
    search = search_of(space)
    if search.pruner == "none":
        return
    if most_workers(space) > 1:
        yield (
            f"search.pruner: '{search.pruner}' looks at unfinished trainings, which gangs of "
            "training.workers > 1 do not show. Set pruner = 'none' or workers = 1."
        )
    for name in search.objectives:
        if METRICS[name].kind == "representations":
            yield (
                f"search.pruner: '{search.pruner}' looks at unfinished trainings by '{name}', "
                "which is not measured there. Set pruner = 'none' or take another objective."
            )


def most_workers(space: SearchSpace) -> int:
    """Return by how many workers a trial's recipe may be trained, by the file or by a value.

    Raises:
        ConfigError: If values do not fit the file's rules.
    """
    search = search_of(space)
    return max(
        workers
        for _, key in _named(search)
        for value in _tried(search, key)
        for workers in _workers(applied(space, {**_context(space, key), key: value}))
    )


def _workers(trial: SearchSpace) -> Iterator[int]:
    has_pairs = bool(trial.unlearning.settings)
    for method in trial.methods:
        for is_second_order in (False, True) if has_pairs else (False,):
            yield trial.use_of(method, is_second_order=is_second_order)[1].workers
    if has_pairs:
        yield trial.curves.bend.training.workers


def _tried(search: Search, key: str) -> Sequence[Any]:
    """Return the values of a key that stand for all: both bounds, or each choice."""
    if key in search.grid:
        return search.grid[key]
    one = search.space[key]
    return one.choice or tuple(dict.fromkeys(one.float or one.int or ()))


def _value_faults(space: SearchSpace, registries: Registries) -> Iterator[str]:
    """Try each value by itself, and tell what the search space alone is not guilty of."""
    search = search_of(space)
    told: set[str] = set()
    for where, key in _named(search):
        context = _context(space, key)
        own = ".".join(_place(space, key, "method" in context))
        base = {k: v for k, v in context.items() if k != key}
        known = set(trial_faults(space, base, registries)) if key not in _CHOOSES else set()
        yield from (f"search: no trial can be made: {f}" for f in known - told)
        told |= known
        for value in _tried(search, key):
            for fault in trial_faults(space, {**context, key: value}, registries):
                if fault not in known:
                    text = re.sub(rf"^{re.escape(own)}: ", "", fault) if own else fault
                    yield f"{where}: {text}"


def trial_faults(
    space: SearchSpace, values: Mapping[str, Any], registries: Registries
) -> list[str]:
    """Say what is wrong with a trial of these values, options of its methods included."""
    try:
        return checked(_raw(space, values), registries)[1]
    except ConfigError as error:
        return error.faults


def _context(space: SearchSpace, key: str) -> Values:
    """Return what must be chosen for a parameter to exist."""
    search = search_of(space)
    context = {
        other: _tried(search, other)[0]
        for other in _CHOOSES
        if other in search.space or other in search.grid
    }
    found = _of_method(space, key)
    if found and "method" in context:
        context["method"] = found[0]
    one = search.space.get(key)
    for other, wanted in (one.when if one else {}).items():
        context |= {**_context(space, other), other: _any_of(wanted)[0]}
    return context
