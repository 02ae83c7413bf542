"""Planes through three checkpoints as a table: losses on the grid, and the lines in the plane."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from raymcu.analysis.geometry import Products, Reals, losses_of, read_layers
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace


def keep_surfaces(run: RunFolder, space: SearchSpace) -> None:
    """Write table ``surfaces``, if the search space asks for any.

    Raises:
        StoreError: If a table is damaged.
    """
    run.remove_part("surfaces", "all")  # which another search space may have asked for
    if not space.surfaces:
        return
    layers, losses = read_layers(run), losses_of(run)
    products = Products(layers) if layers is not None else None
    original = next(row["id"] for row in run.plan["recipes"] if row["role"] == "original")
    rows = []
    for plane in run.plan["surfaces"]:
        around = products.around_first(plane["corner_ids"], original) if products else None
        common = {"surface": plane["label"], "forget_size": plane["forget_size"]}
        points = [(None, p["a"], p["b"], p["point_id"]) for p in plane["points"]]
        for line, a, b, point in [*points, *_lines(run, plane)]:
            x, y = place(around, a, b) if around is not None else (None, None)
            here = losses.get(point, {})
            rows.append({**common, "line": line, "a": a, "b": b, "x": x, "y": y,
                         "point_id": point, **here})  # fmt: skip
    run.write_part("surfaces", "all", tables.from_rows("surfaces", rows))


def place(products: Reals, a: float, b: float) -> tuple[float, float]:
    """Return where (1 - a - b)·first + a·second + b·third lies in the plane of the three.

    Args:
        products: Inner products of what leads from the first corner to each, (3, 3).
        a: Coefficient of the second corner.
        b: Of the third.

    Returns:
        Distance along the line from first to second corner, and from that line. Equal first and
        second corners have no line: all distance is from it.
    """
    across, up = products[1, 1], products[2, 2]
    way = float(np.sqrt(max(across, 0.0)))
    along = float(products[1, 2]) / way if way else 0.0
    return a * way + b * along, b * float(np.sqrt(max(up - along**2, 0.0)))


def _lines(run: RunFolder, plane: Mapping[str, Any]) -> Iterator[tuple[str, float, float, str]]:
    """Yield the points of curves and walks in a plane: line, both coefficients, point id."""
    _, second, third = plane["corner_ids"]
    table = run.read_table("points").select(
        ["curve_id", "family", "forget_size", "first", "second", "t", "point_id", "blend"]
    )
    rows = [r for r in table.to_pylist() if r["curve_id"] is not None]
    inside: dict[str, list[tuple[float, str, float, float, str]]] = {}
    outside: set[str] = set()
    for row in rows:
        blend = json.loads(row["blend"])
        is_here = {*blend["checkpoints"]} <= {*plane["corner_ids"]} and not blend["layers"]
        if not is_here or row["forget_size"] != plane["forget_size"]:
            outside.add(row["curve_id"])
            continue
        terms = dict(zip(blend["checkpoints"], blend["coefficients"], strict=True))
        name = f"{row['family']}: {row['first']} ↔ {row['second']}"
        found = row["t"], name, terms.get(second, 0.0), terms.get(third, 0.0), row["point_id"]
        inside.setdefault(row["curve_id"], []).append(found)
    for key, points in inside.items():
        if key not in outside:
            yield from ((name, a, b, point) for _, name, a, b, point in sorted(points))
