"""Rows of tables in the order in which they are told, with names for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from raymcu.report.data import pair_label, unique


def calibrated(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Name rows of table ``calibrations``; sort them by walk, forget set, metric and new place.

    A walk is named by its unlearner, a curve by its setting and pair. What could not be
    calibrated comes last.
    """
    rows = list(rows)
    keys = ("family", "forget_size", "rank_by")
    order = [{key: n for n, key in enumerate(unique(row[k] for row in rows))} for k in keys]
    named = [(_line_name(row), row) for row in rows]

    def place(pair: tuple[str, Mapping[str, Any]]) -> tuple[Any, ...]:
        name, row = pair
        group = tuple(ranks[row[key]] for ranks, key in zip(order, keys, strict=True))
        return (*group, row["rank_after"] is None, row["rank_after"] or 0, name)

    return tuple(sorted(named, key=place))


def _line_name(row: Mapping[str, Any]) -> str:
    if row["setting"] is None:
        return str(row["second"])
    return f"{row['setting']}, {pair_label(row['first'], row['second'])}"


_KINDS = ("original", "unlearner", "layer", "set")


def chosen_layers(rows: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Sort rows of table ``layer_choices``: both ends, layers one by one, then growing sets."""
    rows = list(rows)
    groups = unique(f"{row['forget_size']}\n{row['second']}" for row in rows)

    def place(row: Mapping[str, Any]) -> tuple[int, int, int, list[int]]:
        layers = list(row["layers"] or ())
        group = groups.index(f"{row['forget_size']}\n{row['second']}")
        return group, _KINDS.index(row["kind"]), len(layers), layers

    return tuple(sorted(rows, key=place))


def layers_label(row: Mapping[str, Any]) -> str:
    """Name what a row of ``layer_choices`` puts into the original, e.g. ``layers 1, 3``."""
    if row["kind"] in ("original", "unlearner"):
        return str(row["kind"])
    layers = list(row["layers"] or ())
    if not layers:
        return "no layer"
    return ("layer " if len(layers) == 1 else "layers ") + ", ".join(map(str, layers))
