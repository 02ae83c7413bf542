"""What commands call the points that a report tells of."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from raymcu.report.data import REFERENCES, sizes_of


def export_names(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return what `raymcu export` calls each point: its label, behind its forget set if needed.

    A point without a label, or whose label other points of its forget set have too, goes by its id.
    """
    sizes = sizes_of(plan)
    found: dict[str, str] = {}
    for row in plan["points"]:
        label = row.get("label")
        is_shared = len(sizes) == 1 or row["role"] in REFERENCES
        found[row["id"]] = label if label and is_shared else f"{row['forget_size']}:{label}"
    taken = Counter(found.values())
    labels = {row["id"]: row.get("label") for row in plan["points"]}
    return {
        point: name if labels[point] and (taken[name] == 1 or name == "original") else point
        for point, name in found.items()
    }
