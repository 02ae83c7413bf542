"""What is told of weights: matrices of cosines, updates by layer, lengths of curves, planes."""

import numpy as np
import pytest

from raymcu.report.data import load_study
from raymcu.report.geometry import (
    cosine_matrices,
    curve_geometry,
    directions_of,
    geometry_drawings,
    layer_order,
)
from raymcu.report.page import Told, _sources, render_page
from raymcu.report.surface_figures import grid_of, levels_of, surface_drawings
from raymcu.store import tables

LAYERS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm")


def written(run):
    """Give a run a table of geometry, and its curves lengths; return the rows."""
    rows = []
    plan = run.plan
    moved = [r for r in plan["recipes"] if r["role"] in ("unlearner", "retrained")]
    for place, recipe in enumerate(moved):
        common = {"kind": "update", "first_id": recipe["id"], "first": recipe["label"]}
        rows.append({**common, "norm": 2.0, "original_norm": 10.0, "num_weights": 100})
        rows += [
            {**common, "layer": layer, "norm": 0.0 if layer == "model.norm" else 1.0 + n,
             "original_norm": 5.0, "effective_rank": None if layer == "model.norm" else 3.0}
            for n, layer in enumerate(LAYERS)
        ]  # fmt: skip
        rows += [
            {"kind": "pair", "first_id": recipe["id"], "second_id": other["id"], "cosine": 0.5}
            for other in moved[:place]
        ]
    rows += [
        {"kind": "curve", "curve_id": curve["id"], "length": 3.0, "chord": 2.0,
         "bend_distance": None if curve["family"] == "linear" else 1.0,
         "forget_loss_uniform": 1.5, "forget_loss_arc_length": 1.25}
        for curve in plan["curves"]
    ]  # fmt: skip
    run.write_part("geometry", "all", tables.from_rows("geometry", rows))
    return run.read_table("geometry").to_pylist()


def plane(run):
    """Give a run a plane of nine points, one of which failed, and a line through it."""
    plan = run.plan
    grid = [(a, b) for b in (0.0, 0.5, 1.0) for a in (0.0, 0.5, 1.0)]
    points = [{"a": a, "b": b, "point_id": f"p{n}"} for n, (a, b) in enumerate(grid)]
    corners = ["original", "npo/seed0", "bend(npo/seed0, npo/seed1)"]
    told = {"label": "mine", "forget_size": "forget01", "corners": corners,
            "corner_ids": ["x", "y", "z"], "points": points}  # fmt: skip
    run.write_json("plan.json", {**plan, "surfaces": [told]})
    common = {"surface": "mine", "forget_size": "forget01"}
    rows = [
        {**common, "a": a, "b": b, "x": 2 * a + b, "y": 3 * b, "point_id": f"p{n}",
         "forget_loss": None if n == 4 else 1.0 + a, "retain_loss": 10.0 ** (a + b)}
        for n, (a, b) in enumerate(grid)
    ]  # fmt: skip
    line = {**common, "line": "linear: a ↔ b", "b": 0.0, "y": 0.0}
    rows += [{**line, "a": a, "x": 2 * a, "forget_loss": 1.0} for a in (0.0, 0.25, 1.0)]
    run.write_part("surfaces", "all", tables.from_rows("surfaces", rows))
    return run.read_table("surfaces").to_pylist()


def test_each_forget_set_has_its_own_directions_method_by_method(half_run):
    study, rows = load_study(half_run), written(half_run)
    found = directions_of(study, rows)
    assert list(found) == ["forget01", "forget05"]
    assert [label for _, label in found["forget01"]] == [
        "retrained", "grad_diff/seed0", "grad_diff/seed1", "npo/seed0", "npo/seed1", "rmu/seed0",
        "rmu/seed1",
    ]  # fmt: skip
    size, labels, values = cosine_matrices(study, rows)[1]
    assert (size, len(labels), values.shape) == ("forget05", 7, (7, 7))
    assert np.diag(values).tolist() == [1.0] * 7
    assert (values == values.T).all()
    assert set(values[0, 1:]) == {0.5}


def test_layers_stand_as_states_pass_them():
    mixed = ["lm_head", "model.layers.10", "model.layers.2", "model.norm", "model.embed_tokens"]
    assert layer_order(mixed) == [
        "model.embed_tokens", "model.layers.2", "model.layers.10", "lm_head", "model.norm",
    ]  # fmt: skip
    assert layer_order(["fc", "layer2.0", "layer1.1", "conv1"]) == [
        "conv1", "layer1.1", "layer2.0", "fc",
    ]  # fmt: skip


def test_figures_and_the_table_are_on_the_page_and_drawn_anew_when_the_tables_change(half_run):
    before = _sources(half_run)
    rows = written(half_run)
    assert _sources(half_run) != before
    planes = plane(half_run)
    study = load_study(half_run)
    drawn = [*geometry_drawings(study, rows), *surface_drawings(study.plan, planes)]
    assert [drawing.name for drawing in drawn] == [
        "cosines_forget01", "cosines_forget05", "update_layers", "surface_mine_forget01",
    ]  # fmt: skip
    table = curve_geometry(study, rows)
    assert len(table.rows) == len(study.curves)
    cells = dict(zip((c.head for c in table.columns), table.rows[0].cells, strict=True))
    assert cells["length / chord"].value == 1.5
    assert cells["bend from chord"].text == "–"
    assert cells["forget loss over length"].value == pytest.approx(1.25)
    page = render_page(Told(half_run, study, None, drawn, {}))
    for told in ("Geometry of weights", "Length of curves", "cosines_forget05", "surface_mine"):
        assert told in page


def test_without_geometry_nothing_is_told_of_it(finished_run):
    told = Told(finished_run, load_study(finished_run), None, [], {})
    assert "Geometry of weights" not in render_page(told)


def test_a_grid_is_put_together_and_losses_that_differ_much_are_on_a_logarithm(half_run):
    rows = plane(half_run)
    assert grid_of(rows, "x").tolist() == [[0, 1, 2], [0.5, 1.5, 2.5], [1, 2, 3]]
    assert np.isnan(grid_of(rows, "forget_loss")).sum() == 1
    levels, _ = levels_of(grid_of(rows, "retain_loss"))
    assert np.allclose(np.diff(np.log(levels)), np.log(100) / 10)
    levels, _ = levels_of(grid_of(rows, "forget_loss"))
    assert levels == pytest.approx(np.linspace(1, 2, 11))
    assert len(levels_of(np.full((3, 3), 2.0))[0]) == 11  # equal everywhere: no crash
