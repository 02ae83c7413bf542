"""What a report tells, read once from a run folder: curves and walks with their scores, findings.

Everything that figures, page, console and dashboard show is prepared here as plain values, so that
each number is testable without a figure. Nothing here draws.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from raymcu.metrics._base import METRICS
from raymcu.report.train_times import train_seconds
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.after import Asked

Scores = Mapping[str, Mapping[str, float | None]]
"""Point id to metric to value."""

TARGETS = ("original", "retrained")
"""Roles of the models that figures compare with."""
REFERENCES = (*TARGETS, "random")
"""Roles of all models that nothing is asked of: they are compared with."""
ENDPOINTS = (
    *(*REFERENCES, "model", "learner", "unlearner"),
    *("memorizer", "ensemble", "blend", "layers"),
)
"""Roles of points that are told one by one, in the order of tables."""
CONCLUDED = ("similarities", "difficulties", "rank_correlations", "ensembles")
"""Tables that conclude from curves."""
MOST_ENSEMBLES = 24
"""More of them are told in their own table, and not among the models."""
_NONE: Mapping[str, float | None] = {}
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}


@dataclass(frozen=True)
class MetricInfo:
    """How to name a metric and read its numbers."""

    name: str
    better: str
    unit: str
    low: float | None
    high: float | None
    words: str = ""
    """What it is, in a sentence."""

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name.replace("_", " ")

    @property
    def arrow(self) -> str:
        """Direction that is better for an unlearned model; empty if there is none."""
        return ARROWS[self.better]

    @property
    def label(self) -> str:
        """Title with its direction."""
        return f"{self.title} {self.arrow}".rstrip()

    @property
    def unit_text(self) -> str:
        """Unit for an axis label; empty if the name says it."""
        return "" if self.unit in ("", *self.name.split("_")) else self.unit


def metric_info(name: str) -> MetricInfo:
    """Return what is known of a metric; a metric of another version has no direction or unit.

    Also of a metric after an attack, as objectives name it.
    """
    asked = Asked.parse(name)
    if asked.how is not None:
        before = metric_info(asked.metric)
        return replace(before, name=name, words=f"{before.words} After {asked.how}.".strip())
    if name not in METRICS:
        return MetricInfo(name, "neither", "", None, None)
    entry = METRICS.entry(name)
    known = entry.component
    return MetricInfo(name, known.better, known.unit, known.low, known.high, entry.summary)


@dataclass(frozen=True)
class Curve:
    """One curve of the plan and the points it is measured at."""

    curve_id: str
    setting: str
    family: str
    forget_size: str
    first: str
    second: str
    pair: str
    """Short name of the two endpoints, unique within the setting."""
    points: tuple[tuple[float, str], ...]
    """(t, point id), by t."""


@dataclass(frozen=True)
class Step:
    """One position of a walk."""

    t: float
    point_id: str
    label: str
    """What is there, e.g. ``alpha=0.5`` or ``layer 3``."""


@dataclass(frozen=True)
class Walk:
    """A walk from the original through one trained model, and the points it is measured at."""

    walk_id: str
    family: str
    forget_size: str
    second: str
    """Label of the unlearner, also where the walk leads away from its memorizer."""
    steps: tuple[Step, ...]
    """By t."""

    @property
    def points(self) -> tuple[tuple[float, str], ...]:
        """(t, point id), by t."""
        return tuple((step.t, step.point_id) for step in self.steps)

    @property
    def has_names(self) -> bool:
        """Whether its positions are things with names, as layers are, and not amounts."""
        return any(not step.label.startswith("alpha=") for step in self.steps)


@dataclass(frozen=True)
class Endpoint:
    """A single model that was measured: reference, unlearner, ensemble, blend by hand, layers."""

    label: str
    role: str
    """One of ``ENDPOINTS``."""
    forget_size: str
    point_id: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Study:
    """One run folder's plan and results."""

    name: str
    plan: Mapping[str, Any]
    curves: tuple[Curve, ...]
    walks: tuple[Walk, ...]
    scores: Scores
    endpoints: tuple[Endpoint, ...]
    findings: Mapping[str, Mapping[str, Any]]
    """Rows of the findings table by curve id."""
    metric_findings: tuple[Mapping[str, Any], ...]
    calibrations: tuple[Mapping[str, Any], ...]
    """Rows of the table of that name, of this plan's walks and curves."""
    layer_choices: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, Mapping[str, int]]
    """Point id to metric to the number of questions the score is taken over."""
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    """Point id to metric to the ends of its 95% interval."""
    train_s: Mapping[str, float]
    """Point id to the seconds of its training, where it is of one."""
    similarities: tuple[Mapping[str, Any], ...] = ()
    """Rows of the table of that name, as those that follow."""
    difficulties: tuple[Mapping[str, Any], ...] = ()
    rank_correlations: tuple[Mapping[str, Any], ...] = ()
    ensembles: tuple[Mapping[str, Any], ...] = ()

    @property
    def shown_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints without the ensembles, where these are too many to be told one by one."""
        others = tuple(end for end in self.endpoints if end.role != "ensemble")
        is_crowded = len(self.endpoints) - len(others) > MOST_ENSEMBLES
        return others if is_crowded else self.endpoints

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none of question answering."""
        return tuple(self.plan.get("classes") or ())

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Settings in the plan's order."""
        return unique(curve.setting for curve in self.curves)

    @cached_property
    def forget_sizes(self) -> tuple[str, ...]:
        """Forget sizes in the plan's order."""
        return sizes_of(self.plan)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Curve families in the plan's order."""
        return unique(curve.family for curve in self.curves)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that have a value anywhere but at attacked points, sorted."""
        attacked = {row["id"] for row in self.plan["points"] if row["role"] == "attacked"}
        return tuple(
            sorted(
                {
                    metric
                    for point, values in self.scores.items()
                    for metric, value in values.items()
                    if value is not None and point not in attacked
                }
            )
        )

    def values(self, line: Curve | Walk, metric: str) -> tuple[tuple[float, float], ...]:
        """Return (t, value) where the curve or walk has that score."""
        found = [(t, self.scores.get(point, _NONE).get(metric)) for t, point in line.points]
        return tuple([(t, value) for t, value in found if value is not None])


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Drop repetitions and keep the order."""
    return tuple(dict.fromkeys(items))


def sizes_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the forget sets of a plan in its order."""
    return unique(row["forget_size"] for row in plan["points"])


def short_labels(labels: Iterable[str]) -> dict[str, str]:
    """Name unlearners by what differs: ``npo`` for ``npo/seed0`` if all are of one seed."""
    labels = unique(labels)
    heads = [label.split("/")[0] for label in labels]
    same_tail = len({label.partition("/")[2] for label in labels}) <= 1
    return dict(zip(labels, heads if same_tail else labels, strict=True))


def methods_of(study: Study) -> tuple[str, ...]:
    """Return the methods of a study by title, each of which has a colour."""
    labels = [end.label for end in study.endpoints if end.role in ("unlearner", "memorizer")]
    return unique(label.split("/")[0] for label in [*labels, *(w.second for w in study.walks)])


def colors_of(study: Study) -> dict[str, int]:
    """Number the walked models by label: as their methods, or each by itself if seeds differ."""
    short = short_labels(walk.second for walk in study.walks)
    methods = methods_of(study)
    if set(short.values()) <= set(methods):
        return {label: methods.index(name) for label, name in short.items()}
    return {label: index for index, label in enumerate(short)}


def pair_label(first: str, second: str) -> str:
    """Name a pair by what differs: ``npo · seed0 ↔ seed1``, ``ga ↔ npo``."""
    one, two = first.split("/"), second.split("/")
    if first == second or len(one) != len(two):
        return f"{first} ↔ {second}"
    differing = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    short = "/".join(a for a, _ in differing) + " ↔ " + "/".join(b for _, b in differing)
    return short if one[0] != two[0] else f"{one[0]} · {short}"


def read_curves(plan: Mapping[str, Any]) -> tuple[Curve, ...]:
    """Return the plan's curves with their points and short names."""
    points: dict[str, list[tuple[float, str]]] = {}
    for row in plan["curve_points"]:
        points.setdefault(row["curve_id"], []).append((row["t"], row["point_id"]))
    pairs = {(c["setting"], c["first"], c["second"]) for c in plan["curves"]}
    taken = Counter((setting, pair_label(one, two)) for setting, one, two in pairs)
    return tuple(
        Curve(
            curve_id=row["id"],
            setting=row["setting"],
            family=row["family"],
            forget_size=row["forget_size"],
            first=row["first"],
            second=row["second"],
            pair=_unique_pair(row, taken),
            points=tuple(sorted(points.get(row["id"], []))),
        )
        for row in plan["curves"]
    )


def _unique_pair(row: Mapping[str, Any], taken: Counter[tuple[str, str]]) -> str:
    short = pair_label(row["first"], row["second"])
    is_alone = taken[row["setting"], short] == 1
    return short if is_alone else f"{row['first']} ↔ {row['second']}"


def scores_of(table: pa.Table) -> dict[str, dict[str, float | None]]:
    """Turn a scores table into point id -> metric -> value."""
    return by_metric(table, "value")


def by_metric(table: pa.Table, *names: str) -> dict[str, dict[str, Any]]:
    """Turn a column of a table into point id -> metric -> value; several make a tuple a row."""
    found: dict[str, dict[str, Any]] = {}
    points, metrics, *values = tables.columns(table, "point_id", "metric", *names)
    told = values[0] if len(names) == 1 else zip(*values, strict=True)
    for point, metric, value in zip(points, metrics, told, strict=True):
        found.setdefault(point, {})[metric] = value
    return found


def read_walks(plan: Mapping[str, Any]) -> tuple[Walk, ...]:
    """Return the plan's walks with their steps; a plan of before there were any has none."""
    steps: dict[str, list[Step]] = {}
    for row in plan.get("walk_points", ()):
        step = Step(row["t"], row["point_id"], row["label"])
        steps.setdefault(row["curve_id"], []).append(step)
    return tuple(
        Walk(
            row["id"],
            row["family"],
            row["forget_size"],
            row["second"],
            tuple(sorted(steps.get(row["id"], ()), key=lambda step: step.t)),
        )
        for row in plan.get("walks", ())
    )


def endpoints_of(plan: Mapping[str, Any], scores: Scores) -> tuple[Endpoint, ...]:
    """Return every point that is told by itself, by forget size, role and label; none attacked."""
    ends = _end_labels(plan)
    rank = {size: index for index, size in enumerate(sizes_of(plan))}
    found = []
    for row in plan["points"]:
        point, role = row["id"], row["role"]
        if role == "curve" and point in ends:
            role = "unlearner"
        if role in ENDPOINTS:
            label = role if role in REFERENCES else ends.get(point) or row.get("label") or point
            found.append(Endpoint(label, role, row["forget_size"], point, scores.get(point, {})))
    return tuple(
        sorted(
            found,
            key=lambda end: (rank[end.forget_size], ENDPOINTS.index(end.role), end.label),
        )
    )


def _end_labels(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the label of each point that is an end of a curve."""
    ends = {curve["id"]: (curve["first"], curve["second"]) for curve in plan["curves"]}
    return {
        row["point_id"]: ends[row["curve_id"]][int(row["t"])]
        for row in plan["curve_points"]
        if row["t"] in (0, 1)
    }


def load_study(run: RunFolder) -> Study:
    """Read everything a report tells.

    Raises:
        StoreError: If a table is damaged.
    """
    plan = run.plan
    table, sure = run.read_table("scores"), run.read_table("intervals")
    scores = scores_of(table)
    curves, walks = read_curves(plan), read_walks(plan)
    known = {curve.curve_id for curve in curves}
    lines = known | {walk.walk_id for walk in walks}
    findings = run.read_table("findings").to_pylist()
    calibrations = run.read_table("calibrations").to_pylist()
    layer_choices = tuple(run.read_table("layer_choices").to_pylist())
    chosen = {row["point_id"] for row in layer_choices if row["is_chosen"]}
    return Study(
        name=plan["name"],
        plan=plan,
        curves=curves,
        walks=walks,
        scores=scores,
        endpoints=tuple(  # sets of layers that were not chosen are in a table of their own
            end
            for end in endpoints_of(plan, scores)
            if end.role != "layers" or end.point_id in chosen
        ),
        findings={row["curve_id"]: row for row in findings if row["curve_id"] in known},
        metric_findings=tuple(run.read_table("metric_findings").to_pylist()),
        calibrations=tuple(row for row in calibrations if row["curve_id"] in lines),
        layer_choices=layer_choices,
        failures=tuple(run.read_table("failures").to_pylist()),
        counts=by_metric(table, "num_examples"),
        intervals=by_metric(sure, "low", "high"),
        train_s=train_seconds(run.read_table("points"), run.read_table("recipes")),
        **{name: tuple(run.read_table(name).to_pylist()) for name in CONCLUDED},
    )
