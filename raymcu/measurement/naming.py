"""What people call a model of a study: the ids and labels it answers to, and whom a name means."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from raymcu.blend import Blend
from raymcu.errors import ConfigError
from raymcu.planning.recipes import PASSING
from raymcu.store.run_folder import RunFolder

_MOST_TOLD = 5
_AFTER = " after "
"""What stands in the label of an attacked point."""


def find_blend(run: RunFolder, name: str) -> Blend:
    """Return the blend that a name means.

    Args:
        run: The study.
        name: An id or label of its tables ``points`` and ``recipes``; a curve's or walk's label,
            ``@`` and a position; any of these behind a forget set and a colon; or the beginning
            of one that belongs to one model alone.

    Raises:
        ConfigError: If no model or several are called so.
    """
    if not name.strip():
        raise ConfigError(f"'{name}': is no name. Give a point's id or label, e.g. original.")
    names = _names(run)
    wanted = _as_told(name)
    is_attacked = _AFTER in wanted
    found = names.get(wanted) or {
        blend
        for other, blends in names.items()
        if other.startswith(wanted) and (is_attacked or _AFTER not in other)
        for blend in blends
    }
    if not found and is_attacked and (before := wanted.split(_AFTER)[0]) in names:
        raise ConfigError(
            f"'{name}': is no model by itself: what was done to '{before}' lasted while it was "
            f"measured. Give '{before}'."
        )
    if not found:
        near = get_close_matches(wanted, names, n=_MOST_TOLD, cutoff=0.5)
        raise ConfigError(
            f"'{name}': no model of {run.url} has this id or label, and none begins so. "
            f"{_nearest(near) if near else _examples(names)} All are in tables/points."
        )
    if len(found) > 1:
        told = sorted(_shortest(blend, names, wanted) for blend in found)
        more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        raise ConfigError(
            f"'{name}': {len(told)} models of {run.url} are called or begin so: "
            f"{', '.join(repr(one) for one in told[:_MOST_TOLD])}{more}. Give one of them."
        )
    return Blend.model_validate_json(found.pop())


def _names(run: RunFolder) -> Mapping[str, set[str]]:
    """Return the blends, as JSON, that each name stands for."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    points = run.read_table("points").to_pylist()
    blends = {row["point_id"]: row["blend"] for row in points}
    for row in points:
        if row["attacked"] is not None and row["blend"] == blends.get(row["attacked"]):
            continue  # what was done to it while it was measured is not in its weights
        for name in _names_of_point(row):
            names[name].add(row["blend"])
    for row in run.read_table("recipes").to_pylist():
        if row["role"] in PASSING:  # which go by the labels of their points
            continue
        blend = Blend.of({row["recipe_id"]: 1.0}).model_dump_json()
        for name in _with_size(row["label"], row["forget_size"]):
            names[name].add(blend)
        names[row["recipe_id"]].add(blend)
    return names


def _names_of_point(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _with_size(row["label"], row["forget_size"])
    if row["t"] is not None:
        ends = [row["second"]] if row["role"] == "walk" else [row["first"], row["second"]]
        place = f"{row['family']}({', '.join(ends)})@{row['t']:.3g}"
        yield from _with_size(place, row["forget_size"])
    yield row["point_id"]


def _with_size(label: str, size: str | None) -> Iterator[str]:
    yield label
    if size is not None:
        yield f"{size}:{label}"


def _as_told(name: str) -> str:
    """Spell the position behind ``@`` as labels do."""
    label, at, position = name.rpartition("@")
    try:
        return f"{label}@{float(position):.3g}" if at else name
    except ValueError:
        return name


def _shortest(blend: str, names: Mapping[str, set[str]], beginning: str) -> str:
    """Return the name that means this blend alone, one that begins as was asked if there is one."""
    own = [name for name, blends in names.items() if blends == {blend}]
    return min(own, key=lambda name: (not name.startswith(beginning), beginning not in name))


def _nearest(near: list[str]) -> str:
    first, *others = near
    also = f" Or {', '.join(repr(one) for one in others)}?" if others else ""
    return f"Did you mean '{first}'?{also}"


def _examples(names: Mapping[str, set[str]]) -> str:
    return f"Among them are {', '.join(repr(one) for one in list(names)[:_MOST_TOLD])}."
