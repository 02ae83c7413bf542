"""Puts the claims of papers to studies: what each study says, and what all of them say together."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.analysis.claims._base import (
    CLAIMS,
    IN_PART,
    TABLES,
    UNTOLD,
    Found,
    Row,
    Study,
)
from raymcu.analysis.curves import values_of
from raymcu.store.fields import TEXT, WORD, field, schema
from raymcu.store.run_folder import RunFolder

SCHEMA = schema(
    "claims",
    field("claim", WORD, "short name, as `raymcu list claims` has it"),
    field("paper", WORD, "MCU, MOX or TARF"),
    field("section", TEXT, "where it is said"),
    field("says", TEXT, "the claim"),
    field("tested_by", TEXT, "what of a study's tables tests it, and the thresholds"),
    field("study", WORD, "the study that was asked; null: all of them together"),
    field("verdict", WORD, "holds, holds in part, does not hold, or cannot be told here"),
    field("value", pa.float64(), "what was found; null where it cannot be told", "see unit"),
    field("low", pa.float64(), "end of the value's 95% interval over cases; null: none"),
    field("high", pa.float64(), "its other end"),
    field("unit", WORD, "of the value: a share of cases, a ratio, a correlation…"),
    field("num", pa.int32(), "cases; of all studies together: studies that tell"),
    field("note", TEXT, "why it cannot be told, or what else there is to say"),
)
_MODELS = ("original", "retrained", "model", "unlearner", "walk")
"""Roles of points that claims look at; those of curves are told by other tables."""


def read_study(run: RunFolder, label: str) -> Study:
    """Read what claims need of a study.

    Raises:
        StoreError: If a table is damaged.
    """
    points = run.read_table("points")
    points = points.filter(pc.is_in(points["role"].cast(pa.string()), pa.array(_MODELS)))
    scores = run.read_table("scores")
    scores = scores.filter(pc.is_in(scores["point_id"].cast(pa.string()), points["point_id"]))
    values = values_of(scores)
    models = [row | {"scores": values.get(row["point_id"], {})} for row in points.to_pylist()]
    tables = {name: _rows(run, name) for name in TABLES}
    plan = run.plan
    return Study(label, plan["search_space"], bool(plan.get("classes")), tables, models)


def _rows(run: RunFolder, name: str) -> Sequence[Row]:
    table = run.read_table(name)
    if name != "geometry":
        rows: list[Row] = table.to_pylist()
        return rows
    recipes = run.read_table("recipes").select(["recipe_id", "forget_size", "role"]).to_pylist()
    sizes = {row["recipe_id"]: row["forget_size"] for row in recipes}
    roles = {row["recipe_id"]: row["role"] for row in recipes}
    whole = table.filter(pc.is_null(table["layer"])).to_pylist()
    return [
        row | {"forget_size": sizes.get(row["first_id"]), "role": roles.get(row["first_id"])}
        for row in whole
        if row["second_id"] is None or sizes.get(row["second_id"]) == sizes.get(row["first_id"])
    ]


def judge(studies: Sequence[Study]) -> pa.Table:
    """Return table ``claims``: each claim of every paper, over all studies and then by study.

    Args:
        studies: One or more, with labels that differ.
    """
    return pa.Table.from_pylist(list(_judged(studies)), schema=SCHEMA)


def _judged(studies: Sequence[Study]) -> Iterator[dict[str, Any]]:
    entries = sorted(CLAIMS, key=lambda e: (e.component.paper, _place(e.component.section), e.name))
    for entry in entries:
        made = entry.component
        told = {
            "claim": entry.name,
            "paper": made.paper,
            "section": made.section,
            "says": made.says,
            "tested_by": made.tested_by,
            "unit": made.unit,
        }
        found = {study.label: made(study) for study in studies}
        for label, one in ((None, together(found)), *found.items()):
            yield told | {"study": label} | vars(one)


def _place(section: str) -> tuple[float, str]:
    """Return what sections are ordered by: the first number, then the rest."""
    head = section.replace(",", " ").split()[0]
    return float(head), section


def together(found: dict[str, Found]) -> Found:
    """Return what studies say of one claim together: their verdict where all that tell agree."""
    telling = {label: one for label, one in found.items() if one.verdict != UNTOLD}
    if not telling:
        whys = dict.fromkeys(one.note for one in found.values())
        return Found(UNTOLD, note=f"it takes {'; '.join(whys)}")
    verdicts: dict[str, list[str]] = {}
    for label, one in telling.items():
        verdicts.setdefault(one.verdict, []).append(label)
    if len(verdicts) == 1:
        return Found(next(iter(telling.values())).verdict, num=len(telling))
    note = "; ".join(f"{verdict}: {', '.join(labels)}" for verdict, labels in verdicts.items())
    return Found(IN_PART, num=len(telling), note=note)
