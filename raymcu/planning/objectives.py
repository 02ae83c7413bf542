"""What a search improves and what it keeps: directions, constraints, and a trial's numbers.

Without ``search.curve`` both speak of metrics, also after an attack (``forget_es after
relearn@50``), with it of columns of the findings table.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError, WorkError, unknown_name
from raymcu.metrics._base import METRICS, READINGS, Better, Score
from raymcu.planning.after import strengths_of
from raymcu.store import tables
from raymcu.study.after import Asked, How
from raymcu.study.search_space import SearchSpace
from raymcu.study.search_table import Search

Direction = Literal["minimize", "maximize"]

OF_CURVES = tuple(
    field.name
    for field in tables.SCHEMAS["findings"]
    if (field.metadata or {}).get(b"unit") == b"nats" and field.name != "tolerance"
)
"""Columns of the findings table that a search along curves may ask for; lower is better."""

MEASURED_BY = {
    "generation": "generate",
    "paraphrased_question": "paraphrased",
    "mean_logprobs": "moments",
    "gradient_norm": "gradient_norms",
    "representations": "representations",
    "sharpness": "sharpness",
}
"""By what a metric is computed from: the key of ``measurement`` that has it measured."""

_INSTEAD = (
    ("privleak", "ou_priv"),
    ("mia_class_", "ua_ra_ta_mia_gap"),
    ("mia_", "ou_priv"),
    ("forget_churn_original", "forget_churn_retrained"),
    ("forget_cka", "forget_cka_retrained"),
    ("forget_own_nll", "forget_fluency"),
    ("retain_own_nll", "retain_fluency"),
)
"""By beginning of metrics whose best value lies within their range: one that has a direction."""

_CONSTRAINT = re.compile(
    r"\s*(?P<name>\w+(\s+after\s+\S.*?)?)\s*(?P<sign><=|>=)\s*"
    r"((?P<number>[-+]?[\d.][\d.eE+-]*)(\s*\*\s*(?P<of>original|retrained))?"
    r"|(?P<alone>original|retrained))\s*"
)


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric, or on a column of the findings table."""

    text: str
    """As the file has it."""
    name: str
    sign: Literal["<=", ">="]
    factor: float
    """The bound, or what the reference's value is multiplied with to give it."""
    reference: Literal["original", "retrained"] | None = None

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """Read a constraint.

        Raises:
            ConfigError: If it is none.
        """
        found = _CONSTRAINT.fullmatch(text)
        try:
            factor = float(found["number"] or 1) if found else math.nan
        except ValueError:
            factor = math.nan
        if found is None or not math.isfinite(factor):
            raise ConfigError(
                f"'{text}' is no constraint. Write a metric, <= or >=, and a number or a multiple "
                'of a reference, e.g. "retain_es >= 0.95 * original" or "forget_es <= retrained".'
            )
        sign: Literal["<=", ">="] = "<=" if found["sign"] == "<=" else ">="
        reference: Any = found["of"] or found["alone"]
        return cls(text, str(Asked.parse(found["name"])), sign, factor, reference)

    def violation(self, value: float, of_reference: float = 1.0) -> float:
        """Return by how much the bound is missed; met if <= 0, in the metric's unit.

        Args:
            value: The trial's.
            of_reference: The reference's, if the constraint names one.
        """
        bound = self.factor * of_reference
        return value - bound if self.sign == "<=" else bound - value


def directions(search: Search) -> tuple[Direction, ...]:
    """Return which way each objective is improved."""
    return tuple(
        "maximize" if search.curve is None and better_of(name) == "higher" else "minimize"
        for name in search.objectives
    )


def better_of(name: str) -> Better:
    """Return the direction of a metric, which an attack does not turn round."""
    return METRICS[Asked.parse(name).metric].better


def asked_after(search: Search) -> tuple[How, ...]:
    """Return the attacks after which objectives and constraints ask for scores."""
    names = [*search.objectives, *(Constraint.parse(c).name for c in search.constraints)]
    found = (Asked.parse(name).how for name in names)
    return tuple(dict.fromkeys(how for how in found if how is not None))


T = TypeVar("T")


def with_attacks(
    own: Mapping[str, T], attacked: Iterable[tuple[str, float | None, Mapping[str, T]]]
) -> dict[str, T]:
    """Return a model's scores, those after attacks as they may be asked for.

    Args:
        own: By metric.
        attacked: Title, strength, and scores by metric.
    """
    found = dict(own)
    for title, strength, scores in attacked:
        for metric, value in scores.items():
            for how in (How(title, strength), How(title)):
                found.setdefault(str(Asked(metric, how)), value)
    return found


def judged(
    search: Search,
    scores: Sequence[Mapping[str, Score]],
    references: Mapping[str, Mapping[str, Score]],
) -> dict[str, float]:
    """Return a trial's number for each objective, and the violation of each constraint.

    Args:
        search: What is asked.
        scores: By metric, and metric after an attack, see `with_attacks`: one table for each seed;
            a trial's score is the mean over them.
        references: Those of ``original`` and ``retrained``, as far as constraints name them.

    Raises:
        WorkError: If a score is undefined; the message is its note.
    """
    constraints = [Constraint.parse(text) for text in search.constraints]
    names = dict.fromkeys([*search.objectives, *(c.name for c in constraints)])
    means = {
        name: math.fsum(_defined(name, table) for table in scores) / len(scores) for name in names
    }
    numbers = {name: means[name] for name in search.objectives}
    for constraint in constraints:
        of_reference = 1.0
        if constraint.reference is not None:
            table = references.get(constraint.reference, {})
            of_reference = _defined(constraint.name, table, f" of {constraint.reference}")
        numbers[constraint.text] = constraint.violation(means[constraint.name], of_reference)
    return numbers


def _defined(name: str, scores: Mapping[str, Score], whose: str = "") -> float:
    score = scores.get(str(Asked.parse(name)), Score(None, 0, "was not measured"))
    if score.value is None:
        raise WorkError("undefined", f"{name}{whose}: {score.note}")
    return score.value


def judged_along(search: Search, findings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the same for a trial along curves: each number is the worst of its curves.

    Args:
        search: What is asked.
        findings: Rows of the findings table, one for each curve.

    Raises:
        WorkError: If a curve lacks the number, or there is no curve.
    """
    constraints = [Constraint.parse(text) for text in search.constraints]
    worst: dict[str, float] = {}
    for name in dict.fromkeys([*search.objectives, *(c.name for c in constraints)]):
        values = [row[name] for row in findings]
        if not values or any(value is None for value in values):
            raise WorkError("undefined", f"{name}: not all curves have it, too few points do")
        worst[name] = max(values)
    numbers = {name: worst[name] for name in search.objectives}
    return numbers | {c.text: c.violation(worst[c.name]) for c in constraints}


def objective_faults(space: SearchSpace) -> Iterator[str]:
    """Say what is wrong with objectives and constraints of a search."""
    search = space.search
    if search is None:
        return
    for name in search.objectives:
        yield from (f"search.objectives: {told}" for told in _name_faults(name, space))
        metric = Asked.parse(name).metric
        if search.curve is None and metric in METRICS and METRICS[metric].better == "neither":
            instead = [other for start, other in _INSTEAD if name.startswith(start)]
            yield (
                f"search.objectives: neither direction of '{name}' is better, its best value lies "
                f"within its range. {f'Take {instead[0]}, or bound' if instead else 'Bound'} it "
                f'from both sides by constraints, e.g. "{name} <= 1".'
            )
    twice = [text for text, count in Counter(search.constraints).items() if count > 1]
    yield from (f"search.constraints: '{text}' stands there twice. Name it once." for text in twice)
    for text in dict.fromkeys(search.constraints):
        try:
            constraint = Constraint.parse(text)
        except ConfigError as error:
            yield f"search.constraints: {error}"
            continue
        yield from (f"search.constraints: {told}" for told in _name_faults(constraint.name, space))
        yield from _reference_faults(constraint, space)


def _name_faults(name: str, space: SearchSpace) -> Iterator[str]:
    if space.search is not None and space.search.curve is not None:
        if name not in OF_CURVES:
            yield unknown_name("finding of curves", name, OF_CURVES)
    else:
        yield from asked_faults(Asked.parse(name), space)


def asked_faults(asked: Asked, space: SearchSpace) -> Iterator[str]:
    """Refuse a score that a study does not have."""
    if asked.metric not in METRICS:
        yield unknown_name("metric", asked.metric, [entry.name for entry in METRICS])
    else:
        yield from measuring_faults(asked.metric, space)
    if asked.how is not None and (fault := asked.how.fault(strengths_of(space))):
        yield f"'{asked}': {fault}"


_OF_CLASSES = {"label", "class_logprobs"}
"""What is measured of classifiers."""


def measuring_faults(name: str, space: SearchSpace) -> Iterator[str]:
    """Refuse a metric that the study's measurements leave without a value."""
    metric, asked = METRICS[name], space.measurement
    key = MEASURED_BY.get(metric.kind, "probes")
    has_classes = BENCHMARKS[space.benchmark.name].modality != "causal_lm"
    kinds = {metric.kind, metric.or_kind} - {None}
    if has_classes and not kinds & _OF_CLASSES:
        yield f"'{name}' is of answers, and the benchmark's inputs have classes. Take another."
    elif not has_classes and kinds <= _OF_CLASSES:
        yield f"'{name}' is of classes, and the benchmark has questions. Take another."
    elif metric.kind == "judgements":
        yield f"'{name}' is judged by another model when the run is over. Take another metric."
    elif metric.kind.startswith(READINGS):
        yield f"'{name}' is read at the points of an attack only. Take another metric."
    elif not any(
        group and set(group) <= set(asked.probes) & set(getattr(asked, key))
        for group in (metric.probes, metric.or_probes)
    ):
        needs = " or ".join(", ".join(g) for g in (metric.probes, metric.or_probes) if g)
        yield f"'{name}' needs {needs} in measurement.{key}. Add that there, or take another."
    if "retrained" in metric.needs and not _has_retrained(space):
        yield f"'{name}' needs the retrained model. Set retrained.train = true or give its path."


def _has_retrained(space: SearchSpace) -> bool:
    sizes = set(space.benchmark.forget_sizes)
    return space.retrained.train or sizes <= space.retrained.paths.keys()


def _reference_faults(constraint: Constraint, space: SearchSpace) -> Iterator[str]:
    where = f"search.constraints: '{constraint.text}'"
    if constraint.reference is None:
        return
    if space.search is not None and space.search.curve is not None:
        yield (
            f"{where} compares curves with the {constraint.reference} model, which has none. "
            "Give a number."
        )
    elif constraint.reference == "retrained" and not _has_retrained(space):
        yield (
            f"{where} needs the retrained model. Set retrained.train = true, give its path, or "
            "compare with the original."
        )
