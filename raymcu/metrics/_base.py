"""What a metric is: a pure function of measurements, with its direction, range and source.

A metric never sees a model, and this package imports neither torch nor Ray.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from raymcu.metrics._measured import Bools, Floats, Ints, Measured, Rows, shared
from raymcu.registry import Registry

__all__ = [
    "FORGOTTEN",
    "KEPT",
    "METRICS",
    "REFERENCES",
    "Better",
    "Bools",
    "Floats",
    "Ints",
    "Measured",
    "Metric",
    "Reference",
    "References",
    "Rows",
    "Score",
    "lacking",
    "metric",
    "metric_of_probes",
    "shared",
]

Better = Literal["higher", "lower", "neither"]
Reference = Literal["retrained", "original", "random"]
"""A model that others are compared with, by its role: ``random`` has learned nothing."""
REFERENCES: tuple[Reference, ...] = get_args(Reference)
References = Mapping[Reference, Measured]
"""Measurements of reference models, of those there are."""
_BETTER = get_args(Better)
_KINDS = (
    *("answer", "paraphrased_answer", "perturbed_answer", "option", "paraphrased_question"),
    *("generation", "mean_logprobs", "gradient_norm", "representations", "judgements"),
    *("label", "class_logprobs", "sharpness"),
)
"""What may be measured of a probe."""
READINGS = "readings:"
"""What kinds begin with that are read inside of a model, by rows of table ``readings``."""
OfProbe = TypeVar("OfProbe", bound=Callable[..., "Score"])


MetricFunction = Callable[..., "Score"]
"""Computes one score of one point: of its `Measured`, and of those of the reference models that the
function has parameters for, by name: ``retrained``, ``original``, ``random``; None if missing."""


@dataclass(frozen=True)
class Score:
    """A number, or None with the reason in ``note``; never NaN or infinite."""

    value: float | None
    num_examples: int
    note: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite or None, got {self.value}")

    @classmethod
    def mean(cls, values: Floats, what: str, note: str | None = None) -> "Score":
        """Average ``values`` over examples, or say why that is no number.

        Args:
            values: One value per example.
            what: What one value is, for the note, e.g. ``truth ratio``.
            note: A warning that goes with the number.
        """
        if not len(values):
            return cls(None, 0, f"no {what} was measured")
        return cls.finite(float(np.mean(values)), len(values), what, note)

    @classmethod
    def finite(cls, value: float, num_examples: int, what: str, note: str | None = None) -> "Score":
        """Return ``value`` as a score; one that is not finite becomes None, with a note."""
        if math.isfinite(value):
            return cls(value, num_examples, note)
        return cls(None, num_examples, f"the {what} is not finite: the model has diverged")


def lacking(name: Reference) -> str:
    """Return the note of a score that has no value for want of a reference model."""
    return f"needs the {name} model's measurement, and there is none"


@dataclass(frozen=True)
class Metric:
    """A metric with what a reader has to know to use its number."""

    compute: MetricFunction
    better: Better
    """Which direction is better for an unlearned model."""
    low: float
    high: float
    unit: str
    """``fraction``, ``nats``, ``probability``, ``log10``…"""
    probes: tuple[str, ...]
    """Probes that must have been measured; the metric is left out of a study that has not."""
    kind: str = "answer"
    """What must have been measured of each of them: a kind of answer (``label`` of a classifier),
    ``paraphrased_question``, ``generation``, ``mean_logprobs``, ``gradient_norm``,
    ``class_logprobs``, ``representations``, ``sharpness``, ``judgements``, or ``readings:NAME``,
    which is what an attack that looks inside gives rows of table ``readings`` for, by name."""
    or_kind: str | None = None
    """What it can be computed from instead."""
    or_probes: tuple[str, ...] = ()
    """Other probes from which the metric can be computed instead."""
    takes: tuple[Reference, ...] = ()
    """Reference models that ``compute`` has parameters for."""
    needs: tuple[Reference, ...] = ()
    """Those of them without which there is no value."""

    def is_measured(self, point: Measured) -> bool:
        """Whether a point has what the metric is computed from."""
        return any(
            probes and all(kind in point.kinds(probe) for probe in probes)
            for probes in (self.probes, self.or_probes)
            for kind in (self.kind, self.or_kind)
        )

    def score(self, point: Measured, references: References | None = None) -> Score:
        """Compute the metric of a point that has what it takes.

        Args:
            point: The point.
            references: Measurements of the reference models there are of its forget set.
        """
        given = {name: (references or {}).get(name) for name in self.takes}
        for name in self.needs:
            if given[name] is None:
                return Score(None, 0, lacking(name))
        return self.compute(point, **given)


METRICS: Registry[Metric] = Registry("metric", __package__ or "raymcu.metrics", "Metric")


def _check_told(better: Any, span: Any, probes: Any, kind: Any) -> None:
    """Refuse what no type checker of the user's has seen."""
    if better not in _BETTER:
        raise ValueError(f"better must be one of {', '.join(_BETTER)}, got {better!r}.")
    if not isinstance(probes, tuple):
        raise ValueError(  # noqa: TRY004 - told like the others
            f"probes must be a tuple of names, e.g. ('forget',), got {probes!r}."
        )
    if kind not in _KINDS and not str(kind).startswith(READINGS):
        raise ValueError(
            f"kind must be one of {', '.join(_KINDS)}, or {READINGS}NAME, got {kind!r}."
        )
    if len(span) != 2 or not span[0] < span[1]:
        raise ValueError(f"span must be the lowest and the highest value, got {span!r}.")


def metric(  # noqa: PLR0913 - a metric's metadata, all by name
    name: str,
    *,
    better: Better,
    span: tuple[float, float],
    unit: str,
    probes: tuple[str, ...],
    source: str,
    kind: str = "answer",
    or_kind: str | None = None,
    or_probes: tuple[str, ...] = (),
    needs: tuple[Reference, ...] = (),
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function as the metric of that name.

    Raises:
        ValueError: If the function has a parameter, or needs a reference model, that is none; or
            what is told of it is not what `Metric` says.
    """
    for choice in filter(None, (probes, or_probes)):
        _check_told(better, span, choice, kind)

    def add(compute: MetricFunction) -> MetricFunction:
        takes = _takes(name, compute)
        if lacking := set(needs) - set(takes):
            raise ValueError(f"metric '{name}' needs {lacking} and has no parameter of that name.")
        entry = Metric(compute, better, *span, unit, probes, kind, or_kind, or_probes, takes, needs)
        METRICS.register(name, source=source, described_by=compute)(entry)
        return compute

    return add


def _takes(name: str, compute: Callable[..., Any]) -> tuple[Reference, ...]:
    """Return the reference models among a function's parameters behind the point."""
    _, *rest = inspect.signature(compute).parameters.values()
    for parameter in rest:
        if parameter.name not in REFERENCES and parameter.default is parameter.empty:
            raise ValueError(
                f"metric '{name}' has a parameter '{parameter.name}'. Behind the point there may "
                f"be {', '.join(REFERENCES)}: the measurements of these models."
            )
    names = {parameter.name for parameter in rest}
    return tuple(name for name in REFERENCES if name in names)


KEPT: Better = "higher"
FORGOTTEN: Better = "lower"
_MEANING: Mapping[Better, str] = {"higher": "better kept", "lower": "more forgotten"}


def metric_of_probes(  # noqa: PLR0913 - likewise
    name: str,
    better: Mapping[str, Better],
    *,
    span: tuple[float, float],
    unit: str,
    source: str,
    kind: str = "answer",
    or_kind: str | None = None,
    needs: tuple[Reference, ...] = (),
) -> Callable[[OfProbe], OfProbe]:
    """Register a function of a point and a probe as one metric for each of several probes.

    Args:
        name: Name of the metrics, with ``{probe}`` in it; the docstring's first line may too.
        better: The probes, and which direction is better on each.
        span: Lowest and highest value.
        unit: Unit of the value.
        source: Where it is from.
        kind: What must have been measured of the probe.
        or_kind: What it can be computed from instead.
        needs: Reference models without which there is no value; parameters behind the probe.
    """

    def add(compute: OfProbe) -> OfProbe:
        for probe, direction in better.items():
            one = _on_probe(compute, probe, direction)
            metric(
                name.format(probe=probe),
                better=direction,
                span=span,
                unit=unit,
                probes=(probe,),
                source=source,
                kind=kind,
                or_kind=or_kind,
                needs=needs,
            )(one)
        return compute

    return add


def _on_probe(compute: Callable[..., Score], probe: str, better: Better) -> MetricFunction:
    def one(point: Measured, **references: Measured | None) -> Score:
        return compute(point, probe, **references)

    signature = inspect.signature(compute)
    parameters = list(signature.parameters.values())
    one.__signature__ = signature.replace(parameters=[parameters[0], *parameters[2:]])  # type: ignore[attr-defined]
    first = (compute.__doc__ or "").strip().split("\n")[0].rstrip(".")
    is_told = ";" in first  # by the docstring itself, where forgetting is not what it measures
    meaning = f"; {better} = {_MEANING[better]}" if better in _MEANING and not is_told else ""
    one.__doc__ = f"{first.format(probe=probe.replace('_', ' '))}{meaning}."
    one.__module__, one.__qualname__ = compute.__module__, f"{compute.__qualname__}[{probe}]"
    return one
