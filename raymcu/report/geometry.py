"""Geometry of weights as figures and a table: cosines, updates by layer, lengths of curves."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymcu.report.console import number
from raymcu.report.data import Study, unique
from raymcu.report.figure_files import render
from raymcu.report.figures import LINES, PALETTE, STYLE, Drawing, set_log
from raymcu.report.overview import ON_CELL
from raymcu.report.panel_sheets import Panel, Sheet, draw_sheets
from raymcu.report.tabular import Cell, Column, Row, Table

Rows = Sequence[Mapping[str, Any]]

_COSINES = LinearSegmentedColormap.from_list(
    "cosines", ["#a8480b", "#f0b48c", "#f7f7f7", "#9ecae9", "#0a5c97"]
)
_MOST_NUMBERED = 14
"""Directions of a matrix whose cells have their numbers in them."""


def geometry_drawings(study: Study, rows: Rows) -> list[Drawing]:
    """Draw the cosines of each forget set's directions, and how far each layer has moved.

    Args:
        study: What is reported.
        rows: Of table ``geometry``.
    """
    drawn = [_draw_cosines(*matrix) for matrix in cosine_matrices(study, rows)]
    return [*drawn, *_layers(study, rows)]


def directions_of(study: Study, rows: Rows) -> dict[str, list[tuple[str, str]]]:
    """Return by forget set the id and label of each model that is no bend, method by method.

    Models of no forget set, as ready ones, stand with every one.
    """
    read = {row["first_id"] for row in rows if row["kind"] == "update"}
    found: dict[str, list[tuple[str, str]]] = {size: [] for size in study.forget_sizes}
    for recipe in study.plan["recipes"]:
        if recipe["id"] in read and recipe["role"] != "bend":
            for size in study.forget_sizes:
                if recipe["forget_size"] in (None, size):
                    found[size].append((recipe["id"], _short(recipe["label"], recipe["role"])))
    return {size: _by_method(models) for size, models in found.items() if models}


def _by_method(models: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    heads = unique(label.split("/")[0] for _, label in models)
    return sorted(models, key=lambda model: (heads.index(model[1].split("/")[0]), model[1]))


def _short(label: str, role: str) -> str:
    return role if role == "retrained" else label


Matrix = tuple[str, list[str], np.ndarray]


def cosine_matrices(study: Study, rows: Rows) -> list[Matrix]:
    """Return by forget set the labels of its directions and their cosines, NaN where undefined."""
    cosines: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["layer"] is None and row["kind"] == "pair" and row["cosine"] is not None:
            pair = row["first_id"], row["second_id"]
            cosines[pair] = cosines[pair[::-1]] = row["cosine"]
    found = []
    for size, models in directions_of(study, rows).items():
        ids = [key for key, _ in models]
        values = np.array([[1.0 if one == two else cosines.get((one, two), np.nan) for two in ids]
                           for one in ids])  # fmt: skip
        if len(ids) > 1 and cosines:
            found.append((size, [label for _, label in models], values))
    return found


def _draw_cosines(size: str, labels: Sequence[str], values: np.ndarray) -> Drawing:
    cell = 0.42 if len(labels) <= _MOST_NUMBERED else max(0.16, 6.5 / len(labels))
    left = 0.35 + 0.075 * max(map(len, labels))
    side, top = cell * len(labels), 0.55 + 0.062 * max(map(len, labels))
    width, height = max(left + side + 0.9, 4.6), top + side + 0.2
    name, title = f"cosines_{size}", f"Directions of updates, {size}"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        figure.text(0.14 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5,
                    fontweight="bold")  # fmt: skip
        box = (left / width, 0.2 / height, side / width, side / height)
        ax = figure.add_axes(box)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        edges = np.arange(len(labels) + 1) - 0.5
        mesh = ax.pcolormesh(edges, edges, values, cmap=_COSINES, vmin=-1, vmax=1, lw=0)
        ax.invert_yaxis()
        small = 8 if cell > 0.24 else 6
        ax.set_yticks(range(len(labels)), labels, fontsize=small)
        ax.set_xticks(range(len(labels)), labels, rotation=55, ha="left", fontsize=small,
                      rotation_mode="anchor")  # fmt: skip
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        if len(labels) <= _MOST_NUMBERED:
            for (i, j), value in np.ndenumerate(values):
                ink = "#ffffff" if abs(value) > 0.75 else ON_CELL
                ax.text(j, i, "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−"),
                        ha="center", va="center", fontsize=7.5, color=ink)  # fmt: skip
        bar = figure.add_axes(((left + side + 0.18) / width, 0.2 / height, 0.12 / width,
                               min(side, 2.4) / height))  # fmt: skip
        figure.colorbar(mesh, cax=bar, ticks=[-1, 0, 1])
        bar.tick_params(length=0)
        files = render(figure, name)
    caption = (
        "Cosine of the angle between two models' directions from the original, all weights taken "
        "together: 1 the same way, 0 at right angles, -1 the opposite way."
    )
    return Drawing(name, None, title, caption, files, section="geometry")


def layer_order(layers: Sequence[str]) -> list[str]:
    """Order layers as states pass them: embeddings, numbered layers, what comes behind."""

    def key(layer: str) -> tuple[int, list[tuple[int, str]]]:
        parts = [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", layer)]
        is_first = any(word in layer for word in ("emb", "wte", "wpe", "conv1", "bn1"))
        return (1 if re.search(r"\.\d+$", layer) else 0 if is_first else 2), parts

    return sorted(layers, key=key)


def _layers(study: Study, rows: Rows) -> list[Drawing]:
    """Draw how far each layer has moved, and along how many directions: a row a forget set."""
    updates = {(r["first_id"], r["layer"]): r for r in rows if r["kind"] == "update" and r["layer"]}
    layers = layer_order(sorted({layer for _, layer in updates}))
    models = directions_of(study, rows)
    if len(layers) < 2:
        return []
    heads = unique(label.split("/")[0] for found in models.values() for _, label in found)
    tails = unique(label.partition("/")[2] for found in models.values() for _, label in found)
    colors = {head: PALETTE[n % len(PALETTE)] for n, head in enumerate(heads)}
    lines = {tail: LINES[n % len(LINES)] for n, tail in enumerate(tails)}

    def panel(found: Sequence[tuple[str, str]], what: str) -> Callable[[Axes], None]:
        def draw(ax: Axes) -> None:
            for key, label in found:
                here = [updates[key, layer] for layer in layers]
                values = [_of_update(row, what) for row in here]
                head, _, tail = label.partition("/")
                ax.plot(range(len(layers)), values, color=colors[head], ls=lines[tail], lw=1.1,
                        marker="o", ms=2.4)  # fmt: skip
            _name_layers(ax, layers)
            if what == "norm":
                set_log(ax)
                ax.set_ylabel("‖update‖ / ‖original‖, log", labelpad=2)
            else:
                ax.set_ylabel("effective rank", labelpad=2)

        return draw

    titles = {"norm": "how far", "effective_rank": "along how many directions"}
    panels = [
        Panel(f"{size}: {titles[what]}", panel(found, what))
        for size, found in models.items()
        for what in titles
    ]
    caption = (
        "Each layer's update, theta - theta_o, relative to the original's weights there, and its "
        "effective rank: (sum of squares)² over sum of fourth powers of its singular values, the "
        "mean over the layer's matrices."
    )
    sheet = Sheet("update_layers", "Updates by layer", caption, 2, 3.1, 1.7, 0.78,
                  section="geometry")  # fmt: skip
    handles = [Line2D([], [], color=color, label=head) for head, color in colors.items()]
    handles += [Line2D([], [], color="#6b7480", ls=line, label=tail)
                for tail, line in lines.items() if tail]  # fmt: skip
    return draw_sheets(sheet, panels, handles)


def _of_update(row: Mapping[str, Any], what: str) -> float:
    if what == "norm":
        ratio = row["norm"] / row["original_norm"] if row["original_norm"] else 0.0
        return ratio if ratio > 0 else float("nan")
    return float("nan") if row[what] is None else float(row[what])


def _name_layers(ax: Axes, layers: Sequence[str]) -> None:
    """Name layers by their numbers, or by the last word of their names; some of them if many."""
    names = [layer.rpartition(".")[2] for layer in layers]
    step = -(-len(layers) // 12)
    shown = [n for n, name in enumerate(names) if not name.isdigit() or n % step == 0]
    ax.set_xticks(shown, [names[n][:14] for n in shown])
    for label in ax.get_xticklabels():
        if not label.get_text().isdigit():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def curve_geometry(study: Study, rows: Rows) -> Table | None:
    """Lay out the length of every curve, its bend's distance and both averages of its losses."""
    found = {row["curve_id"]: row for row in rows if row["kind"] == "curve"}
    columns = (
        *(Column(head) for head in ("setting", "forget set", "pair", "curve")),
        Column("length", True, "Of the curve, in weight space"),
        Column("chord", True, "Distance of its ends"),
        Column("length / chord", True),
        Column("bend from chord", True, "Distance of its farthest bend from the chord's line"),
        *(
            Column(f"{side} loss over {along}", True, f"Mean along the curve over {meaning}")
            for side in ("forget", "retain")
            for along, meaning in (("t", "t"), ("length", "the length passed"))
        ),
    )
    lines = []
    for curve in study.curves:
        if (row := found.get(curve.curve_id)) is not None:
            ratio = row["length"] / row["chord"] if row["chord"] else None
            values = [row["length"], row["chord"], ratio, row["bend_distance"]]
            values += [row[f"{side}_loss_{along}"] for side in ("forget", "retain")
                       for along in ("uniform", "arc_length")]  # fmt: skip
            words = (curve.setting, curve.forget_size, curve.pair, curve.family)
            cells = [Cell(number(v), "" if v is None else v) for v in values]
            lines.append(Row((*map(Cell, words), *cells)))
    return Table("curve_geometry", columns, tuple(lines)) if lines else None
