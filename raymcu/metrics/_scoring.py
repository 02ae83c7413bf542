"""Scores one point: its measurements in, one row of table ``scores`` per metric out."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from raymcu.metrics._base import METRICS, Measured, References, Score
from raymcu.metrics._samples import samples_of, samples_table
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

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
    return _scores(point_id, Measured(measurements, others), references)


def keep_scores(
    run: RunFolder,
    point_id: str,
    point: Measured,
    references: References | None = None,
    *,
    with_samples: bool,
) -> None:
    """Write a point's part of table ``scores``, see `score_point`, the last of what is kept of it.

    Args:
        run: Where it is kept.
        point_id: The point.
        point: What was measured of it.
        references: The reference models of its forget set.
        with_samples: Whether what each question comes to is kept, too: table ``samples``. In a
            bucket it is not, where each file is paid for; there answers are read once more.

    Raises:
        ConfigError: If a reference model was measured on other questions.
    """
    scores = _scores(point_id, point, references)
    if with_samples and run.is_local:
        run.write_part("samples", point_id, samples_table(point_id, samples_of(point)))
    run.write_part("scores", point_id, scores)


def _scores(point_id: str, point: Measured, references: References | None) -> pa.Table:
    rows = [
        _row(point_id, entry.name, entry.component.score(point, references))
        for entry in METRICS
        if entry.component.is_measured(point)
    ]
    table = tables.from_rows("scores", rows)
    tried = {_TRIED: known_metrics()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **tried})


def is_whole(notes: Mapping[bytes, bytes], known: bytes) -> bool:
    """Say whether every metric that is known was tried on a point's measurements.

    Not so where a newer raymcu or an extension knows more, nor in folders that do not say it.

    Args:
        notes: Metadata of the point's part of table ``scores``.
        known: Which there are, see `known_metrics`.
    """
    return notes.get(_TRIED) == known


def known_metrics() -> bytes:
    """Return a hash of the names of all metrics there are now."""
    names = [entry.name for entry in METRICS]
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:16].encode()


def _row(point_id: str, name: str, score: Score) -> dict[str, Any]:
    return {
        "point_id": point_id,
        "metric": name,
        "value": score.value,
        "num_examples": score.num_examples,
        "note": score.note,
    }
