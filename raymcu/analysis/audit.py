"""The audit of metrics: which of them can be trusted, by attacks and by pools of models.

Robust is a metric that ranks models alike before and after an attack (tutorial), and whose verdict
relearning and quantization do not turn round (OpenUnlearning); faithful is one that tells models
that hold the knowledge from models that do not. Each number stands under a name of its own; how
much hangs on the seed is told by taking it of each seed alone.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from raymcu.analysis.attack_curves import pearson
from raymcu.analysis.curves import values_of
from raymcu.analysis.recoveries import knows
from raymcu.metrics._base import Floats
from raymcu.store import tables
from raymcu.study.after import How
from raymcu.study.audit import Audit, is_named

Value = tuple[float | None, int, str | None]
"""The number, models it is taken over, why there is none."""
Name = tuple[str, str | None, float | None]
"""What is said, by which attack, of what strength."""
_SEED = re.compile(r"/seed(\d+)")
_REFERENCES = ("original", "retrained", "random")
_ALONG = ("curve", "walk", "trial")


@dataclass(frozen=True)
class Chosen:
    """By which attacks the combined numbers are taken."""

    quantize: How | None
    relearn: How | None
    relearns: frozenset[str] = frozenset()
    """Titles of the attacks that train further."""


@dataclass(frozen=True)
class _Model:
    point_id: str
    role: str
    label: str

    @property
    def seed(self) -> str | None:
        found = _SEED.search(self.label)
        return found[1] if found else None


def audit(
    points: pa.Table, scores: pa.Table, recoveries: pa.Table, asked: Audit, chosen: Chosen
) -> pa.Table:
    """Judge every metric that has a value.

    Args:
        points: Table ``points``.
        scores: Table ``scores`` of these.
        recoveries: The table of that name, for what scores were before and after.
        asked: The pools and the filter.
        chosen: The attacks of the combined numbers.

    Returns:
        Table ``metric_audits``, by forget set, metric and name.
    """
    values = values_of(scores)
    sizes: dict[str, dict[str, _Model]] = {}
    for row in points.select(["point_id", "forget_size", "role", "label"]).to_pylist():
        model = _Model(row["point_id"], row["role"], row["label"] or "")
        if model.role != "attacked":
            sizes.setdefault(row["forget_size"], {}).setdefault(model.point_id, model)
    attacked: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in recoveries.to_pylist():
        if row["part"] == "all":
            attacked.setdefault((row["forget_size"], row["metric"]), []).append(row)
    rows: list[dict[str, Any]] = []
    for size, models in sizes.items():
        metrics = {metric for point in models for metric in values.get(point, {})}
        metrics |= {metric for where, metric in attacked if where == size}
        holds, lacks = (
            frozenset(key for key, m in models.items() if is_named(names, m.role, m.label))
            for names in (asked.holds, asked.lacks)
        )
        kept = _keeps_utility(models, values, asked)
        for metric in sorted(metrics):
            at = {
                key: found
                for key in models
                if (found := values.get(key, {}).get(metric)) is not None
            }
            here: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
            for row in attacked.get((size, metric), ()):
                here.setdefault((row["attack"], row["strength"]), []).append(row)
            case = _Case(metric, models, at, here, holds, lacks, chosen, kept)
            rows += ({"forget_size": size, "metric": metric, **row} for row in case.rows())
    return tables.from_rows("metric_audits", rows)


def _keeps_utility(
    models: Mapping[str, _Model], values: Mapping[str, Mapping[str, float]], asked: Audit
) -> frozenset[str]:
    """Return the models that keep their share of the original's utility."""
    of_original = [
        found
        for key, model in models.items()
        if model.role == "original"
        and (found := values.get(key, {}).get(asked.utility)) is not None
    ]
    if not of_original:
        return frozenset()
    return frozenset(
        key
        for key in models
        if (at := values.get(key, {}).get(asked.utility)) is not None
        and at >= asked.keep * of_original[0]
    )


@dataclass(frozen=True)
class _Case:
    """One metric on one forget set."""

    metric: str
    models: Mapping[str, _Model]
    at: Mapping[str, float]
    """Scores as models are, by point."""
    attacked: Mapping[tuple[str, float | None], Sequence[Mapping[str, Any]]]
    """Rows of table ``recoveries``, by attack and strength."""
    holds: frozenset[str]
    lacks: frozenset[str]
    chosen: Chosen
    kept: frozenset[str]

    def rows(self) -> Iterable[dict[str, Any]]:
        """Yield the rows of the metric: of all models, and the range over seeds."""
        whole = self._values(self.models)
        seeds = sorted({m.seed for m in self.models.values() if m.seed is not None})
        alone = [
            self._values({k for k, m in self.models.items() if m.seed == seed}) for seed in seeds
        ]
        for (name, attack, strength), (value, number, note) in whole.items():
            known = [v for one in alone if (v := one[name, attack, strength][0]) is not None]
            if name == "threshold":
                known = []
            yield {
                "name": name, "attack": attack, "strength": strength, "value": value,
                "low": min(known) if len(known) > 1 else None,
                "high": max(known) if len(known) > 1 else None,
                "num_models": number, "num_seeds": len(known), "note": note,
            }  # fmt: skip

    def _values(self, among: Collection[str]) -> dict[Name, Value]:
        """Return every number, by name, attack and strength, of some of the models."""
        found: dict[Name, Value] = {}
        faithful, threshold, accuracy = self._faithful(self.at, among)
        found["faithfulness", None, None] = faithful
        found["threshold", None, None] = threshold
        found["accuracy", None, None] = accuracy
        for how in self.attacked:
            found |= self._of_attack(how, among)
        self._combine(found, faithful)
        return found

    def _faithful(
        self, at: Mapping[str, float], among: Collection[str]
    ) -> tuple[Value, Value, Value]:
        pools = [
            np.array([at[key] for key in sorted(pool) if key in among and key in at])
            for pool in (self.holds, self.lacks)
        ]
        number = len(pools[0]) + len(pools[1])
        if not (len(pools[0]) and len(pools[1])):
            which = "holds" if not len(pools[0]) else "lacks"
            none: Value = (None, number, f"no model of audit.{which} has a score")
            return none, none, none
        sign = knows(self.metric) or 1
        note = (
            None if knows(self.metric) else "the metric has no direction: larger is taken to know"
        )
        holds, lacks = sign * pools[0], sign * pools[1]
        threshold, accuracy = best_threshold(holds, lacks)
        return (
            (auc(holds, lacks), number, note),
            (sign * threshold, number, note),
            (accuracy, number, note),
        )

    def _of_attack(
        self, how: tuple[str, float | None], among: Collection[str]
    ) -> dict[Name, Value]:
        rows = self.attacked[how]
        after = {row["attacked"]: row["after"] for row in rows}
        here = [
            row
            for row in rows
            if row["attacked"] in among
            and self.models[row["attacked"]].role not in (*_REFERENCES, *_ALONG)
            and row["before"] is not None
        ]
        if all(row["before"] is None for row in rows):  # read of attacked points alone
            names = ("faithfulness", "threshold", "accuracy")
            return {(n, *how): v for n, v in zip(names, self._faithful(after, among), strict=True)}
        pairs = np.array([(row["before"], row["after"]) for row in here]).reshape(-1, 2)
        value, note = pearson(*pairs.T)
        found: dict[Name, Value] = {("pearson", *how): (value, len(here), note)}
        fit, why = self._fit(here)
        if how[0] in self.chosen.relearns:
            found |= {
                ("ou_r", *how): _mean(
                    [ou_r(r["retrained_before"], r["retrained_after"], r["before"], r["after"])
                     for r in fit], why),
                ("symmetric_r", *how): _mean(
                    [symmetric(r["before"] - r["after"],
                               _minus(r["retrained_before"], r["retrained_after"])) for r in fit],
                    why),
            }  # fmt: skip
        else:
            found |= {
                ("ou_q", *how): _mean([ou_q(r["before"], r["after"]) for r in fit], why),
                ("symmetric_q", *how): _mean(
                    [symmetric(r["before"], r["after"]) for r in fit], why
                ),
            }
        return found

    def _fit(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str | None]:
        """Return the models that pass OpenUnlearning's filter, and what is to be said of it."""
        threshold, pools = self._threshold, self.holds | self.lacks
        sign = knows(self.metric) or 1
        found = [
            row
            for row in rows
            if row["attacked"] in self.kept
            and row["attacked"] not in pools
            and (threshold is None or sign * row["before"] < sign * threshold)
        ]
        if not found:
            return found, "no model keeps its utility and counts as unlearned"
        return found, None if threshold is not None else "without pools the utility alone decides"

    @cached_property
    def _threshold(self) -> float | None:
        """What tells the pools apart best, over all seeds."""
        return self._faithful(self.at, self.models)[1][0]

    def _combine(self, found: dict[Name, Value], faithful: Value) -> None:
        """Add the harmonic means of R and Q, and of faithfulness and these."""
        for prefix in ("ou", "symmetric"):
            q = _by(found, f"{prefix}_q", self.chosen.quantize)
            r = _by(found, f"{prefix}_r", self.chosen.relearn)
            if q is None and r is None:
                continue
            both = _harmonic(q, r, "Q and R")
            found[f"{prefix}_robustness", None, None] = both
            found[f"{prefix}_overall", None, None] = _harmonic(
                faithful, both, "faithfulness and robustness"
            )


def _by(found: Mapping[Name, Value], name: str, how: How | None) -> Value | None:
    if how is None:
        return None
    places = [key for key in found if key[0] == name and how.matches(key[1] or "", key[2])]
    return found[places[0]] if places else None


def _harmonic(one: Value | None, other: Value | None, what: str) -> Value:
    values = [value[0] if value else None for value in (one, other)]
    numbers = [value[1] for value in (one, other) if value]
    first, second = values
    if first is None or second is None:
        return None, min(numbers, default=0), f"{what} are not both known"
    return harmonic(first, second), min(numbers), None


def _mean(values: Sequence[float | None], note: str | None) -> Value:
    known = [value for value in values if value is not None]
    if not known:
        return None, 0, note if not values else "no model has what it is made from"
    return float(np.mean(known)), len(known), note


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def auc(holds: Floats, lacks: Floats) -> float:
    """Return the share of pairs in which the model that holds it scores higher, ties by half."""
    differences = holds[:, None] - lacks[None, :]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def best_threshold(holds: Floats, lacks: Floats) -> tuple[float, float]:
    """Return the threshold that tells the pools apart best, and the share that it tells right.

    Models at the threshold or above count as holding. The lowest of the best, midway between two
    scores; where holding everything is best, the lowest score.
    """
    scores = np.unique(np.concatenate([holds, lacks]))
    cuts = np.concatenate([scores[:1], (scores[1:] + scores[:-1]) / 2])
    right = [(holds >= cut).sum() + (lacks < cut).sum() for cut in cuts]
    best = int(np.argmax(right))
    return float(cuts[best]), float(right[best] / (len(holds) + len(lacks)))


def ou_q(before: float, after: float) -> float | None:
    """Return OpenUnlearning's Q, min(after / before, 1); None where before is 0."""
    return None if before == 0.0 else min(after / before, 1.0)


def ou_r(
    retrained_before: float | None, retrained_after: float | None, before: float, after: float
) -> float | None:
    """Return OpenUnlearning's R, min(Δretrained / Δunlearned, 1); 1 where the unlearner stays."""
    change = _minus(retrained_before, retrained_after)
    if change is None:
        return None
    return 1.0 if before == after else min(change / (before - after), 1.0)


def symmetric(one: float, other: float | None) -> float | None:
    """Return 1 - |a - b| / (|a| + |b|), in [0, 1]; 1 where both are 0."""
    if other is None:
        return None
    whole = abs(one) + abs(other)
    return 1.0 if whole == 0.0 else 1.0 - abs(one - other) / whole


def harmonic(one: float, other: float) -> float:
    """Return the harmonic mean of two numbers; 0 unless both are above it."""
    return 0.0 if min(one, other) <= 0.0 else 2.0 * one * other / (one + other)
