"""Curves whose losses are connected while another metric varies along them (MCU section 5.3)."""

from collections.abc import Mapping
from typing import Any

from raymcu.report.console import number
from raymcu.report.data import Study, metric_info
from raymcu.report.panels import BARRIER_METRICS, OTHER_SCALE
from raymcu.report.tabular import Cell, Column, Row, Table

MOST = 20
"""Curves that the page tells of; table ``metric_findings`` has all."""
LEAST = 0.25
"""Less of what single models span is no fragmentation to tell of."""


def fragmented(study: Study) -> list[Mapping[str, Any]]:
    """Return rows of table ``metric_findings``, most fragmented first: one for each curve.

    Losses, whose barriers are judged, and other scales of the same metric are passed over.
    """
    worst: dict[str, Mapping[str, Any]] = {}
    for row in study.metric_findings:
        is_other = row["metric"] in BARRIER_METRICS or OTHER_SCALE.search(row["metric"])
        size = row["fragmentation"]
        if is_other or size is None or size < LEAST:
            continue
        known = worst.get(row["curve_id"])
        if known is None or size > known["fragmentation"]:
            worst[row["curve_id"]] = row
    return sorted(worst.values(), key=lambda row: -row["fragmentation"])


def fragmented_table(study: Study) -> Table | None:
    """Lay the most fragmented curves out; None if there are none."""
    curves = {curve.curve_id: curve for curve in study.curves}
    rows = [row for row in fragmented(study) if row["curve_id"] in curves][:MOST]
    if not rows:
        return None
    columns = (
        *map(Column, ("setting", "forget set", "pair", "curve", "metric")),
        Column("fragmentation", True, "Spread in units of what the single models span."),
        *(Column(head, True) for head in ("lowest", "highest", "t = 0", "t = 1")),
        Column("off its chord", True, "Barrier: how much worse than its ends promise."),
    )
    made = []
    for row in rows:
        curve = curves[row["curve_id"]]
        numbers = (row[key] for key in ("minimum", "maximum", "at_first", "at_second", "barrier"))
        cells = (
            *map(Cell, (curve.setting, curve.forget_size, curve.pair, curve.family)),
            Cell(metric_info(row["metric"]).label, more={"name": row["metric"]}),
            Cell(f"{row['fragmentation']:.2f}", row["fragmentation"]),
            *(Cell(number(value), "" if value is None else value) for value in numbers),
        )
        made.append(Row(cells))
    return Table("fragmented", columns, tuple(made))
