"""Geometry of whole models and of curves, from what each layer's weights said of all pairs.

A curve is a combination of its control points with coefficients that sum to 1, so its length is a
matter of their inner products alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymcu.analysis.curves import values_of
from raymcu.curves._base import CURVES
from raymcu.curves._length import Coefficients, bend_distance, lengths
from raymcu.planning.geometry import NUM_LAYERS, WHOLE, is_asked
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

Reals = npt.NDArray[np.float64]
_LOSSES = ("forget_loss", "retain_loss")


class Products:
    """Inner products of the directions from the original to each checkpoint.

    Args:
        table: Rows of table ``geometry`` of all layers.
    """

    def __init__(self, table: pa.Table) -> None:
        self._of: dict[tuple[str, str], float] = {}
        for row in table.select(["first_id", "second_id", "norm", "inner_product"]).to_pylist():
            one, other = row["first_id"], row["second_id"] or row["first_id"]
            value = row["norm"] ** 2 if row["second_id"] is None else row["inner_product"]
            for pair in {(one, other), (other, one)}:
                self._of[pair] = self._of.get(pair, 0.0) + value
        self.known = {one for one, _ in self._of}

    def around_first(self, checkpoints: Sequence[str], original: str) -> Reals | None:
        """Return inner products of what leads from the first checkpoint to each: (n, n).

        None if one of them was not read. The original is where all directions begin.
        """
        if not self.known.issuperset({*checkpoints} - {original}):
            return None
        of = [[self._of.get((one, two), 0.0) for two in checkpoints] for one in checkpoints]
        products = np.array(of)
        found: Reals = products - products[:1] - products[:, :1] + products[0, 0]
        return found


def mean_along(passed: Sequence[float] | Reals, values: Sequence[float]) -> float | None:
    """Return the mean of values along a way, between them along straight lines.

    Args:
        passed: How far each is, ascending from 0; None is returned if all are at 0.
        values: One for each.
    """
    way = np.asarray(passed)
    if not way[-1] > 0:
        return None
    middles = np.convolve(values, [0.5, 0.5], "valid")
    return float(np.diff(way) @ middles / way[-1])


def keep_geometry(run: RunFolder, space: SearchSpace) -> None:
    """Write rows of whole models and of curves into table ``geometry``, once all layers are read.

    Raises:
        StoreError: If a part of the table is damaged.
    """
    layers = read_layers(run) if is_asked(space) else None
    if layers is not None:
        rows = [*_models(layers), *_curves(run, space, Products(layers))]
        run.write_part("geometry", WHOLE, tables.from_rows("geometry", rows))


def read_layers(run: RunFolder) -> pa.Table | None:
    """Return the rows of all layers; None while some are not there."""
    parts = [run.read_part("geometry", p) for p in run.parts("geometry") if p != WHOLE]
    if not parts or len(parts) < int(parts[0].schema.metadata[NUM_LAYERS]):
        return None
    return pa.concat_tables(parts).unify_dictionaries()


def _models(layers: pa.Table) -> list[dict[str, Any]]:
    """Add up the rows of layers, checkpoint by checkpoint and pair by pair."""
    plain = layers
    for name in ("first_id", "second_id", "first", "second", "kind"):
        place = plain.schema.get_field_index(name)
        plain = plain.set_column(place, name, plain[name].cast(pa.string()))
    for name in ("norm", "original_norm"):
        plain = plain.append_column(f"{name}_2", pc.multiply(plain[name], plain[name]))
    added = ("num_weights", "num_moved", "num_agreeing", "inner_product", "norm_2",
             "original_norm_2")  # fmt: skip
    keys = ["kind", "first_id", "first", "second_id", "second"]
    sums = plain.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in added])
    found = sums.to_pylist()
    norms = {row["first_id"]: row["norm_2_sum"] ** 0.5 for row in found if row["kind"] == "update"}
    rows = []
    for row in found:
        common = {name: row[name] for name in keys}
        common |= {name: row[f"{name}_sum"] for name in ("num_weights", "num_moved")}
        if row["kind"] == "update":
            rows.append(
                {**common, "norm": norms[row["first_id"]],
                 "original_norm": row["original_norm_2_sum"] ** 0.5,
                 "changed": row["num_moved_sum"] / row["num_weights_sum"]}
            )  # fmt: skip
            continue
        size, product = norms[row["first_id"]] * norms[row["second_id"]], row["inner_product_sum"]
        moved, agreeing = row["num_moved_sum"], row["num_agreeing_sum"]
        rows.append(
            {**common, "inner_product": product, "num_agreeing": agreeing,
             "cosine": product / size if size else None,
             "sign_agreement": agreeing / moved if moved else None}
        )  # fmt: skip
    return rows


def _curves(run: RunFolder, space: SearchSpace, products: Products) -> list[dict[str, Any]]:
    plan = run.plan
    original = next(row["id"] for row in plan["recipes"] if row["role"] == "original")
    families = {use.title: CURVES[use.name](**use.options) for use in space.curves.families}
    walked: dict[str, list[tuple[float, str]]] = {}
    for row in plan["curve_points"]:
        walked.setdefault(row["curve_id"], []).append((row["t"], row["point_id"]))
    losses = losses_of(run)
    rows = []
    for curve in plan["curves"]:
        controls = [curve["first_id"], *curve["bend_ids"], curve["second_id"]]
        around = products.around_first(controls, original)
        if around is None or curve["family"] not in families:
            continue
        coefficients = families[curve["family"]].coefficients
        rows.append(
            {"kind": "curve", "curve_id": curve["id"], "family": curve["family"],
             "first": curve["first"], "second": curve["second"], "first_id": controls[0],
             "second_id": controls[-1], "chord": float(around[-1, -1].clip(0) ** 0.5),
             "length": float(lengths(coefficients, around, [1.0])[0]),
             "bend_distance": bend_distance(around),
             **_means(coefficients, around, sorted(walked[curve["id"]]), losses)}
        )  # fmt: skip
    return rows


def losses_of(run: RunFolder) -> Mapping[str, Mapping[str, float]]:
    """Return by point its forget and retain loss, where it has them."""
    scores = run.read_table("scores")
    scores = scores.filter(pc.is_in(scores["metric"].cast(pa.string()), pa.array(_LOSSES)))
    return values_of(scores)


def _means(
    coefficients: Coefficients,
    products: Reals,
    walk: Sequence[tuple[float, str]],
    losses: Mapping[str, Mapping[str, float]],
) -> dict[str, float | None]:
    """Return both averages of both losses, of a curve whose ends were measured."""
    found: dict[str, float | None] = {}
    for metric in _LOSSES:
        here = [(t, losses[p][metric]) for t, p in walk if metric in losses.get(p, {})]
        ts, values = [t for t, _ in here], [value for _, value in here]
        if ts and (ts[0], ts[-1]) == (0, 1):
            found[f"{metric}_uniform"] = mean_along(ts, values)
            passed = lengths(coefficients, products, ts)
            found[f"{metric}_arc_length"] = mean_along(passed, values)
    return found
