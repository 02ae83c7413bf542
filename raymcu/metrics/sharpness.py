"""How sharply a probe's loss bends around a point: table ``sharpness``, as scores.

The Hessian is that of the mean NLL per answer token, or per input, over all weights.
"""

import math

from raymcu.metrics._base import Better, Measured, Score, metric_of_probes

_SPAN = (-math.inf, math.inf)
_PROBES: dict[str, Better] = {"forget": "lower", "retain": "lower"}


@metric_of_probes(
    "{probe}_top_eigenvalue",
    _PROBES,
    span=_SPAN,
    unit="nats per squared weight",
    source="Lanczos (ARPACK); as curvature: Ghorbani et al. 2019, arXiv:1901.10159",
    kind="sharpness",
)
def top_eigenvalue(point: Measured, probe: str) -> Score:
    """Largest eigenvalue of the Hessian of the {probe} loss; lower = flatter."""
    return _of(point, probe, "top_eigenvalue")


@metric_of_probes(
    "{probe}_hessian_trace",
    _PROBES,
    span=_SPAN,
    unit="nats per squared weight",
    source="Hutchinson 1990; Yao et al. 2020, arXiv:1912.07145",
    kind="sharpness",
)
def hessian_trace(point: Measured, probe: str) -> Score:
    """Trace of the Hessian of the {probe} loss; lower = flatter."""
    return _of(point, probe, "trace")


def _of(point: Measured, probe: str, column: str) -> Score:
    rows = (row for row in point.other("sharpness").to_pylist() if row["probe"] == probe)
    if (row := next(rows, None)) is None:
        return Score(None, 0, "its sharpness was not measured")
    if row[column] is None:
        return Score(None, row["num_examples"], row["note"])
    is_known = column == "trace" and row["trace_error"] is not None
    note = f"standard error {row['trace_error']:.3g}" if is_known else None
    return Score(row[column], row["num_examples"], note)
