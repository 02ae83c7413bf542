"""Scores of every single checkpoint side by side: the first table a reader looks for."""

from typing import Any

import pyarrow as pa

_COLUMNS = ("point_id", "role", "label", "forget_size")
_ROLES = ("original", "retrained", "unlearner")


def summarize_endpoints(points: pa.Table, scores: pa.Table) -> pa.Table:
    """Return one row per measured checkpoint: the single ones, and the ends of curves.

    Args:
        points: Table ``points``. A row without a curve is a single checkpoint; one at t = 0 or 1
            of a curve is the unlearner that the curve names ``first`` or ``second``.
        scores: Table ``scores`` of these points.

    Returns:
        Columns ``point_id``, ``role``, ``label``, ``forget_size``, then one float64 column per
        metric in ``scores``, by name, null where undefined. Ordered by forget size, role
        (original, retrained, unlearner, others) and label; a checkpoint at the end of many curves
        has one row.
    """
    metrics = sorted(scores["metric"].cast(pa.string()).unique().to_pylist())
    values = {
        (row["point_id"], row["metric"]): row["value"]
        for row in scores.select(["point_id", "metric", "value"]).to_pylist()
    }
    scored = {point_id for point_id, _ in values}
    rows = [row for row in _checkpoints(points) if row["point_id"] in scored]
    for row in rows:
        row.update({name: values.get((row["point_id"], name)) for name in metrics})
    schema = pa.schema(
        [(name, pa.string()) for name in _COLUMNS] + [(name, pa.float64()) for name in metrics]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _checkpoints(points: pa.Table) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    # Single checkpoints come last: their own role stands if a curve ends there too.
    rows = sorted(points.to_pylist(), key=lambda row: row["curve_id"] is None)
    for row in rows:
        if row["curve_id"] is None:
            role, label = row["role"], row["first"] or row["role"]
        elif row["t"] in (0.0, 1.0):
            role, label = "unlearner", row["first"] if row["t"] == 0.0 else row["second"]
        else:
            continue
        head = (row["point_id"], role, label, row["forget_size"])
        found[row["point_id"]] = dict(zip(_COLUMNS, head, strict=True))
    return sorted(found.values(), key=_sort_key)


def _sort_key(row: dict[str, Any]) -> tuple[str, int, str, str]:
    rank = _ROLES.index(row["role"]) if row["role"] in _ROLES else len(_ROLES)
    return row["forget_size"] or "", rank, row["label"] or "", row["point_id"]
