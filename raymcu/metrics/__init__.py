"""Metrics, one family per file: measurements in, scores out.

What a component of your own is made of is imported from here.
"""

from raymcu.metrics._base import (
    METRICS,
    Measured,
    Rows,
    Score,
    metric,
    metric_of_probes,
    shared,
)

__all__ = [
    "METRICS",
    "Measured",
    "Rows",
    "Score",
    "metric",
    "metric_of_probes",
    "shared",
]
