"""The plan's counts and estimates in words."""

from collections.abc import Mapping
from typing import Any


def cost_rows(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the plan's counts and estimates as (what, how much)."""
    counts, estimates = plan["counts"], plan["estimates"]
    naive, unique = counts["endpoints"]["naive"], counts["endpoints"]["unique"]
    rows = []
    if counts["curves"]:
        rows = [
            ("endpoint trainings, one pair at a time", f"{naive}"),
            ("endpoint trainings, each model once", f"{unique}{_saving(naive, unique)}"),
            ("bends of curves", f"{counts['bends']}"),
            ("pairs", f"{counts['pairs']}"),
            ("curves", f"{counts['curves']}"),
        ]
    if counts.get("walks"):  # a plan of before there were any says nothing of them
        rows.append(("walks", f"{counts['walks']}"))
    rows += [
        ("trainings in all", f"{counts['trainings']['unique']}"),
        ("points", f"{counts['points']}"),
    ]
    for key, name, unit in (
        ("train_flops", "training, estimated", "FLOP"),
        ("measure_flops", "measuring, estimated", "FLOP"),
        ("memory_gib", "memory, estimated", "GiB"),
        ("disk_gib", "disk, estimated", "GiB"),
    ):
        if estimates.get(key) is not None:
            rows.append((name, f"{quantity(estimates[key])} {unit}"))
    return rows


def _saving(naive: int, unique: int) -> str:
    return f" ({naive / unique:.1f} times fewer)" if unique and naive > unique else ""


def quantity(value: float) -> str:
    """Write a large or small amount with three digits."""
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa} × 10^{int(exponent)}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
