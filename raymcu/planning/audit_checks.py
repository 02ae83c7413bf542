"""Whether a study has the models, attacks and measurements that its audit names."""

from collections.abc import Iterable, Iterator
from typing import Any

from raymcu.errors import unknown_name
from raymcu.metrics._base import METRICS
from raymcu.planning.after import strengths_of
from raymcu.planning.objectives import measuring_faults
from raymcu.study.after import How
from raymcu.study.audit import is_named
from raymcu.study.search_space import SearchSpace


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
        metrics = [entry.name for entry in METRICS]
        yield f"audit.utility: {unknown_name('metric', asked.utility, metrics)}"
    elif METRICS[asked.utility].better != "higher":
        yield f"audit.utility: '{asked.utility}' is not better where it is higher. Take another."
    else:
        yield from (f"audit.utility: {told}" for told in measuring_faults(asked.utility, space))
    attacks = strengths_of(space)
    for key, text in (("quantize", asked.quantize), ("relearn", asked.relearn)):
        if text is not None and (fault := How.parse(text).fault(attacks)):
            yield f"audit.{key}: {fault}"
