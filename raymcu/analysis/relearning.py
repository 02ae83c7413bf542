"""Along strengths: how soon what was forgotten comes back, and how soon it is learned anew.

For attacks whose strength 0 is the point itself, relearning above all: recovered is 0 there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.recoveries import by_line
from raymcu.store import tables

THRESHOLD = 0.5
"""Share of what was taken away that counts as having come back."""


def area(strengths: Sequence[float], recovered: Sequence[float]) -> float:
    """Return the mean of recovered over strengths from 0 to the last, by trapezoids.

    Args:
        strengths: Positive, ascending; 0, where nothing is recovered, goes without saying.
        recovered: At each.
    """
    x = np.array([0.0, *strengths])
    y = np.array([0.0, *recovered])
    return float(np.trapezoid(y, x) / x[-1])


def first_past(
    strengths: Sequence[float], recovered: Sequence[float], threshold: float = THRESHOLD
) -> float | None:
    """Return the first strength at which recovered is at least the threshold; None if none is."""
    pairs = zip(strengths, recovered, strict=True)
    return next((strength for strength, value in pairs if value >= threshold), None)


def relearning_curves(
    recoveries: pa.Table, from_zero: Collection[str], retrained: Mapping[str, str]
) -> pa.Table:
    """Summarise every attacked point over the strengths of each attack.

    Args:
        recoveries: The table of that name.
        from_zero: Titles of the attacks whose strength 0 is the point itself.
        retrained: By forget set, the id of the retrained model before any attack.

    Returns:
        Table ``relearning_curves``: of every point, attack, metric and part with a value.
    """
    lines = {
        key: found
        for key, rows in by_line(recoveries.to_pylist()).items()
        if key[0] in from_zero and (found := _of_line(rows))
    }
    rows = []
    for (attack, attacked, metric, part), one in lines.items():
        anew = lines.get((attack, retrained.get(one["forget_size"], ""), metric, part), {})
        rows.append({
            **one,
            "attack": attack,
            "attacked": attacked,
            "metric": metric,
            "part": part,
            "threshold": THRESHOLD,
            "retrained_area": anew.get("area"),
            "retrained_steps_to": anew.get("steps_to"),
            "excess": one["area"] - anew["area"] if anew else None,
        })  # fmt: skip
    return tables.from_rows("relearning_curves", rows)


def _of_line(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [row for row in rows if row["recovered"] is not None and (row["strength"] or 0.0) > 0]
    if not known:
        return {}
    strengths = [row["strength"] for row in known]
    recovered = [row["recovered"] for row in known]
    return {
        "forget_size": known[0]["forget_size"],
        "label": known[0]["label"],
        "num_strengths": len(known),
        "longest": strengths[-1],
        "area": area(strengths, recovered),
        "steps_to": first_past(strengths, recovered),
    }
