"""Attacks that a search space names elsewhere: which there are, and the audit's models."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from raymcu.attacks._base import ATTACKS
from raymcu.errors import ConfigError, unknown_name
from raymcu.metrics._base import METRICS
from raymcu.study.after import How
from raymcu.study.audit import is_named
from raymcu.study.search_space import SearchSpace


def strengths_of(space: SearchSpace) -> dict[str, tuple[float | None, ...]]:
    """Return the strengths that make a point, by title; none of an attack with a fault."""
    found: dict[str, tuple[float | None, ...]] = {}
    for use in space.attacks:
        try:
            attack = ATTACKS[use.name](**use.options)
        except (KeyError, ConfigError, ValidationError):
            found[use.title] = ()
            continue
        told = attack.strengths()
        found[use.title] = tuple(one for one in told if one is None or one != attack.none)
    return found


def audit_faults(space: SearchSpace, points: Iterable[Any]) -> Iterator[str]:
    """Say what the audit names that the study has not.

    Args:
        space: What is asked.
        points: Those of the plan, each with ``role`` and ``label``.
    """
    asked = space.audit
    if asked is None:
        return
    there = [(point.role, point.label) for point in points if point.role != "attacked"]
    for key in ("holds", "lacks"):
        for name in getattr(asked, key):
            if not any(is_named((name,), *one) for one in there):
                known = sorted({label for _, label in there})
                yield f"audit.{key}: {unknown_name('point of this study', name, known)}"
    both = [one for one in there if is_named(asked.holds, *one) and is_named(asked.lacks, *one)]
    if both:
        yield f"audit: {both[0][1]} is in holds and in lacks. Leave it out of one of them."
    if asked.utility not in METRICS:
        known = [entry.name for entry in METRICS]
        yield f"audit.utility: {unknown_name('metric', asked.utility, known)}"
    attacks = strengths_of(space)
    for key, text in (("quantize", asked.quantize), ("relearn", asked.relearn)):
        if text is not None and (fault := How.parse(text).fault(attacks)):
            yield f"audit.{key}: {fault}"
