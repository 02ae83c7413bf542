"""Whether a search can go on in the folder of another one: what is there must keep its numbers.

Budgets may always change. With leave to extend, a search may grow: more cells of the grid, with the
methods and forget sets that they name. Whatever else differs would make other trials of the same
numbers, or other numbers of the same trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raymcu.errors import ConfigError, shown
from raymcu.planning.trials import MAY_CHANGE, NOT_OF_TRIALS, of_method, search_of, titles_of
from raymcu.study.search_space import SearchSpace

_NO_MATTER = {"description", "store", "execution", *NOT_OF_TRIALS}
_MISSING = object()


def check_extension(there: SearchSpace, here: SearchSpace, url: str, *, extend: bool) -> bool:
    """Say whether a search is another one than its folder's, and only adds to it.

    Args:
        there: The folder's.
        here: The one to go on with.
        url: Of the folder, for messages.
        extend: Whether it may be added to.

    Raises:
        ConfigError: If numbers of the trials that are there would change, key by key; or if they
            would not and nobody gave leave.
    """
    search_of(here)
    if there.search is None:
        raise ConfigError(f"{url}: a study is there, and no search. Give a new folder with --out.")
    changed = list(_changed(_plain(there), _plain(here), ""))
    faults = [
        f"{key}: is {_spelled(old)} in the search of {url}, and {_spelled(new)} here, so the "
        "trials that are there would have other numbers. Set it back, or give a new folder with "
        "--out."
        for key, old, new in changed
        if not _grows(there, here, key, old, new)
    ]
    if faults:
        raise ConfigError(faults)
    if changed and not extend:
        raise ConfigError(
            f"{url}: {', '.join(key for key, _, _ in changed)} would add to the search there. "
            "Give --extend to go on in that folder, or a new one with --out."
        )
    return bool(changed)


def _plain(space: SearchSpace) -> dict[str, Any]:
    return space.model_dump(mode="json", exclude={**dict.fromkeys(_NO_MATTER, True),
                                                  "search": MAY_CHANGE})  # fmt: skip


def _changed(old: Any, new: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs: its key, what it was and what it is; of nested tables each key."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{place}.{key}" if place else key
            yield from _changed(old.get(key, _MISSING), new.get(key, _MISSING), inner)
    elif old != new:
        yield place, old, new


def _spelled(value: Any) -> str:
    return "not given" if value is _MISSING or value is None else shown(value)


def _grows(there: SearchSpace, here: SearchSpace, key: str, old: Any, new: Any) -> bool:
    """Say whether a difference concerns new cells only; they come behind those that are there."""
    grid = search_of(there).grid
    if key.startswith("search.grid."):
        return _begins(new, old) and bool(old)
    if key == "benchmark.forget_sizes":
        return "forget_size" in grid and set(old) <= set(new)
    if key == "methods":
        return "method" in grid and all(use in new for use in old)
    if key.startswith("retrained.paths."):
        size = key.removeprefix("retrained.paths.")
        return old is _MISSING and size not in there.benchmark.forget_sizes
    if key.startswith("search.space."):
        found = of_method(here, key.removeprefix("search.space."))
        return old is _MISSING and found is not None and found[0] not in titles_of(there)
    return False


def _begins(new: Any, old: Any) -> bool:
    are_lists = isinstance(new, Sequence) and isinstance(old, Sequence)
    return are_lists and list(new[: len(old)]) == list(old)
