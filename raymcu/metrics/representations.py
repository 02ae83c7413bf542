"""How alike a model's hidden states are to the original's and the retrained model's (CKA).

A score is the mean over layers, the final states included, of the debiased linear CKA of table
``representations``: in [-1, 1], 1 for equal states whatever rotation and scale, near 0 for
unrelated ones. The plain CKA beside it is inflated where few states of many features are compared.
"""

import numpy as np

from raymcu.metrics._base import KEPT, Better, Measured, Score, metric_of_probes

_SOURCE = (
    "Kornblith et al. 2019 (arXiv:1905.00414); debiased: Nguyen et al. 2021 (arXiv:2010.15327)"
)
_TO_ORIGINAL: dict[str, Better] = {"forget": "neither", "retain": KEPT}
_TO_RETRAINED: dict[str, Better] = {"forget": "higher", "retain": "higher"}


@metric_of_probes(
    "{probe}_cka_original",
    _TO_ORIGINAL,
    span=(-1.0, 1.0),
    unit="similarity",
    source=_SOURCE,
    kind="representations",
)
def cka_original(point: Measured, probe: str) -> Score:
    """Likeness of the states of {probe} answers to the original model's."""
    return _mean_over_layers(point, probe, "original")


@metric_of_probes(
    "{probe}_cka_retrained",
    _TO_RETRAINED,
    span=(-1.0, 1.0),
    unit="similarity",
    source=_SOURCE,
    kind="representations",
)
def cka_retrained(point: Measured, probe: str) -> Score:
    """Likeness of the states of {probe} answers to the retrained model's; higher = nearer to it."""
    return _mean_over_layers(point, probe, "retrained")


def _mean_over_layers(point: Measured, probe: str, against: str) -> Score:
    rows = [
        row
        for row in point.other("representations").to_pylist()
        if (row["probe"], row["against"]) == (probe, against)
    ]
    if not rows:
        return Score(None, 0, f"no states of the {against} model were compared with")
    there = {row["layer"]: row["cka_debiased"] for row in rows if row["cka_debiased"] is not None}
    missing = [row for row in rows if row["cka_debiased"] is None]
    notes = [f"layer {row['layer']} has no value: {row['note']}" for row in missing]
    if not there:
        return Score(None, 0, "; ".join(notes))
    lowest = min(there, key=lambda layer: (there[layer], layer))
    notes.insert(0, f"lowest in layer {lowest}: {there[lowest]:.3f}")
    return Score(float(np.mean(list(there.values()))), rows[0]["num_states"], "; ".join(notes))
