"""What came back, as the report tells it: rows and columns of its heat map, lines, panels along t.

Nothing here draws, and nothing is computed but means over seeds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.analysis.ensembles import first_ensembles
from raymcu.analysis.recoveries import is_forgotten
from raymcu.report.data import Curve, Study, Walk, unique
from raymcu.store.run_folder import RunFolder

Row = Mapping[str, Any]

TOLD_BY = (
    *("forget_es", "forget_rouge", "verbmem", "forget_knowmem", "forget_accuracy"),
    *("bio_accuracy", "cyber_accuracy", "chem_accuracy", "forget_probability", "forget_loss"),
)
"""Metrics that tell what came back; the first that has a value does."""
BESIDE = ("model_utility", "retain_es", "retain_accuracy", "retain_loss")
"""Metrics of what is kept; the first that has a value stands beside it."""
_SINGLE = ("unlearner", "model", "memorizer", "blend", "layers", "ensemble", "retrained")
"""Roles of attacked points that are told one by one, in this order."""


@dataclass(frozen=True)
class Attacks:
    """All that a page tells of attacks."""

    metric: str
    """That tells what came back."""
    beside: str | None
    """That tells what is kept."""
    recoveries: tuple[Row, ...]
    """Rows of table ``recoveries`` of these two."""
    roles: Mapping[str, str]
    """Of the points before, by id; ends of curves are unlearners."""
    curves: tuple[Row, ...]
    """Rows of table ``relearning_curves``, likewise."""
    findings: tuple[Row, ...]
    """Rows of table ``attack_findings``, which is of what tells of forgetting alone."""
    curvatures: tuple[Row, ...]
    """Rows of table ``attack_curvatures``, likewise."""
    read: tuple[Row, ...]
    """Rows of table ``recoveries`` of what is only read of attacked points, of any metric."""

    @cached_property
    def forget_sizes(self) -> tuple[str, ...]:
        """Forget sets that have attacked points."""
        return unique(row["forget_size"] for row in self.recoveries)

    def part_of(self, attack: str) -> str:
        """Return the examples that tell of an attack: those held out from it, if there are any."""
        parts = {r["part"] for r in self.recoveries if r["attack"] == attack}
        return "held_out" if "held_out" in parts else "all"

    @property
    def single(self) -> list[Row]:
        """Rows of the models that are told one by one, of the first metric."""
        return [r for r in self.recoveries if r["metric"] == self.metric and self.is_single(r)]

    def is_single(self, row: Row) -> bool:
        """Say whether a row is of a model that is told by itself."""
        return self.roles.get(row["attacked"]) in _SINGLE

    def hardest(self, attack: str) -> float | None:
        """Return the strength of an attack at which most came back, over all models."""
        found: dict[float | None, list[float]] = {}
        for row in self.recoveries:
            if row["metric"] == self.metric and row["attack"] == attack:
                found.setdefault(row["strength"], [])
                if row["recovered"] is not None:
                    found[row["strength"]].append(row["recovered"])
        return max(found, key=lambda strength: fmean(found[strength] or [-1e9]), default=None)


def read_attacks(run: RunFolder, study: Study) -> Attacks | None:
    """Return what there is to tell of attacks; None if nothing was attacked.

    Raises:
        StoreError: If a table is damaged.
    """
    roles = {row["id"]: row["role"] for row in study.plan["points"]}
    roles |= {end.point_id: end.role for end in study.endpoints}
    others = ("relearning_curves", "attack_findings", "attack_curvatures")
    return attacks_of(run.read_table("recoveries"), roles, *(run.read_table(t) for t in others))


def attacks_of(table: pa.Table, roles: Mapping[str, str], *others: pa.Table) -> Attacks | None:
    """Choose what is told of a table ``recoveries``; None if it has no rows.

    Args:
        table: It.
        roles: Of the points before, by id.
        others: Tables ``relearning_curves``, ``attack_findings`` and ``attack_curvatures``, or
            none.
    """
    if not len(table):
        return None
    with_value = table.filter(pc.is_valid(table["recovered"]))
    known = set(with_value["metric"].cast(pa.string()).unique().to_pylist())
    after = set(table["metric"].cast(pa.string()).unique().to_pylist())
    told = [metric for metric in sorted(known) if is_forgotten(metric)] or sorted(known or after)
    metric = next((name for name in TOLD_BY if name in known), told[0])
    beside = next((name for name in BESIDE if name in after), None)
    curves, findings, curvatures = [tuple(_of(t, metric, beside)) for t in others] or [()] * 3
    read = tuple(table.filter(pc.is_null(table["before"])).to_pylist())
    rows = tuple(_of(table, metric, beside))
    return Attacks(metric, beside, rows, roles, curves, findings, curvatures, read)


def _of(table: pa.Table, *metrics: str | None) -> list[Row]:
    wanted = pa.array([metric for metric in metrics if metric], pa.string())
    rows: list[Row] = table.filter(pc.is_in(table["metric"].cast(pa.string()), wanted)).to_pylist()
    return rows


def attack_name(attack: str, strength: float | None) -> str:
    """Name an attack of one strength as labels of points do: ``relearn@50``."""
    return attack if strength is None else f"{attack}@{strength:g}"


_ENSEMBLE = re.compile(r"ensemble of (.+)\(([^,()]+), ([^,()]+)\)$")


def group_of(label: str, role: str) -> str:
    """Name what is taken together over seeds: a method, the ensembles of its curves."""
    if role == "retrained":
        return "retrained, which learns anew"
    if found := _ENSEMBLE.fullmatch(label):
        family, *ends = found.groups()
        return f"{family} ensemble of {' + '.join(unique(e.partition('/')[0] for e in ends))}"
    return label.partition("/")[0] if role in ("unlearner", "memorizer") else label


@dataclass(frozen=True)
class Heat:
    """What came back of every group of models, by every attack, of one forget set."""

    forget_size: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float, float, float] | None, ...]], ...]
    """Groups; of each attack the mean over its models, lowest and highest."""


def heats(attacks: Attacks) -> list[Heat]:
    """Lay the heat map out, one for each forget set."""
    made = []
    for size in attacks.forget_sizes:
        here = [row for row in attacks.single if row["forget_size"] == size]
        here = [row for row in here if row["part"] == attacks.part_of(row["attack"])]
        titles = unique(row["attack"] for row in here)
        order = sorted(here, key=lambda r: (titles.index(r["attack"]), r["strength"] or 0.0))
        columns = unique(attack_name(row["attack"], row["strength"]) for row in order)
        cells: dict[tuple[str, str], list[float]] = {}
        for row in here:
            group = group_of(row["label"], attacks.roles[row["attacked"]])
            if row["recovered"] is not None:
                name = attack_name(row["attack"], row["strength"])
                cells.setdefault((group, name), []).append(row["recovered"])
        groups = _groups(attacks, here)
        rows = tuple(
            (group, tuple(_mean(cells.get((group, column))) for column in columns))
            for group in groups
        )
        if any(cell for _, row in rows for cell in row):
            made.append(Heat(size, columns, rows))
    return made


def _mean(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    return (fmean(values), min(values), max(values)) if values else None


def _groups(attacks: Attacks, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the groups of models in the order of their roles."""
    ranked = sorted(rows, key=lambda row: _SINGLE.index(attacks.roles[row["attacked"]]))
    return unique(group_of(row["label"], attacks.roles[row["attacked"]]) for row in ranked)


@dataclass(frozen=True)
class Climb:
    """Scores of one group of models over the strengths of one attack."""

    name: str
    role: str
    values: tuple[tuple[float, float], ...]
    """(strength, mean score over the models), from before the attack at 0."""


@dataclass(frozen=True)
class ClimbPanel:
    """One metric, over one part of the examples, of one forget set."""

    attack: str
    forget_size: str
    metric: str
    part: str
    lines: tuple[Climb, ...]


def climbs(attacks: Attacks) -> list[ClimbPanel]:
    """Lay out the curves over strengths, of the attacks that have them."""
    made = []
    titles = unique(row["attack"] for row in attacks.curves if row["num_strengths"] > 1)
    for attack in titles:
        rows = [row for row in attacks.recoveries if row["attack"] == attack]
        for size in attacks.forget_sizes:
            for metric in filter(None, (attacks.metric, attacks.beside)):
                parts = {r["part"] for r in rows if r["metric"] == metric}
                part = "held_out" if "held_out" in parts else "all"
                here = [
                    row
                    for row in rows
                    if (row["forget_size"], row["metric"], row["part"]) == (size, metric, part)
                ]
                if lines := _climbs(attacks, here):
                    made.append(ClimbPanel(attack, size, metric, part, lines))
    return made


def _climbs(attacks: Attacks, rows: Sequence[Row]) -> tuple[Climb, ...]:
    lines = []
    roles = (*_SINGLE, "original")
    told = [row for row in rows if attacks.roles.get(row["attacked"]) in roles]
    told.sort(key=lambda row: roles.index(attacks.roles[row["attacked"]]))
    grouped: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in told:
        role = attacks.roles[row["attacked"]]
        name = role if role in ("original", "retrained") else group_of(row["label"], role)
        by_strength = grouped.setdefault((name, role), {})
        by_strength.setdefault(row["strength"], []).append(row["after"])
        if row["before"] is not None:
            by_strength.setdefault(0.0, []).append(row["before"])
    for (name, role), by_strength in grouped.items():
        values = tuple((at, fmean(by_strength[at])) for at in sorted(by_strength))
        lines.append(Climb(name, role, values))
    return tuple(lines)


@dataclass(frozen=True)
class AlongPanel:
    """What comes back along the curves of one setting and family, or walks, of one forget set."""

    forget_size: str
    setting: str
    family: str
    lines: tuple[tuple[str, tuple[tuple[float, float], ...], float | None], ...]
    """Pair, or the model a walk goes through; (t, recovered); and the ensemble's."""


@dataclass(frozen=True)
class Along:
    """One attack along all curves."""

    attack: str
    strength: float | None
    part: str
    panels: tuple[AlongPanel, ...]


def along(attacks: Attacks, study: Study) -> list[Along]:
    """Lay out what comes back along curves, by the strength at which most does."""
    made = []
    for attack in unique(row["attack"] for row in attacks.recoveries):
        strength, part = attacks.hardest(attack), attacks.part_of(attack)
        how = (attack, strength, part)
        came_back = {
            row["attacked"]: row["recovered"]
            for row in attacks.recoveries
            if row["metric"] == attacks.metric and _how(row) == how and row["recovered"] is not None
        }
        ensembles = {r["curve_id"]: r["ensemble"] for r in attacks.findings if _how(r) == how}
        panels: dict[tuple[str, str, str], list[Any]] = {}
        lines: list[Curve | Walk] = [*study.curves, *(w for w in study.walks if not w.has_names)]
        for one in lines:
            values = tuple((t, came_back[p]) for t, p in one.points if p in came_back)
            ensemble = ensembles.get(one.curve_id) if isinstance(one, Curve) else None
            if len(values) > 2 or (values and ensemble is not None):  # ends alone show nothing
                where, name = (
                    (one.setting, one.pair) if isinstance(one, Curve) else ("walk", one.second)
                )
                key = (one.forget_size, where, one.family)
                panels.setdefault(key, []).append((name, values, ensemble))
        if panels:
            found = tuple(AlongPanel(*key, tuple(lines)) for key, lines in panels.items())
            made.append(Along(attack, strength, part, found))
    return made


def _how(row: Row) -> tuple[str, float | None, str]:
    return row["attack"], row["strength"], row["part"]


@dataclass(frozen=True)
class Stand:
    """One curve before and after an attack: its ends, its best point inside, its ensemble."""

    name: str
    places: tuple[tuple[str, float, float], ...]
    """What it is, its score before and after."""


def stands(attacks: Attacks, study: Study, size: str) -> list[tuple[Along, list[Stand]]]:
    """Lay out scores before and after each attack as MCU's figure 6 does, of one forget set."""
    made = []
    curves = {curve.curve_id: curve for curve in study.curves}
    ensembles = first_ensembles(study.plan)
    for one in along(attacks, study):
        how = (one.attack, one.strength, one.part)
        scores = {
            row["attacked"]: (row["before"], row["after"])
            for row in attacks.recoveries
            if row["metric"] == attacks.metric and _how(row) == how and row["before"] is not None
        }
        found = []
        for row in attacks.findings:
            curve = curves.get(row["curve_id"])
            if curve is None or _how(row) != how or curve.forget_size != size:
                continue
            points = dict(curve.points)
            places = {"first end": points.get(0.0), "second end": points.get(1.0)}
            places["best inside"] = points.get(row["best_t"])
            places["ensemble"] = ensembles.get(curve.curve_id)
            told = tuple(
                (what, *scores[point]) for what, point in places.items() if point in scores
            )
            found.append(Stand(f"{curve.setting}: {curve.pair}, {curve.family}", told))
        if found:
            made.append((one, found))
    return made
