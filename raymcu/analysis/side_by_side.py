"""Studies side by side: what was asked of each, what matches, and what holds in all of them.

Curves match if forget set, setting, kind of curve and both ends have the same names; models if
forget set and label do. Studies of other seeds, models or benchmarks so tell whether a finding is
one of the method. A finding is a statement that each study can bear out:

- ``verdict``: a matched curve is connected; no interval.
- ``connected``: the share of connected curves of a setting and kind of curve, over all studies,
  with Wilson's 95% interval. It holds in a study where most of its curves are.
- ``better``: one method scores better than another in a metric, their seeds' means; the mean
  difference over studies and forget sets, with Student's 95% interval, null from one value.
- ``alike``: how alike two methods are in loss, likewise; it holds where it is above a half.
- ``harder``: one method's difficulty is above another's, likewise.

Studies may share models, as one that extends another does. What they say of the same curve, or to
the last digit alike of one forget set, is one value in an interval, however many studies hold it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.curves import values_of
from raymcu.metrics._base import METRICS
from raymcu.store.run_folder import RunFolder
from raymcu.study.settings import UnlearnerKey

COMPARED = (
    *("forget_loss", "retain_loss", "forget_text_loss", "retain_text_loss", "model_utility"),
    *("forget_quality_log10", "verbmem", "forget_knowmem", "retain_knowmem", "forget_rouge"),
    *("forget_accuracy", "retain_accuracy", "test_accuracy", "test_kept_accuracy", "zrf"),
)
"""Metrics in which methods are compared."""
_Z = 1.959964
_MACHINE = {"store", "execution", "extensions_folder", "description", "name"}
"""Keys that change no result."""

_TEXT, _REAL = pa.string(), pa.float64()
SCHEMAS: Mapping[str, pa.Schema] = {
    "asked": pa.schema([
        *((name, _TEXT) for name in ("key", "study", "value")), ("is_same", pa.bool_()),
    ]),
    "curves": pa.schema([
        *((name, _TEXT) for name in ("forget_size", "setting", "family")),
        *((name, _TEXT) for name in ("first", "second", "study")),
        ("retain_barrier", _REAL), ("forget_barrier", _REAL), ("is_connected", pa.bool_()),
        ("num_studies", pa.int32()), ("is_agreed", pa.bool_()),
    ]),
    "models": pa.schema([
        *((name, _TEXT) for name in ("forget_size", "role", "label", "metric", "study")),
        ("value", _REAL), ("low", _REAL), ("high", _REAL), ("num_studies", pa.int32()),
        ("is_same_point", pa.bool_()),
    ]),
    "claims": pa.schema([
        *((name, _TEXT) for name in ("kind", "statement", "unit")),
        ("holds_in", pa.int32()), ("num_studies", pa.int32()), ("num_values", pa.int32()),
        ("estimate", _REAL), ("low", _REAL), ("high", _REAL),
        ("holds_in_all", pa.bool_()), ("is_sure", pa.bool_()),
    ]),
}  # fmt: skip
"""Tables of a comparison."""


@dataclass(frozen=True)
class Side:
    """One study as a comparison reads it."""

    label: str
    space: Mapping[str, Any]
    findings: Sequence[Mapping[str, Any]]
    models: Mapping[tuple[str, str], tuple[str, str, Mapping[str, float]]]
    """By forget set and label: role, point and scores."""
    intervals: Mapping[tuple[str, str], tuple[float, float]]
    """By point and metric."""
    alike: Sequence[Mapping[str, Any]]
    hard: Sequence[Mapping[str, Any]]


def read_side(run: RunFolder, label: str) -> Side:
    """Read a study.

    Raises:
        StoreError: If a table is damaged.
    """
    points = run.read_table("points").select(["point_id", "role", "forget_size", "label"])
    values = values_of(run.read_table("scores"))
    models = {}
    for row in points.to_pylist():
        if row["role"] in ("original", "retrained", "unlearner", "model", "ensemble"):
            name = row["role"] if row["role"] in ("original", "retrained") else row["label"]
            found = values.get(row["point_id"], {})
            models[row["forget_size"], name] = (row["role"], row["point_id"], found)
    sure = {
        (row["point_id"], row["metric"]): (row["low"], row["high"])
        for row in run.read_table("intervals").to_pylist()
    }
    return Side(
        label,
        run.plan["search_space"],
        run.read_table("findings").to_pylist(),
        models,
        sure,
        run.read_table("similarities").to_pylist(),
        run.read_table("difficulties").to_pylist(),
    )


def compare(sides: Sequence[Side]) -> dict[str, pa.Table]:
    """Return the tables of a comparison by name, see `SCHEMAS`.

    Args:
        sides: Two studies or more, with labels that differ.
    """
    rows: dict[str, Iterable[dict[str, Any]]] = {
        "asked": _asked(sides),
        "curves": _matched_curves(sides),
        "models": _matched_models(sides),
        "claims": [*_verdicts(sides), *_shares(sides), *_better(sides), *_alike(sides),
                   *_harder(sides)],
    }  # fmt: skip
    return {
        name: pa.Table.from_pylist(list(found), schema=SCHEMAS[name])
        for name, found in rows.items()
    }


def flat(table: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of a search space with dots, and their values as JSON."""
    if isinstance(table, Mapping):
        for key in sorted(table):
            if prefix or key not in _MACHINE:
                yield from flat(table[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(table, list) and any(isinstance(item, Mapping) for item in table):
        for number, item in enumerate(table):
            named = item.get("label") or item.get("name") if isinstance(item, Mapping) else None
            yield from flat(item, f"{prefix}.{named or number}")
    else:
        yield prefix, json.dumps(table, ensure_ascii=False)


def _asked(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    asked = [dict(flat(side.space)) for side in sides]
    for key in sorted({key for one in asked for key in one}):
        found = [one.get(key) for one in asked]
        for side, value in zip(sides, found, strict=True):
            is_same = len(set(found)) == 1
            yield {"key": key, "study": side.label, "value": value, "is_same": is_same}


_CURVE = ("forget_size", "setting", "family", "first", "second")


def _curves(sides: Sequence[Side]) -> dict[tuple[str, ...], list[tuple[Side, Mapping[str, Any]]]]:
    found: dict[tuple[str, ...], list[tuple[Side, Mapping[str, Any]]]] = {}
    for side in sides:
        for row in side.findings:
            found.setdefault(tuple(row[name] for name in _CURVE), []).append((side, row))
    return found


def _matched_curves(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    for key, rows in _curves(sides).items():
        verdicts = {row["is_connected"] for _, row in rows}
        for side, row in rows:
            yield {
                **dict(zip(_CURVE, key, strict=True)),
                "study": side.label,
                **{n: row[n] for n in ("retain_barrier", "forget_barrier", "is_connected")},
                "num_studies": len(rows),
                "is_agreed": len(verdicts) == 1 if len(rows) > 1 else None,
            }


def _matched_models(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    keys = dict.fromkeys(key for side in sides for key in side.models)
    for size, label in keys:
        here = [side for side in sides if (size, label) in side.models]
        points = {side.models[size, label][1] for side in here}
        for metric in COMPARED:
            for side in here:
                role, point, scores = side.models[size, label]
                if metric in scores:
                    low, high = side.intervals.get((point, metric), (None, None))
                    yield {"forget_size": size, "role": role, "label": label, "metric": metric,
                           "study": side.label, "value": scores[metric], "low": low, "high": high,
                           "num_studies": len(here),
                           "is_same_point": len(points) == 1 and len(here) > 1}  # fmt: skip


def _verdicts(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    for (size, setting, family, first, second), rows in _curves(sides).items():
        judged = [row["is_connected"] for _, row in rows if row["is_connected"] is not None]
        if len(judged) > 1:
            what = f"{setting}, {size}, {family}: {first} and {second} are connected"
            yield _claim("verdict", what, "", sum(judged), len(judged), len(judged))


def _shares(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, dict[str, bool]]] = {}
    for side in sides:
        for row in side.findings:
            if row["is_connected"] is not None:
                group = groups.setdefault((row["setting"], row["family"]), {})
                group.setdefault(side.label, {})[row["curve_id"]] = row["is_connected"]
    for (setting, family), found in groups.items():
        if len(found) > 1:
            once = {
                key: verdict for verdicts in found.values() for key, verdict in verdicts.items()
            }
            every = list(once.values())
            most = sum(2 * sum(here.values()) > len(here) for here in found.values())
            low, high = wilson(sum(every), len(every))
            made = _claim("connected", f"{setting}, {family}: most curves are connected",
                          "fraction", most, len(found), len(every))  # fmt: skip
            yield made | {"estimate": sum(every) / len(every), "low": low, "high": high,
                          "is_sure": low > 0.5 or high < 0.5}  # fmt: skip


def wilson(hits: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share of ``num`` > 0."""
    share, rest = hits / num, _Z**2 / num
    middle = share + rest / 2
    half = _Z * float(np.sqrt(share * (1 - share) / num + rest / (4 * num)))
    return (middle - half) / (1 + rest), (middle + half) / (1 + rest)


def student_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean's 95% interval by Student's t; None each for fewer than two values."""
    if len(values) < 2:
        return None, None
    from scipy.stats import t as student  # here for the start of what needs no SciPy

    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    middle = float(np.mean(values))
    return middle - half, middle + half


def _better(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    """Compare methods by their seeds' means, without curricula and second-order variants."""
    means: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for side in sides:
        seeds: dict[tuple[str, str, str], list[float]] = {}
        for (size, label), (role, _, scores) in side.models.items():
            key = UnlearnerKey.read(label) if role == "unlearner" else None
            if key is not None and not key.variation.suffix:
                for metric in COMPARED:
                    if metric in scores:
                        seeds.setdefault((metric, size, key.method), []).append(scores[metric])
        for (metric, size, method), values in seeds.items():
            sign = -1.0 if METRICS[metric].better == "lower" else 1.0
            here = means.setdefault(metric, {}).setdefault((side.label, size), {})
            here[method] = sign * float(np.mean(values))
    for metric, cells in means.items():
        what = f"{{}} is better than {{}} in {metric}"
        yield from _pairs("better", what, METRICS[metric].unit, cells)


def _harder(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[tuple[str, str], dict[str, float]]] = {}
    for side in sides:
        for row in side.hard:
            if row["difficulty"] is not None and row["method"] is not None:
                group = groups.setdefault((row["setting"], row["family"]), {})
                cell = group.setdefault((side.label, row["forget_size"]), {})
                cell[row["method"]] = row["difficulty"]
    for (setting, family), cells in groups.items():
        yield from _pairs("harder", f"{setting}, {family}: {{}} is harder than {{}}", "", cells)


def _pairs(
    kind: str, what: str, unit: str, cells: Mapping[tuple[str, str], Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    """Compare each two methods by their values in cells of a study and a forget set."""
    methods = dict.fromkeys(method for cell in cells.values() for method in cell)
    for one, other in combinations(methods, 2):
        gaps = [(*key, cell[one] - cell[other]) for key, cell in cells.items()
                if one in cell and other in cell]  # fmt: skip
        if gaps and np.mean([gap for _, _, gap in gaps]) < 0:
            one, other, gaps = other, one, [(s, size, -gap) for s, size, gap in gaps]
        if len({study for study, _, _ in gaps}) > 1:
            yield _estimated(kind, what.format(one, other), unit, gaps, lambda gap: gap > 0, 0.0)


def _alike(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[tuple[str, str, float]]] = {}
    for side in sides:
        for row in side.alike:
            is_known = row["metric"] == "loss" and row["similarity"] is not None
            if is_known and row["first"] < row["second"]:  # both orders are there
                key = (row["setting"], row["family"], row["first"], row["second"])
                found = (side.label, row["forget_size"], row["similarity"])
                groups.setdefault(key, []).append(found)
    for (setting, family, first, second), values in groups.items():
        if len({study for study, _, _ in values}) > 1:
            what = f"{setting}, {family}: {first} and {second} are alike"
            yield _estimated("alike", what, "", values, lambda value: value > 0.5, 0.5)


def _estimated(
    kind: str,
    statement: str,
    unit: str,
    found: Sequence[tuple[str, str, float]],
    holds: Callable[[float], bool],
    bound: float,
) -> dict[str, Any]:
    by_study: dict[str, list[float]] = {}
    for study, _, value in found:
        by_study.setdefault(study, []).append(value)
    values = [value for _, value in dict.fromkeys((size, value) for _, size, value in found)]
    low, high = student_interval(values)
    true = sum(holds(float(np.mean(here))) for here in by_study.values())
    made = _claim(kind, statement, unit, true, len(by_study), len(values))
    is_sure = low is not None and high is not None and (low > bound or high < bound)
    return made | {"estimate": float(np.mean(values)), "low": low, "high": high, "is_sure": is_sure}


def _claim(
    kind: str, statement: str, unit: str, holds_in: int, num_studies: int, num_values: int
) -> dict[str, Any]:
    return {
        "kind": kind,
        "statement": statement,
        "unit": unit,
        "holds_in": holds_in,
        "num_studies": num_studies,
        "num_values": num_values,
        "holds_in_all": holds_in == num_studies,
    }
