"""What attacks that look inside a model read there: table ``readings``.

They have a value at the points of such an attack alone. The original's and the retrained model's
values are at their own points: what is read of the retrained model is what wording gives away.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raymcu.metrics._base import FORGOTTEN, READINGS, Measured, Score, metric

_AUC = "Azaria and Mitchell 2023 (arXiv:2304.13734), Hewitt and Liang 2019 (arXiv:1909.03368)"
_SOFT = "Schwinn et al. 2024 (arXiv:2402.09063), with the control of arXiv:2502.15836"


@metric(
    "linear_probe_forget",
    better=FORGOTTEN,
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_AUC,
    kind=f"{READINGS}linear_probe",
)
def linear_probe_forget(point: Measured) -> Score:
    """How well a linear probe tells forgotten facts' true answers; 1/2 = by chance.

    Mean over facts of the share of wrong answers that look less true than the true one, in the
    layer that tells the retain probe's facts best, cross-validated.
    """
    return _in_best_layer(point, "linear_probe")


@metric(
    "knn_forget",
    better=FORGOTTEN,
    span=(0.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source="Khandelwal et al. 2020 (arXiv:1911.00172), neighbours among states",
    kind=f"{READINGS}knn",
)
def knn_forget(point: Measured) -> Score:
    """How well nearest neighbours tell forgotten facts' true answers; 1/2 = by chance.

    Of the layer chosen as for ``linear_probe_forget``.
    """
    return _in_best_layer(point, "knn")


@metric(
    "soft_prompt_forget",
    better=FORGOTTEN,
    span=(-1.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=_SOFT,
    kind=f"{READINGS}soft_prompt",
)
def soft_prompt_forget(point: Measured) -> Score:
    """Share of answers that soft tokens make the model give, less that of the control's texts.

    A universal prompt has no control, and nothing is taken away.
    """
    return _above_control(point, "soft_prompt")


@metric(
    "soft_prompt_area_forget",
    better=FORGOTTEN,
    span=(-1.0, 1.0),
    unit="fraction",
    probes=("forget",),
    source=f"{_SOFT}; the area is raymcu's",
    kind=f"{READINGS}soft_prompt_area",
)
def soft_prompt_area_forget(point: Measured) -> Score:
    """How soon soft tokens do it: area under that share over the steps, less the control's.

    1 if all answers are given before the first step, 0 if none is given. It tells models apart of
    which ``soft_prompt_forget`` gets all.
    """
    return _above_control(point, "soft_prompt_area")


def _above_control(point: Measured, name: str) -> Score:
    rows = _rows(point, name, "forget")
    value, control = _mean(rows, "value"), _mean(rows, "control")
    if value is None:
        return Score(None, 0, "one prompt for all is tried after the last step only")
    note = f"{value:.3f} of the answers, "
    note += "no control" if control is None else f"{control:.3f} of the control's texts"
    return Score(value - (control or 0.0), len(rows), note)


def _in_best_layer(point: Measured, name: str) -> Score:
    """Average over the forget probe in the layer that is best on the retain probe."""
    chosen = max(
        _rows(point, name, "retain"), key=lambda row: (row["value"], -row["layer"]), default=None
    )
    if chosen is None:
        return Score(None, 0, "no layer was read on the retain probe")
    layer = chosen["layer"]
    rows = [row for row in _rows(point, name, "forget") if row["layer"] == layer]
    if not rows:
        return Score(None, 0, f"layer {layer} was not read on the forget probe")
    note = f"layer {layer}, which has {chosen['value']:.3f} on retain"
    note += f"; control {_mean(rows, 'control'):.3f}"
    return Score(_mean(rows, "value"), len(rows), note)


def _rows(point: Measured, name: str, probe: str) -> list[dict[str, Any]]:
    rows = point.other("readings").to_pylist()
    return [row for row in rows if (row["name"], row["probe"]) == (name, probe)]


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    there = [row[column] for row in rows if row[column] is not None]
    return float(np.mean(there)) if there else None
