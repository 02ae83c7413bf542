"""Grades that a language model gave to the greedy answers, as `raymcu judge` stored them.

Naturalness and Similarity of the AAAI 2026 tutorial and of "LLM
Unlearning with LLM Beliefs" (arXiv:2510.19422), both higher = better on the forget probe:
Similarity is inverted there, a high grade says that the answer differs from the forgotten one.
On the retain probe it should not differ, and a lower grade is better.
"""

import json

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.metrics._base import Better, Measured, Score, metric_of_probes

GRADES = (1, 2, 3, 4, 5)
_SPAN = (float(GRADES[0]), float(GRADES[-1]))
_SOURCE = "LLM Unlearning with LLM Beliefs (arXiv:2510.19422); the prompts are raymcu's"
_NATURALNESS: dict[str, Better] = {"forget": "higher", "retain": "higher"}
_SIMILARITY: dict[str, Better] = {"forget": "higher", "retain": "lower"}


@metric_of_probes(
    "{probe}_naturalness",
    _NATURALNESS,
    span=_SPAN,
    unit="grade",
    source=_SOURCE,
    kind="judgements",
)
def naturalness(point: Measured, probe: str) -> Score:
    """Mean grade of the {probe} generations' fluency and logic; 5 = natural, 1 = gibberish."""
    return _mean_grade(point, probe, "naturalness")


@metric_of_probes(
    "{probe}_similarity",
    _SIMILARITY,
    span=_SPAN,
    unit="grade",
    source=_SOURCE,
    kind="judgements",
)
def similarity(point: Measured, probe: str) -> Score:
    """Mean inverted similarity of {probe} generations to the answers; 5 = nothing in common."""
    return _mean_grade(point, probe, "similarity")


def _mean_grade(point: Measured, probe: str, criterion: str) -> Score:
    rows = point.other("judgements")
    is_wanted = pc.and_(
        pc.equal(rows["probe"].cast(pa.string()), probe),
        pc.equal(rows["criterion"].cast(pa.string()), criterion),
    )
    rows = rows.filter(is_wanted)
    values, judges = rows["value"], sorted(set(rows["judge"].to_pylist()))
    notes = [f"graded by {', '.join(str(json.loads(judge).get('model')) for judge in judges)}"]
    if values.null_count:
        notes.append(f"{values.null_count} of {len(values)} replies have no grade")
    if values.null_count == len(values):
        return Score(None, 0, "; ".join(notes))
    what = f"grade of {criterion} of probe '{probe}'"
    return Score.mean(values.drop_null().to_numpy(), what, "; ".join(notes))
