"""What the trials of a search are: cells of its grid, parameters in order, and their spaces.

Pure: Optuna's trial is known by its three questions only.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from pydantic import ValidationError

from raymcu.errors import ConfigError, validation_faults
from raymcu.store.ids import canonical_json, content_id
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace
from raymcu.study.search_table import Range, Search

CHOOSES = ("method", "forget_size")
"""Parameters that choose among what the file names; all others may hang on them."""
NOT_OF_TRIALS = ("walks", "blends", "calibration", "layer_choice", "audit")
MAY_CHANGE = {"trials", "hours", "trainings", "concurrent", "sampler", "seed", "pruner"}
"""Keys of a search that may differ from start to start: its trials stay what they are."""

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
        return strictly(SearchSpace, raw_trial(space, values))
    except ValidationError as error:
        raise ConfigError(list(validation_faults(error, SearchSpace))) from error


def mixing_of(values: Mapping[str, Any]) -> float:
    """Return the share of the unlearner in the trial's mixture with the original."""
    return float(values.get("mixing", 1.0))


def _in_order(search: Search) -> dict[str, Range]:
    """Return what is searched: what chooses first, else as the file has it, after its ``when``."""
    ordered: dict[str, Range] = {}

    def place(key: str) -> None:
        if key in search.space and key not in ordered:
            for other in search.space[key].when:
                place(other)
            ordered[key] = search.space[key]

    for key in (*CHOOSES, *search.space):
        place(key)
    return ordered


def titles_of(space: SearchSpace) -> list[str]:
    """Return the titles of the file's methods, in its order."""
    return [method.title for method in space.methods]


def of_method(space: SearchSpace, key: str) -> tuple[str, str] | None:
    """Split ``methods.TITLE.KEY`` into title and key; None if it is none of a method here."""
    for title in sorted(titles_of(space), key=len, reverse=True):
        start = f"methods.{title}."
        if key.startswith(start) and len(key) > len(start):
            return title, key.removeprefix(start)
    return None


def _exists(space: SearchSpace, key: str, values: Mapping[str, Any]) -> bool:
    found = of_method(space, key)
    if found and values.get("method", found[0]) != found[0]:
        return False
    one = search_of(space).space.get(key)
    conditions = one.when if one else {}
    return all(
        other in values and values[other] in any_of(wanted) for other, wanted in conditions.items()
    )


def any_of(wanted: Any) -> Sequence[Any]:
    """Return the values of a ``when``, which may be one or a list."""
    return wanted if isinstance(wanted, list | tuple) else (wanted,)


def _values_of(one: Range) -> Sequence[Any]:
    """Return all values of a range that has so many."""
    if one.choice is not None:
        return one.choice
    if one.int is not None:
        return range(one.int[0], one.int[1] + 1, int(one.step or 1))
    low, high = map(exact, one.float or (0.0, 0.0))
    step = exact(one.step or 1.0)
    return [float(low + step * i) for i in range(int((high - low) / step) + 1)]


def exact(number: float) -> Decimal:
    """Return a number as it is written, so that steps of 0.1 add up."""
    return Decimal(str(number))


def raw_trial(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a trial's space.

    Raises:
        ConfigError: If a key leads through what is no table.
    """
    search = search_of(space)
    raw = space.model_dump(mode="json", exclude_none=True, exclude={"search", *NOT_OF_TRIALS})
    places = {key: place_of(space, key, "method" in values) for key in values}
    if "method" in values:
        chosen = titles_of(space).index(values["method"])
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


def place_of(space: SearchSpace, key: str, is_chosen: bool) -> list[str]:
    """Return the way to a key in the table of a trial's space; empty for what is not in it."""
    if key in {*CHOOSES, "mixing"}:
        return []
    found = of_method(space, key)
    if found:
        index = 0 if is_chosen else titles_of(space).index(found[0])
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


def named_keys(search: Search) -> Iterator[tuple[str, str]]:
    """Yield where each key of the search stands, and the key."""
    yield from ((f"search.space.{key}", key) for key in search.space)
    yield from ((f"search.grid.{key}", key) for key in search.grid)


def most_workers(space: SearchSpace) -> int:
    """Return by how many workers a trial's recipe may be trained, by the file or by a value.

    Raises:
        ConfigError: If values do not fit the file's rules.
    """
    search = search_of(space)
    return max(
        workers
        for _, key in named_keys(search)
        for value in tried_values(search, key)
        for workers in _workers(applied(space, {**context_of(space, key), key: value}))
    )


def _workers(trial: SearchSpace) -> Iterator[int]:
    has_pairs = bool(trial.unlearning.settings)
    for method in trial.methods:
        for is_second_order in (False, True) if has_pairs else (False,):
            yield trial.use_of(method, is_second_order=is_second_order)[1].world
    if has_pairs:
        yield trial.curves.bend.training.world


def tried_values(search: Search, key: str) -> Sequence[Any]:
    """Return the values of a key that stand for all: both bounds, or each choice."""
    if key in search.grid:
        return search.grid[key]
    one = search.space[key]
    return one.choice or tuple(dict.fromkeys(one.float or one.int or ()))


def largest_trials(space: SearchSpace, size: Callable[[Values], Any]) -> list[Values]:
    """Return the values that make trials largest, of each parameter its largest value.

    There is one for each way to set what chooses and what other parameters wait for.

    Args:
        space: With a ``search``.
        size: Of a trial with such values, which are compared. The largest is found key by key.
    """
    search = search_of(space)
    waited: dict[str, list[Any]] = {key: [] for key in CHOOSES}
    for one in search.space.values():
        for other, wanted in one.when.items():
            waited.setdefault(other, []).extend(any_of(wanted))
    set_first = {
        key: [*tried_values(search, key), *(v for v in more if v not in tried_values(search, key))]
        for key, more in waited.items()
        if key in search.space or key in search.grid
    }
    first = [key for key in CHOOSES if key in set_first]
    keys = dict.fromkeys((*first, *search.grid, *_in_order(search)))
    known: list[Values] = []
    for chosen in itertools.product(*set_first.values()):
        named, values = dict(zip(set_first, chosen, strict=True)), Values()
        for key in keys:
            if key in named and _exists(space, key, values):
                values = {**values, key: named[key]}
            elif _exists(space, key, values):
                found = [{**values, key: value} for value in tried_values(search, key)]
                values = max(found, key=size)
        if values not in known:
            known.append(values)
    return known


def context_of(space: SearchSpace, key: str) -> Values:
    """Return what must be chosen for a parameter to exist."""
    search = search_of(space)
    context = {
        other: tried_values(search, other)[0]
        for other in CHOOSES
        if other in search.space or other in search.grid
    }
    found = of_method(space, key)
    if found and "method" in context:
        context["method"] = found[0]
    one = search.space.get(key)
    for other, wanted in (one.when if one else {}).items():
        context |= {**context_of(space, other), other: any_of(wanted)[0]}
    return context
