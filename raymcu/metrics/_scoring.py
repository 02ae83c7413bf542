"""Scores one point: its measurements in, one row of table ``scores`` per metric out."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from raymcu.metrics._base import METRICS, Measured, References, Score
from raymcu.store import tables

_TRIED = b"metrics"
"""Key of the schema's metadata that says which metrics a part of table ``scores`` was tried for."""


def score_point(
    point_id: str,
    measurements: pa.Table,
    references: References | None = None,
    others: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Compute every registered metric whose probes were measured.

    Args:
        point_id: Goes into the rows.
        measurements: Rows of this point only, in any order.
        references: Measurements of the reference models of the point's forget set: the model
            retrained without it, the original, one that has learned nothing. Metrics that need one
            that is missing have a null value and a note. What metrics work out of one is kept in
            it for the next point.
        others: The point's rows of the tables ``representations`` and ``judgements``, if any.

    Returns:
        Rows of table ``scores``, by metric name. No value is NaN or infinite: it is null, and
        ``note`` says why. The table's metadata keeps which metrics there were, see ``is_whole``.

    Raises:
        ConfigError: If a reference model was measured on other questions.
    """
    point = Measured(measurements, others)
    entries = list(METRICS)
    rows = [
        _row(point_id, entry.name, entry.component.score(point, references))
        for entry in entries
        if entry.component.is_measured(point)
    ]
    table = tables.from_rows("scores", rows)
    tried = _digest([entry.name for entry in entries])
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _TRIED: tried})


def is_whole(notes: Mapping[bytes, bytes]) -> bool:
    """Say whether every metric there is now was tried on a point's measurements.

    Not so where a newer raymcu or an extension knows more, nor in folders that do not say it.

    Args:
        notes: Metadata of the point's part of table ``scores``.
    """
    return notes.get(_TRIED) == _digest([entry.name for entry in METRICS])


def _digest(names: list[str]) -> bytes:
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:16].encode()


def _row(point_id: str, name: str, score: Score) -> dict[str, Any]:
    return {
        "point_id": point_id,
        "metric": name,
        "value": score.value,
        "num_examples": score.num_examples,
        "note": score.note,
    }
